"""A project that nobody here wrote is deployed by its inventory alone: `examples/`.

Each has a machine of its own; `CELERIAC_DEBIAN` chooses its Debian. Its source is not here: it comes from PyPI, where
source distributions may be whole projects. The first one is always tried, all of them with `CELERIAC_FULL=1`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest
import yaml
from stack.lab import DOMAIN, MACHINE, Site
from stack.load import ASSETS, Load, failures
from stack.machine import Machine
from stack.playbook import REPOSITORY
from stack.releases import Workshop, append
from stack.upgrading import GROUPS, is_full

from testkit.waiting import eventually

# Longer than a host takes that compiles what a project needs.
BUILD_SECONDS = 1800


@dataclass(frozen=True)
class Project:
    """Somebody's project.

    Attributes:
        name: of its inventory in `examples/`, and of its source distribution.
        version: of that.
        digest: SHA-256 of that.
        page: one that everybody may see.
        task: one of its own, which needs no arguments.
        entry: one of its schedule.
        scheduled: the task of that entry.
        style: a file that is changed, or made, for its next release.
        template: a folder of the distribution that a project `myauth` is made from, where that is none itself.
    """

    name: str
    version: str
    digest: str
    page: str
    task: str
    entry: str
    scheduled: str
    style: str
    template: str = ""


PROJECTS = [
    Project(
        "patchman",
        "4.0.9",
        "385e40260606a153d0e9788c08183110021c05c3449b6600d91c799f7c6a7992",
        page="/login/",
        task="util.tasks.clean_database",
        entry="process_all_unprocessed_reports",
        scheduled="reports.tasks.process_reports",
        style="patchman/static/css/base.css",
    ),
    Project(
        "allianceauth",
        "5.5.0",
        "ea77fdb360f250bc444abc35fce239e2318ebcd19e576ed598c99f84748b2629",
        page="/account/login/",
        task="allianceauth.authentication.tasks.check_all_character_ownership",
        entry="run_model_update",
        scheduled="allianceauth.eveonline.tasks.run_model_update",
        style="myauth/static/own.css",
        template="allianceauth/project_template",
    ),
]


@dataclass(frozen=True)
class Deployed:
    """A project on a host.

    Attributes:
        project: which.
        site: where it runs.
        source: the folder that it was deployed from.
    """

    project: Project
    site: Site
    source: Path

    def executed(self, task: str) -> int:
        """Return how many tasks of a name the worker that serves has begun."""
        said = json.loads(self.site.machine.root.check_output("site-celery inspect stats --json"))
        return sum(int(worker["total"].get(task, 0)) for worker in said.values())


@pytest.fixture(scope="module", params=PROJECTS if is_full() else PROJECTS[:1], ids=lambda project: project.name)
def deployed(request: pytest.FixtureRequest) -> Iterator[Deployed]:
    """A project, deployed to a bare machine."""
    project: Project = request.param
    name = f"projects-{project.name}"
    with TemporaryDirectory(prefix="projects-") as folder:
        source = unpacked(project, Path(folder))
        try:
            debian = os.environ.get("CELERIAC_DEBIAN", "13")
            subprocess.run([MACHINE, "up", name, "--debian", debian], check=True)
            inventory = described(project, source, name, Path(folder))
            site = Site(Machine(name, inventory, Path(folder)), Workshop(Path(folder), probe=False), Path(folder))
            run = site.start("site.yml").wait(BUILD_SECONDS)
            assert run.status == 0, run.output
            yield Deployed(project, site, source)
        finally:
            subprocess.run([MACHINE, "down", name], check=True)


def unpacked(project: Project, folder: Path) -> Path:
    """Fetch the source of a project without running anything of it, and return its folder."""
    asked = f"{project.name}=={project.version}"
    words = ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--format=pylock.toml", "-"]
    (package,) = tomllib.loads(subprocess.check_output(["uv", *words], input=asked, text=True))["packages"]
    with urlopen(package["sdist"]["url"]) as answer:
        content = answer.read()
    assert sha256(content).hexdigest() == project.digest
    archive = folder / "source.tar.gz"
    archive.write_bytes(content)
    shutil.unpack_archive(archive, folder)
    source = folder / f"{project.name}-{project.version}"
    return made_from(source / project.template, folder / "made") if project.template else source


def made_from(template: Path, folder: Path) -> Path:
    """Make a project from a template, as `startproject` does."""
    folder.mkdir()
    words = ["startproject", "--extension=py", f"--template={template}", "myauth", str(folder)]
    subprocess.run(["django-admin", *words], check=True)
    return folder


def described(project: Project, source: Path, host: str, folder: Path) -> Path:
    """Write the inventory of a host: what `examples/` has, with the name and the folder of this one."""
    chosen = yaml.safe_load((REPOSITORY / f"examples/{project.name}.yml").read_text())
    choices = {**chosen, "site_domain": DOMAIN, "site_source": str(source)}
    variables = json.loads(subprocess.check_output([MACHINE, "inventory", host]))
    children: dict[str, object] = {group: {"hosts": {host: {}}} for group in GROUPS}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {host: variables}, "vars": choices, "children": children}}))
    return inventory


def test_its_page_has_its_styles(deployed: Deployed) -> None:
    page = deployed.site.web.get(deployed.project.page)
    assert page.status == 200, page.text
    files = ASSETS.findall(page.text)
    assert any(file.partition("?")[0].endswith(".css") for file in files), page.text
    assert {file: deployed.site.web.get(file).status for file in files} == dict.fromkeys(files, 200)


def test_a_task_of_its_own_is_executed(deployed: Deployed) -> None:
    task = deployed.project.task
    before = deployed.executed(task)
    deployed.site.machine.root.check_output("site-celery call %s", task)
    eventually(lambda: deployed.executed(task) > before, 60)


def test_beat_sends_an_entry_of_its_schedule(deployed: Deployed) -> None:
    """The schedule of the project's code is in the database, where somebody lets it run each second."""
    code = f"""
from django_celery_beat.models import IntervalSchedule, PeriodicTask
entry = PeriodicTask.objects.get(name={deployed.project.entry!r})
entry.crontab, entry.interval = None, IntervalSchedule.objects.get_or_create(every=1, period="seconds")[0]
entry.save()
"""
    before = deployed.executed(deployed.project.scheduled)
    deployed.site.machine.feed(code, "site-manage", "shell")
    eventually(lambda: deployed.executed(deployed.project.scheduled) > before + 1, 60)


def test_its_next_release_loses_nothing(deployed: Deployed, tmp_path: Path) -> None:
    site = deployed.site
    before = site.current()
    append(deployed.source / deployed.project.style, "/* the next release */")
    plan = replace(site.plan(requests=10, tasks=5), page_path=deployed.project.page)
    with Load(plan, tmp_path / "load.txt") as load:
        play = site.start("playbooks/deploy.yml")
        run = play.wait()
        assert run.status == 0, run.output
        answers = load.settled(play.began, play.ended)

    assert failures(answers) == []
    assert {answer.release for answer in answers} - {""} == {before, site.current()}
    accepted = load.accepted()
    assert len(accepted) > 20
    eventually(lambda: not accepted - site.executions(play.began - 60).keys(), 60, pause=1)


def test_what_it_has_is_known_to_the_status(deployed: Deployed) -> None:
    run = deployed.site.start("playbooks/status.yml").wait()
    assert run.status == 0, run.output
    assert re.search(r"tasks: \d+ at least once", run.output), run.output
    assert f"release {deployed.site.current()}" in run.output
