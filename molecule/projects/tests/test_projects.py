"""A project that nobody here wrote is deployed by its inventory alone: `examples/`.

Each has a machine of its own; `CELERIAC_DEBIAN` chooses its Debian. Its source is not here: a run fetches what the
inventory names. The first one is always tried, all of them with `CELERIAC_FULL=1`. With a folder in
`CELERIAC_UPGRADE_KEEP` the machines stay, for the next run with the same folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.kept import KEPT
from stack.lab import DOMAIN, MACHINE, Site
from stack.load import ASSETS, PEOPLE, Load, failures
from stack.machine import Machine
from stack.playbook import REPOSITORY
from stack.releases import Workshop, append
from stack.upgrading import GROUPS, KEEP, is_full

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


def to_nautobot(site: Site) -> Upload:
    """Attach a picture to a place; who is logged in may see it."""
    code = """
from django.contrib.auth import get_user_model
from django.test import Client
from nautobot.dcim.models import Location, LocationType
from nautobot.extras.models import Status
from nautobot.users.models import Token
kind = LocationType.objects.create(name="Tried")
place = Location.objects.create(name="Tried", location_type=kind, status=Status.objects.get_for_model(Location).first())
admin, browser = get_user_model().objects.get(username="admin"), Client()
browser.force_login(admin)
print(place.pk, Token.objects.create(user=admin).key, browser.cookies["sessionid"].value)
"""
    place, token, session = site.machine.feed(code, "site-manage", "shell", "--no-imports").split()[-3:]
    picture = ("tried.png", PICTURE)
    body = form({"content_type": "dcim.location", "object_id": place, "name": "Tried", "image": picture})
    headers = {"Authorization": f"Token {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = site.web.request("POST", "/api/extras/image-attachments/", body, headers, 120)
    assert answer.status == 201, answer.text
    site.web.cookies["sessionid"] = session
    return Upload(answer.json()["image"].partition(DOMAIN)[2], {}, PICTURE)


def to_pretix(site: Site) -> Upload:
    """Give those who sell tickets a logo."""
    code = """
from django_scopes import scopes_disabled
from pretix.base.models import Organizer, Team
with scopes_disabled():
    team = Team.objects.create(
        organizer=Organizer.objects.create(name="Tried", slug="tried"), name="Tried",
        all_events=True, all_event_permissions=True, all_organizer_permissions=True,
    )
    print(team.tokens.create(name="Tried").token)
"""
    token = site.machine.feed(code, "site-manage", "shell", "--no-imports").split()[-1]
    who = {"Authorization": f"Token {token}"}
    of_file = {"Content-Type": "image/png", "Content-Disposition": 'attachment; filename="tried.png"'}
    uploaded = site.web.request("POST", "/api/v1/upload", PICTURE, who | of_file, 120)
    assert uploaded.status == 201, uploaded.text
    logo = json.dumps({"organizer_logo_image": uploaded.json()["id"]})
    of_text = {"Content-Type": "application/json"}
    answer = site.web.request("PATCH", "/api/v1/organizers/tried/settings/", logo, who | of_text, 120)
    assert answer.status == 200, answer.text
    return Upload(answer.json()["organizer_logo_image"].partition(DOMAIN)[2], {}, PICTURE)


def to_wooey(site: Site) -> Upload:
    """Upload a script."""
    code = """
from django.contrib.auth import get_user_model
from wooey.models import APIKey, WooeyProfile
profile, _ = WooeyProfile.objects.get_or_create(user=get_user_model().objects.get(username="admin"))
print(APIKey.objects.create(name="Tried", profile=profile)._api_key)
"""
    key = site.machine.feed(code, "site-manage", "shell").split()[-1]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    script = (
        b"import argparse\nparser = argparse.ArgumentParser()\nif __name__ == '__main__':\n    parser.parse_args()\n"
    )
    body = form({"group": "Tried", "tried": ("tried.py", script)})
    answer = site.web.request("POST", "/api/scripts/v1/add-or-update/", body, headers, 120)
    assert answer.status == 200, answer.text
    [made] = answer.json()
    assert made["success"], answer.text
    return Upload("/uploads/wooey_scripts/tried.py", {}, script)


def to_api_starter(site: Site) -> Upload:
    """Give somebody a picture."""
    code = """
