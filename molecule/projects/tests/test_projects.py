"""A project that nobody here wrote is deployed by its inventory alone: `examples/`.

Each has a machine of its own; `CELERIAC_DEBIAN` chooses its Debian. Its source is not here: a run fetches what the
inventory names. The first one is always tried, all of them with `CELERIAC_FULL=1`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.kept import KEPT
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
class Upload:
    """A file that a project was given.

    Attributes:
        path: where it is to be had again.
        headers: who asks for it.
        content: what it holds.
    """

    path: str
    headers: dict[str, str]
    content: bytes


def form(fields: Mapping[str, str | tuple[str, bytes]]) -> bytes:
    """Return a form as a browser sends it with files; one of those has a name and a content."""
    body = b""
    for name, value in fields.items():
        file, content = (f'; filename="{value[0]}"', value[1]) if isinstance(value, tuple) else ("", value.encode())
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{BOUNDARY}--\r\n".encode()


def to_weblate(site: Site) -> Upload:
    """Upload a screenshot for texts that come from a file, too, which becomes a repository of git."""
    code = "from weblate.auth.models import User; print(User.objects.get(username='admin').auth_token.key)"
    who = {"Authorization": f"Token {site.machine.feed(code, 'site-manage', 'shell', '--no-imports').split()[-1]}"}

    def post(path: str, **fields: str | tuple[str, bytes]) -> dict[str, str]:
        headers = {**who, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        answer = site.web.request("POST", f"/api/{path}/", form(fields), headers, 120)
        assert answer.status == 201, answer.text
        return dict(answer.json())

    post("projects", name="Tried", slug="tried", web="https://example.org/")
    texts = ("en.json", b'{"hello": "Hello"}')
    post("projects/tried/components", name="Tried", slug="tried", docfile=texts, file_format="json", new_lang="add")
    of = {"project_slug": "tried", "component_slug": "tried", "language_code": "en"}
    made = post("screenshots", **of, name="Tried", image=("tried.png", PICTURE))
    return Upload(made["file_url"].partition(DOMAIN)[2], who, PICTURE)


@dataclass(frozen=True)
class Project:
    """Somebody's project.

    Attributes:
        name: of its inventory in `examples/`.
        package: the one that it is in.
        exact: what `site.source.txt` is to say of that.
        page: one that everybody may see.
        task: one of its own, which needs no arguments.
        entry: one of its schedule.
        scheduled: the task of that entry.
        style: a file that is changed, or made, for its next release.
        template: a folder of the package that a project `myauth` is made from, where that is none itself.
        upload: gives it a file, where it takes any.
    """

    name: str
    package: str
    exact: str
    page: str
    task: str
    entry: str
    scheduled: str
    style: str
    template: str = ""
    upload: Callable[[Site], Upload] | None = None


BOUNDARY = "a-line-of-no-file"
# One pixel.
PICTURE = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
# A file that the inventory adds to a release.
TRIED = "tried.ini"

PROJECTS = [
    Project(
        "patchman",
        "patchman==4.0.9",
        "sha256 385e40260606a153d0e9788c08183110021c05c3449b6600d91c799f7c6a7992",
        page="/login/",
        task="util.tasks.clean_database",
        entry="process_all_unprocessed_reports",
        scheduled="reports.tasks.process_reports",
        style="patchman/static/css/base.css",
    ),
    Project(
        "allianceauth",
        "allianceauth==5.5.0",
        "sha256 ea77fdb360f250bc444abc35fce239e2318ebcd19e576ed598c99f84748b2629",
        page="/account/login/",
        task="allianceauth.authentication.tasks.check_all_character_ownership",
        entry="run_model_update",
        scheduled="allianceauth.eveonline.tasks.run_model_update",
        style="myauth/static/own.css",
        template="allianceauth/project_template",
    ),
    Project(
        "weblate",
        "Weblate==2026.10.1",
        "sha256 2da6d85241de0d26d759ead1736b0d1d0b1feac85fb4cd2462e8d2c8c851b4f4",
        page="/accounts/login/",
        task="weblate.accounts.tasks.notify_daily",
        entry="disable-expired",
        scheduled="weblate.auth.tasks.disable_expired",
        style="weblate/static/styles/main.css",
        upload=to_weblate,
    ),
]


@dataclass(frozen=True)
class Deployed:
    """A project on a host.

    Attributes:
        project: which.
        site: where it runs.
        source: a folder with what was deployed, to be changed.
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
        try:
            debian = os.environ.get("CELERIAC_DEBIAN", "13")
            subprocess.run([MACHINE, "up", name, "--debian", debian], check=True)
            inventory = described(project, name, Path(folder))
            site = Site(Machine(name, inventory, Path(folder)), Workshop(Path(folder), probe=False), Path(folder))
            run = site.start("site.yml").wait(BUILD_SECONDS)
            assert run.status == 0, run.output
            yield Deployed(project, site, source_of(project, Path(folder)))
        finally:
            subprocess.run([MACHINE, "down", name], check=True)