from django.contrib.auth import get_user_model
from rest_framework_simplejwt.tokens import AccessToken
print(AccessToken.for_user(get_user_model().objects.create_user("somebody@example.org", "tried", name="Tried")))
"""
    token = site.machine.feed(code, "site-manage", "shell", "--no-imports").split()[-1]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = form({"profile_picture": ("tried.png", PICTURE)})
    answer = site.web.request("PATCH", "/api/v1/auth/me/", body, headers, 120)
    assert answer.status == 200, answer.text
    return Upload(answer.json()["profile_picture"].partition(DOMAIN)[2], {}, PICTURE)


def a_room(site: Site) -> str:
    """Make a room to talk in."""
    code = "from communications.models import Room; print(Room.objects.create().pk)"
    return f"/ws/chat_admin/{site.machine.feed(code, 'site-manage', 'shell').split()[-1]}/"


@dataclass(frozen=True)
class Project:
    """Somebody's project.

    Attributes:
        name: of its inventory in `examples/`.
        package: the one that it is in.
        exact: what `site.source.txt` is to say of that, where it is the source.
        page: one that everybody may see.
        task: one of its own.
        arguments: of that task.
        style: a file that is changed, or made, for its next release.
        entry: one of its schedule, where it has any.
        scheduled: the task of that entry.
        hurry: code that lets that entry run soon and again, with its name for ENTRY; empty where `settings` do it.
        settings: over those of the inventory, for the test alone.
        template: a folder of the package that a project `myauth` is made from, where that is none itself.
        maker: a command of the package that makes a project, where that is none itself; what it is called comes last.
        upload: gives it a file, where it takes any.
        room: lets a room be to talk in, and returns the path of its websockets.
        message: what is said there.
    """

    name: str
    package: str
    exact: str
    page: str
    task: str
    style: str
    entry: str = ""
    scheduled: str = ""
    hurry: str = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
entry = PeriodicTask.objects.get(name="ENTRY")
entry.crontab, entry.interval = None, IntervalSchedule.objects.get_or_create(every=1, period="seconds")[0]
entry.save()
"""
    settings: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[object, ...] = ()
    template: str = ""
    maker: tuple[str, ...] = ()
    upload: Callable[[Site], Upload] | None = None
    room: Callable[[Site], str] | None = None
    message: Mapping[str, object] = field(default_factory=dict)


BOUNDARY = "a-line-of-no-file"
# One pixel.
PICTURE = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
EXAMPLES = REPOSITORY / "examples"
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
    Project(
        "nautobot",
        "nautobot==3.2.7",
        "sha256 0742bcb18aaf08dc45891f2c410707d4c6467089944a01ad6a836b37899ca843",
        page="/login/",
        task="nautobot.core.tasks.get_releases",
        entry="Tried",
        scheduled="nautobot.extras.jobs.run_job",
        # It has entries when somebody makes them, of whole minutes.
        hurry="""
from django.contrib.auth import get_user_model
from nautobot.extras.models import Job, ScheduledJob
job, admin = Job.objects.get(job_class_name="RefreshDynamicGroupCaches"), get_user_model().objects.get(username="admin")
Job.objects.filter(pk=job.pk).update(enabled=True)
ScheduledJob.create_schedule(job, admin, name="ENTRY", interval="custom", crontab="* * * * *", job_kwargs={})
""",
        style="nautobot/project-static/css/own.css",
        upload=to_nautobot,
    ),
    Project(
        "pretix",
        "pretix==2026.8.0",
        "sha256 a78932e698778d873530d67f25a57c28d1c09b1bfb1a22ec817c00d90397db85",
        page="/control/login",
        task="periodic.runperiodic",
        entry="runperiodic",
        scheduled="periodic.runperiodic",
        hurry="",
        settings={"CELERY_BEAT_SCHEDULE": {"runperiodic": {"task": "periodic.runperiodic", "schedule": 5}}},
        style="pretix/static/own.css",
        upload=to_pretix,
    ),
    Project(
        "wooey",
        "wooey==0.14.1",
        "",
        page="/",
        task="wooey.tasks.cleanup_dead_jobs",
        entry="tried",
        scheduled="wooey.tasks.cleanup_stuck_jobs",
        hurry="",
        settings={"CELERYBEAT_SCHEDULE": {"tried": {"task": "wooey.tasks.cleanup_stuck_jobs", "schedule": 5}}},
        style="tools/static/wooey/css/base.css",
        maker=("wooify", "--project", "tools"),
        upload=to_wooey,
    ),
    Project(
        "drf-boilerplate",
        "django-drf-boilerplate==0.1.1",
        "",
        page="/admin/login/",
        task="newsletter.tasks.send_newsletter_mail",
        arguments=("a subject", "a text"),
        entry="tried",
        scheduled="newsletter.tasks.send_newsletter_mail",
        # It has entries when somebody makes them.
        hurry="""
from django_celery_beat.models import IntervalSchedule, PeriodicTask
often = IntervalSchedule.objects.get_or_create(every=1, period="seconds")[0]
task = "newsletter.tasks.send_newsletter_mail"
PeriodicTask.objects.create(name="ENTRY", task=task, args='["a subject", "a text"]', interval=often)
""",
        style="accounts/static/own.css",
        maker=("boiler", "new", "--all", "chat"),
        room=a_room,
        message={"name": "somebody", "message": "hello"},
    ),
    Project(
        "squad",
        "squad==1.98",
        "sha256 9fa2a92ca54964251e1fab48f979734c7ccd4413ee13f96019fceb108ca9f9a9",
        page="/login/",
        task="squad.core.tasks.cleanup_old_builds",
        entry="tried",
        scheduled="squad.ci.tasks.poll",
        hurry="",
        settings={"CELERY_BEAT_SCHEDULE": {"tried": {"task": "squad.ci.tasks.poll", "schedule": 5}}},
        style="squad/frontend/static/main.css",
    ),
    Project(
        "pretalx",
        "pretalx==2026.2.1",
        "sha256 0017e11e67f853cede833aeeba773e838968d2f7c5d010471c77e17a71c50a3b",
        page="/orga/login/",
        task="pretalx.common.update_check",
        style="src/pretalx/static/common/css/base.css",
    ),
    Project(
        "api-starter",
        "django-api-starter==0.2.0",
        "",
        page="/admin/login/",
        task="apps.accounts.tasks.flush_expired_tokens",
        entry="tried",
        scheduled="apps.accounts.tasks.flush_expired_tokens",
        hurry="",
        settings={
            "CELERY_BEAT_SCHEDULE": {"tried": {"task": "apps.accounts.tasks.flush_expired_tokens", "schedule": 5}}
        },
        style="apps/accounts/static/own.css",
        maker=("django-starter", "new", "--celery", "--yes", "hello"),
        upload=to_api_starter,
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
def deployed(request: pytest.FixtureRequest, figures: list[str]) -> Iterator[Deployed]:
    """A project, deployed to a bare machine."""
    project: Project = request.param
    name = f"projects-{project.name}"
    with nullcontext(f"{KEEP}/{name}") if KEEP else TemporaryDirectory(prefix="projects-") as made:
        folder = Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            debian = os.environ.get("CELERIAC_DEBIAN", "13")
            subprocess.run([MACHINE, "up", name, "--debian", debian], check=True)
            inventory = described(project, name, folder)
            site = Site(Machine(name, inventory, folder), Workshop(folder, probe=False), folder)
            play = site.start("site.yml")
            run = play.wait(BUILD_SECONDS)
            assert run.status == 0, run.output
            figures.append(f"{project.name}: on an empty host in {play.seconds:.0f} s")
            yield Deployed(project, site, source_of(project, folder))
        finally:
            if not KEEP:
                subprocess.run([MACHINE, "down", name], check=True)


def source_of(project: Project, folder: Path) -> Path:
    """Return a folder with the source of a project, to be changed."""
    made = folder / "made"
    if made.is_dir():
        return made
    if project.maker:
        return made_by(project, folder).rename(made)
    chosen = choices_of(project)
    fact = {"source": project.package, "source_version": chosen.get("site_source_version", "")}
    source = fetched({**fact, "beside": folder, "index_url": "", "extra_index_urls": []}).folder
    if not project.template:
        return shutil.copytree(source, made, symlinks=True)
    made.mkdir()
    words = ["startproject", "--extension=py", f"--template={source / project.template}", "myauth", str(made)]
    subprocess.run(["django-admin", *words], check=True)
    return made


def made_by(project: Project, folder: Path) -> Path:
    """Let a package make a project, as whoever wants one does."""
    environment = str(folder / "maker")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", environment, project.package], check=True)
    where = {**os.environ, "PATH": f"{environment}/bin:{os.environ['PATH']}"}
    subprocess.run(project.maker, cwd=folder, env=where, stdout=subprocess.DEVNULL, check=True)
    return folder / project.maker[-1]


def choices_of(project: Project) -> dict[str, Any]:
    """Return what the inventory of a project chooses."""
    chosen: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{project.name}.yml").read_text())
    return chosen


def described(project: Project, host: str, folder: Path) -> Path:
    """Write the inventory of a host: what `examples/` has, with the name of this one, and what its source must be."""
    choices = {**choices_of(project), "site_domain": DOMAIN}
    choices["site_settings"] = {**choices.get("site_settings", {}), **project.settings}
    asked = " ".join([project.package, *choices.get("site_source_version", "").split()])
    (folder / KEPT).write_text(f"{asked} = {project.exact}\n")
    if project.template or project.maker:
        choices["site_source"] = str(source_of(project, folder))
    variables = json.loads(subprocess.check_output([MACHINE, "inventory", host]))
    children: dict[str, object] = {group: {"hosts": {host: {}}} for group in GROUPS}
    # The build runs as the owner of the releases, and copies what that reads.
    choices["site_build_commands"] = [*choices.get("site_build_commands", []), ["cp", TRIED, f"{TRIED}.seen"]]
    tried = str(Path(choices.get("site_source_folder", ""), TRIED))
    choices["site_files"] = {**choices.get("site_files", {}), tried: ".files/tried.j2"}
    shutil.copytree(EXAMPLES / "files", folder / ".files", dirs_exist_ok=True)
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
    host, below = deployed.site.machine.root, choices_of(deployed.project).get("site_source_folder", "")
    folder = f"/srv/site/releases/{deployed.site.current()}/app/{below}"
    of_processes, of_owner = (host.check_output(f"cat {folder}/{name}").split() for name in (TRIED, f"{TRIED}.seen"))
    assert (of_processes[0], of_owner[0]) == ("site", "site_deploy")
    assert of_processes[1] == of_owner[1]
    assert host.check_output(f"stat --format='%a %U %G' {folder}/{TRIED}") == "640 site_deploy site"
    assert host.check_output(f"runuser -u site -- cat {folder}/{TRIED}").split() == of_processes
    assert host.run(f"runuser -u nobody -- cat {folder}/{TRIED}").failed


def test_a_task_of_its_own_is_executed(deployed: Deployed) -> None:
    task = deployed.project.task
    before = deployed.executed(task)
    # Celery's own command says json, whatever the project has.
    deployed.site.machine.root.check_output(
        f"site-celery call {task} --args='{json.dumps(deployed.project.arguments)}'"
    )
    eventually(lambda: deployed.executed(task) > before, 60)


def test_beat_sends_an_entry_of_its_schedule(deployed: Deployed) -> None:
    """Wherever the project has it; somebody lets the entry run more often."""
    project = deployed.project
    if not project.entry:
        pytest.skip("it has none")
    before = deployed.executed(project.scheduled)
    if project.hurry:
        deployed.site.machine.feed(project.hurry.replace("ENTRY", project.entry), "site-manage", "shell")
    eventually(lambda: deployed.executed(project.scheduled) > before + 1, 240)


def test_what_it_runs_besides_runs(deployed: Deployed) -> None:
    host, choices = deployed.site.machine.root, choices_of(deployed.project)
    pools = [f"celery-worker-{pool}" for pool in choices.get("celery_worker_pools", {})]
    for unit in [*pools, *choices.get("site_commands", {})]:
        assert host.check_output(f"systemctl show --property=ActiveState,NRestarts --value {unit}").split() == [
            "0",
            "active",
        ]
    for timer in choices.get("site_timers", {}):
        assert host.check_output(f"systemctl is-active {timer}.timer") == "active"
        host.check_output(f"systemctl start {timer}.service")  # waits for its end, and fails with it


@pytest.fixture(scope="module")
def uploaded(deployed: Deployed) -> Upload | None:
    """A file that the project was given, where it takes any."""
    upload = deployed.project.upload
    return upload(deployed.site) if upload else None


def test_what_is_uploaded_comes_back(deployed: Deployed, uploaded: Upload | None) -> None:
    if uploaded:
        answer = deployed.site.web.get(uploaded.path, uploaded.headers)
        assert (answer.status, answer.body) == (200, uploaded.content)


@contextmanager
def talking(deployed: Deployed) -> Iterator[None]:
    """Be in a room, where there are any, whatever is done meanwhile; then hear what others say who come by then."""
    site, project = deployed.site, deployed.project
    if project.room is None:
        yield
        return
    room, said = project.room(site), json.dumps(project.message)
    with site.web.websocket(room) as first:
        yield
        with site.web.websocket(room) as second:
            for one, other in ((first, second), (second, first)):
                one.send(said)
                heard = [json.loads(each.recv(60)) for each in (one, other)]
                assert heard[0] == heard[1]
                assert heard[0].items() >= project.message.items()


def test_its_next_release_loses_nothing(deployed: Deployed, tmp_path: Path, figures: list[str]) -> None:
    site = deployed.site
    before = site.current()
    style = deployed.source / deployed.project.style
    style.parent.mkdir(exist_ok=True)
    append(style, "/* the next release */")
    plan = replace(site.plan(requests=PEOPLE, tasks=2), page_path=deployed.project.page)
    with talking(deployed), Load(plan, tmp_path / "load.txt") as load:
        another = json.dumps({"site_source": str(deployed.source), "site_source_version": ""})
        play = site.start("playbooks/deploy.yml", "--extra-vars", another)
        run = play.wait()
        assert run.status == 0, run.output
        answers = load.settled(play.began, play.ended)
    assert re.search(r"tasks: \d+ at least once", run.output), run.output

    assert failures(answers) == []
    assert {answer.release for answer in answers} - {""} == {before, site.current()}
    accepted = load.accepted()
    assert len(accepted) > 20
    eventually(lambda: not accepted - site.executions(play.began - 60).keys(), 60, pause=1)
    counted = f"{len(answers)} requests, {len(accepted)} tasks, none lost"
    figures.append(f"{deployed.project.name}: the next release in {play.seconds:.0f} s, {counted}")


def test_what_was_uploaded_outlives_a_release(deployed: Deployed, uploaded: Upload | None) -> None:
    test_what_is_uploaded_comes_back(deployed, uploaded)


def test_what_it_has_is_known_to_the_status(deployed: Deployed) -> None:
    run = deployed.site.start("playbooks/status.yml").wait()
    assert run.status == 0, run.output
    assert re.search(r"tasks: \d+ at least once", run.output), run.output
    assert f"release {deployed.site.current()}" in run.output