def source_of(project: Project, folder: Path) -> Path:
    """Return a folder with the source of a project, to be changed."""
    made = folder / "made"
    if made.is_dir():
        return made
    fact = {"source": project.package, "source_version": "", "beside": folder, "index_url": "", "extra_index_urls": []}
    source = fetched(fact).folder
    if not project.template:
        return shutil.copytree(source, made, symlinks=True)
    made.mkdir()
    words = ["startproject", "--extension=py", f"--template={source / project.template}", "myauth", str(made)]
    subprocess.run(["django-admin", *words], check=True)
    return made


def described(project: Project, host: str, folder: Path) -> Path:
    """Write the inventory of a host: what `examples/` has, with the name of this one, and what its source must be."""
    chosen = yaml.safe_load((REPOSITORY / f"examples/{project.name}.yml").read_text())
    choices = {**chosen, "site_domain": DOMAIN}
    (folder / KEPT).write_text(f"{project.package} = {project.exact}\n")
    if project.template:
        choices["site_source"] = str(source_of(project, folder))
    variables = json.loads(subprocess.check_output([MACHINE, "inventory", host]))
    children: dict[str, object] = {group: {"hosts": {host: {}}} for group in GROUPS}
    # The build runs as the owner of the releases, and copies what that reads.
    choices["site_build_commands"] = [*choices.get("site_build_commands", []), ["cp", TRIED, f"{TRIED}.seen"]]
    choices["site_files"] = {TRIED: ".files/tried.j2"}
    (folder / ".files").mkdir()
    (folder / ".files/tried.j2").write_text("{{ site_database_user }} {{ site_redis_password }}")
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {host: variables}, "vars": choices, "children": children}}))
    return inventory


def test_its_page_has_its_styles(deployed: Deployed) -> None:
    page = deployed.site.web.get(deployed.project.page)
    assert page.status == 200, page.text
    files = ASSETS.findall(page.text)
    assert any(file.partition("?")[0].endswith(".css") for file in files), page.text
    assert {file: deployed.site.web.get(file).status for file in files} == dict.fromkeys(files, 200)


def test_a_file_of_the_inventory_is_there_for_each_account_and_nobody_else(deployed: Deployed) -> None:
    host, folder = deployed.site.machine.root, f"/srv/site/releases/{deployed.site.current()}/app"
    of_processes, of_owner = (host.check_output(f"cat {folder}/{name}").split() for name in (TRIED, f"{TRIED}.seen"))
    assert (of_processes[0], of_owner[0]) == ("site", "site_deploy")
    assert of_processes[1] == of_owner[1]
    assert host.check_output(f"stat --format='%a %U %G' {folder}/{TRIED}") == "640 site_deploy site"
    assert host.check_output(f"runuser -u site -- cat {folder}/{TRIED}").split() == of_processes
    assert host.run(f"runuser -u nobody -- cat {folder}/{TRIED}").failed


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


@pytest.fixture(scope="module")
def uploaded(deployed: Deployed) -> Upload | None:
    """A file that the project was given, where it takes any."""
    upload = deployed.project.upload
    return upload(deployed.site) if upload else None


def test_what_is_uploaded_comes_back(deployed: Deployed, uploaded: Upload | None) -> None:
    if uploaded:
        answer = deployed.site.web.get(uploaded.path, uploaded.headers)
        assert (answer.status, answer.body) == (200, uploaded.content)


def test_its_next_release_loses_nothing(deployed: Deployed, tmp_path: Path) -> None:
    site = deployed.site
    before = site.current()
    append(deployed.source / deployed.project.style, "/* the next release */")
    plan = replace(site.plan(requests=10, tasks=5), page_path=deployed.project.page)
    with Load(plan, tmp_path / "load.txt") as load:
        play = site.start("playbooks/deploy.yml", "--extra-vars", f"site_source={deployed.source}")
        run = play.wait()
        assert run.status == 0, run.output
        answers = load.settled(play.began, play.ended)
    assert re.search(r"tasks: \d+ at least once", run.output), run.output

    assert failures(answers) == []
    assert {answer.release for answer in answers} - {""} == {before, site.current()}
    accepted = load.accepted()
    assert len(accepted) > 20
    eventually(lambda: not accepted - site.executions(play.began - 60).keys(), 60, pause=1)


def test_what_was_uploaded_outlives_a_release(deployed: Deployed, uploaded: Upload | None) -> None:
    test_what_is_uploaded_comes_back(deployed, uploaded)


def test_what_it_has_is_known_to_the_status(deployed: Deployed) -> None:
    run = deployed.site.start("playbooks/status.yml").wait()
    assert run.status == 0, run.output
    assert re.search(r"tasks: \d+ at least once", run.output), run.output
    assert f"release {deployed.site.current()}" in run.output
