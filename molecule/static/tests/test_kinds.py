"""A release asks a process for its kind, and a host may run several of one kind: on a systemd of these tests."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.module_utils import (
    site_build,
    site_maintenance,
    site_names,
    site_processes,
    site_transaction,
    systemd,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_checks import Checks, Client, Deadline, Reply
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import (
    HopelessError,
    ProcessError,
    ReleaseError,
    UnhealthyError,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import (
    COMMAND,
    KINDS,
    OVERLAPPING_COMMAND,
    TIMER,
    WEB,
    WORKER,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Order, Site
from stack.host import Asked, Host

ROOT = Path(__file__).resolve().parents[3]
PROCESSES = yaml.safe_load((ROOT / "playbooks/group_vars/all/facts.yml").read_text())["site_own_processes"]
OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
# Not the names of the bundle: nothing may depend on them.
HERE = {"pages": "web", "mail": "worker", "reports2": "worker", "clock": "beat", "view": "monitor", "loop": "command"}
WORKERS = ("mail", "reports2")
FOLDERS = ("UNIT_DIRECTORY", "CANDIDATE_DIRECTORY", "RUNTIME_UNITS")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that knows how releases run its processes."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(site_processes, folder, tmp_path / folder)
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path / "etc")
    (tmp_path / "etc/site/processes").mkdir(parents=True)
    for name, kind in HERE.items():
        describe(tmp_path, name, kind)
    steps = tuple(step for step in site_transaction.SWITCH if step != "prune")  # what is old stays
    monkeypatch.setitem(site_transaction.STEPS, "deploy", steps)
    return Host()


@pytest.fixture
def asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the transactions ask."""
    asked = Asked(host)
    monkeypatch.setattr(site_transaction, "Checks", asked)
    return asked


def describe(folder: Path, name: str, kind: str) -> None:
    """Say how a release runs a process, as the template does."""
    (folder / "etc/site/processes" / f"{name}.service").write_text(
        f"PartOf=site.target\n# @RELEASE@\n\n[X-Celeriac]\nKind={kind}\n"
    )


@pytest.fixture
def deploy(host: Host, asked: Asked, known: Site) -> Callable[[str], None]:
    """Switch a release in."""
    (known.root / "releases").mkdir()
    site = replace(known, processes=tuple(HERE))

    def run(release: str) -> None:
        host.calls.clear()
        asked.names.clear()
        site_transaction.Transaction(host, site, Order("deploy", release, "anna", "h1"))._do_all()

    return run


def units(release: str, *names: str) -> set[str]:
    """Return the units of a release."""
    return {f"{name}-{release}.service" for name in names or HERE}


def serving(folder: Path) -> set[str]:
    """Return the units that the aliases stand for."""
    return {(folder / "UNIT_DIRECTORY" / f"{name}.service").readlink().name for name in HERE}


def test_each_unit_of_a_kind_is_started_checked_and_drained(
    host: Host, asked: Asked, deploy: Callable[[str], None], tmp_path: Path
) -> None:
    deploy(OLD)
    assert host.running() == serving(tmp_path) == units(OLD)
    host.busy = units(OLD, *WORKERS)

    deploy(NEW)

    assert host.running() == serving(tmp_path) == units(NEW)
    # Both old workers drain, and nothing else does.
    assert {unit for unit, state in host.states.items() if state == "deactivating"} == units(OLD, *WORKERS)
    names = [name for name, _ in asked.names]
    assert names == ["page", "worker", "page_alone", "migrations", "beat", "monitor", "command"]
    assert set(asked.units[WORKER]) == units(NEW, *WORKERS)
    states = dict(asked.names)
    # They are checked while the old ones serve, and the old workers serve until all is well.
    assert {states["worker"][unit] for unit in units(OLD) | units(NEW, *WORKERS)} == {"active"}
    assert {states["monitor"][unit] for unit in units(OLD, *WORKERS)} == {"active"}


def test_kinds_are_started_in_their_order(host: Host, deploy: Callable[[str], None]) -> None:
    deploy(OLD)
    deploy(NEW)

    started = [set(words) for verb, *words in host.calls if verb == "start"]
    assert started[:2] == [units(NEW, *WORKERS, "clock"), units(NEW, "pages")]
    for name in ("view", "loop"):  # these cannot overlap
        [old], [new] = units(OLD, name), units(NEW, name)
        assert host.calls.index(("stop", old)) < host.calls.index(("start", new))


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_that_does_not_start_undoes_the_release(
    host: Host, deploy: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    deploy(OLD)
    host.broken = units(NEW, name)

    with pytest.raises(ReleaseError, match=f"step start failed.*\n.*{name}-{NEW}.service does not start"):
        deploy(NEW)

    assert host.running() == serving(tmp_path) == units(OLD)


def test_of_each_process_two_may_drain_at_once(host: Host, deploy: Callable[[str], None]) -> None:
    releases = [letter * 12 for letter in "abcd"]
    host.busy = {unit for release in releases for unit in units(release, *WORKERS)}
    for release in releases:
        deploy(release)

    # The oldest of each is told to give back what it runs.
    assert {words[-1] for verb, *words in host.calls if verb == "kill"} == units(releases[0], *WORKERS)


def test_of_a_process_that_the_host_runs_no_more_nothing_stays(
    host: Host, deploy: Callable[[str], None], tmp_path: Path, known: Site
) -> None:
    deploy(OLD)
    wants = tmp_path / "UNIT_DIRECTORY/site.target.wants"
    (tmp_path / "UNIT_DIRECTORY/view.socket").touch()
    (wants / "view.socket").symlink_to("../view.socket")
    others = tuple(name for name in HERE if name != "view")

    site_transaction.Transaction(host, replace(known, processes=others), Order("rollback", OLD, "anna", "h1")).prune()

    assert ("stop", "view.socket", *units(OLD, "view")) in host.calls
    assert not [path for folder in (tmp_path / "UNIT_DIRECTORY", wants) for path in folder.glob("view.*")]
    assert host.running() == units(OLD, *others)


def test_what_a_process_that_is_gone_has_left_goes_when_it_has_drained(
    host: Host, deploy: Callable[[str], None], tmp_path: Path, known: Site
) -> None:
    deploy(OLD)
    unit, stranger = f"mail-{OLD}.service", tmp_path / "UNIT_DIRECTORY" / f"other-{OLD}.service"
    stranger.write_text("[Service]\n")
    host.busy = {unit}
    others = tuple(name for name in HERE if name != "mail")

    def prune() -> None:
        order = Order("rollback", OLD, "anna", "h1")
        site_transaction.Transaction(host, replace(known, processes=others), order).prune()

    prune()
    assert host.states[unit] == "deactivating"
    assert not (tmp_path / "UNIT_DIRECTORY/mail.service").is_symlink()
    assert (tmp_path / "UNIT_DIRECTORY" / unit).exists()
    host.states[unit] = "inactive"
    prune()

    assert not (tmp_path / "UNIT_DIRECTORY" / unit).exists()
    assert not (tmp_path / "etc/site/environments" / Path(unit).stem).exists()
    assert stranger.exists()


@pytest.mark.parametrize("text", ["[Service]\n", "[X-Celeriac]\nKind=pool\n", None])
def test_a_process_without_a_kind_is_an_error_before_anything_is_begun(
    host: Host, deploy: Callable[[str], None], tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "etc/site/processes/mail.service"
    file.unlink() if text is None else file.write_text(text)

    with pytest.raises(ProcessError, match=r"mail\.service has no Kind= .*playbooks/deploy\.yml"):
        deploy(NEW)

    assert host.calls == []


# ── Timers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def timed(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Describe a command that a timer starts, in the process `clock`, and when."""
    (tmp_path / "STAMPS").mkdir()
    monkeypatch.setattr(site_processes, "STAMPS", tmp_path / "STAMPS")
    describe(tmp_path, "clock", "timer")

    def at(every: str) -> None:
        (tmp_path / "etc/site/processes/clock.timer").write_text(f"[Timer]\nOnCalendar={every}\n")

    at("hourly")
    return at


def installed(folder: Path) -> str:
    """Return when the timer runs."""
    file = folder / "UNIT_DIRECTORY/clock.timer"
    return file.read_text().rpartition("=")[2].strip() if file.exists() else ""


def test_a_release_changes_a_timer_when_all_is_well_and_never_starts_its_command(
    host: Host, timed: Callable[[str], None], deploy: Callable[[str], None], tmp_path: Path
) -> None:
    deploy(OLD)
    timed("daily")
    host.states[f"clock-{OLD}.service"] = "activating"  # a run that has begun
    host.broken = units(NEW, "pages")
    with pytest.raises(ReleaseError):
        deploy(NEW)

    assert installed(tmp_path) == "hourly"
    assert f"clock-{OLD}.service" in serving(tmp_path)
    assert not (tmp_path / "UNIT_DIRECTORY" / f"clock-{NEW}.service").exists()
    host.broken = set()
    deploy(NEW)

    assert installed(tmp_path) == "daily"
    assert f"clock-{NEW}.service" in serving(tmp_path)
    assert host.states[f"clock-{OLD}.service"] == "activating"
    assert not [call for call in host.calls if "clock" in " ".join(call) and call != ("restart", "clock.timer")]
    assert ("restart", "clock.timer") in host.calls
    wants = tmp_path / "UNIT_DIRECTORY/site.target.wants"
    assert sorted(path.name for path in wants.glob("clock*")) == ["clock.timer"]


def test_of_a_first_release_that_fails_no_timer_is_known(
    host: Host, timed: Callable[[str], None], deploy: Callable[[str], None], tmp_path: Path
) -> None:
    host.broken = units(OLD, "pages")
    with pytest.raises(ReleaseError):
        deploy(OLD)

    folders = ("CANDIDATE_DIRECTORY", "UNIT_DIRECTORY")
    assert not [path for folder in folders for path in (tmp_path / folder).rglob("clock*")]


def test_of_a_release_that_could_not_be_recorded_no_timer_stays(
    host: Host,
    timed: Callable[[str], None],
    deploy: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(OLD)
    timed("daily")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(site_build.Releases, "make_current", full)
    with pytest.raises(ReleaseError, match="step record failed"):
        deploy(NEW)
    monkeypatch.undo()

    assert f"clock-{OLD}.service" == (tmp_path / "UNIT_DIRECTORY/clock.service").readlink().name
    assert installed(tmp_path) == "hourly"


def test_a_run_of_a_timer_that_is_gone_ends_by_itself(
    host: Host, timed: Callable[[str], None], deploy: Callable[[str], None], tmp_path: Path, known: Site
) -> None:
    deploy(OLD)
    stamp = tmp_path / "STAMPS/stamp-clock.timer"
    stamp.touch()
    host.states[f"clock-{OLD}.service"] = "activating"
    others = tuple(name for name in HERE if name != "clock")

    site_transaction.Transaction(host, replace(known, processes=others), Order("rollback", OLD, "anna", "h1")).prune()

    assert ("stop", "clock.timer") in host.calls
    assert host.states[f"clock-{OLD}.service"] == "activating"
    left = [
        path.name for folder in ("UNIT_DIRECTORY", "etc/site/processes") for path in (tmp_path / folder).rglob("clock*")
    ]
    assert left == [f"clock-{OLD}.service"]
    assert not stamp.exists()


def test_a_pause_stops_the_timer_and_waits_for_what_it_has_started(
    host: Host,
    timed: Callable[[str], None],
    deploy: Callable[[str], None],
    tmp_path: Path,
    known: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(OLD)
    unit, waited = f"clock-{OLD}.service", []
    host.states[unit] = "activating"

    def ends(_: float) -> None:
        waited.append(host.states["clock.timer"])
        host.states[unit] = "inactive"

    monkeypatch.setattr("time.sleep", ends)
    host.calls.clear()
    switch = site_maintenance.Switch(host, replace(known, processes=tuple(HERE)), web=False)
    wants = tmp_path / "UNIT_DIRECTORY/site.target.wants/clock.timer"

    assert switch.on(site_maintenance.Maintenance("then", "anna", True, "token"), "", 0)
    assert waited == ["inactive"]
    assert unit not in {word for _, *words in host.calls for word in words}
    assert not wants.is_symlink()
    assert switch.off()
    assert host.states["clock.timer"] == "active"
    assert host.states[unit] == "inactive"
    assert wants.is_symlink()


def timer_check(known: Site, host: Host, monkeypatch: pytest.MonkeyPatch, timer: str, **shown: str) -> str:
    """Return what the check of a timer says that is as it is shown."""
    host.states["clock.timer"] = timer
    monkeypatch.setattr(systemd.Systemd, "properties", lambda *_: {"Result": "exit-code", **shown})
    monkeypatch.setattr(systemd.Systemd, "last_words", lambda *_: "its last words")
    web = Web([], {})
    return Checks(systemd.Systemd(host), web, web, NEW, known, {TIMER: [f"clock-{NEW}.service"]}).timer()


def test_a_timer_that_waits_or_whose_command_runs_is_well(
    known: Site, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "waits" in timer_check(known, host, monkeypatch, "active", ActiveState="inactive")
    assert "runs" in timer_check(known, host, monkeypatch, "active", ActiveState="activating")


def test_a_timer_that_is_off_or_has_failed_is_not(known: Site, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnhealthyError, match=r"clock\.timer is inactive"):
        timer_check(known, host, monkeypatch, "inactive", ActiveState="inactive")
    with pytest.raises(HopelessError, match=r"has failed \(exit-code\) at then\nits last words"):
        timer_check(known, host, monkeypatch, "active", ActiveState="failed", InactiveEnterTimestamp="then")


# ── Checks ───────────────────────────────────────────────────────────────────────────────────────


class Web(Client):
    """The web processes of a site whose workers have done what they have."""

    def __init__(self, pongs: list[str], workers: dict[str, dict[str, int]]) -> None:
        self.pongs = iter(pongs)
        self.states: dict[str, dict[str, Any]] = {}
        self.workers = workers

    def expect(self, status: int, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Answer as the runtime does."""
        if method == "POST":
            name = next(self.pongs, "")
            result = {"release": NEW, "hostname": name}
            ping = f"ping-{len(self.states)}"
            self.states[ping] = {"state": "SUCCESS", "result": result} if name else {"state": "PENDING", "result": None}
            said: Any = {"id": ping}
        elif path.endswith("/workers"):
            said = {"workers": self.workers}
        else:
            said = self.states[path.rpartition("/")[2]]
        return Reply(status, NEW, json.dumps(said).encode())


class HalfGone(Web):
    """Old processes answer every second request, and their broker is gone."""

    requests = 0

    def expect(self, status: int, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Answer, or say that the broker does not."""
        self.requests += 1
        if self.requests % 2:
            raise UnhealthyError(f"{method} {path}: 503 where {status} is right: Connection refused")
        return super().expect(status, method, path, headers)


def worker_check(
    known: Site, monkeypatch: pytest.MonkeyPatch, pongs: list[str], workers: dict[str, Any], kind: type[Web] = Web
) -> str:
    """Return what the check of two workers says in the end."""
    here = {WORKER: [f"{name}-{NEW}.service" for name in WORKERS]}
    web = kind(pongs, workers)
    checks = Checks(systemd.Systemd(Host()), web, web, NEW, known, here)
    monkeypatch.setattr(f"{site_processes.__package__}.site_checks.PING_PAUSE_SECONDS", 0)
    for _ in range(20):
        try:
            return str(checks.worker())
        except UnhealthyError:
            continue
    return str(checks.worker())


MAIL, REPORTS = (f"{name}-{NEW}@h1" for name in WORKERS)
IDLE, BUSY = {"active": 0, "executed": 0}, {"active": 1, "executed": 0}


@pytest.mark.parametrize(
    ("pongs", "workers"),
    [
        ([MAIL, MAIL, MAIL, REPORTS], {}),
        # One with queues of its own gets no ping: that it answers is enough.
        ([MAIL], {MAIL: IDLE, REPORTS: IDLE}),
        # Behind a long queue.
        ([], {MAIL: BUSY, REPORTS: IDLE}),
    ],
)
def test_each_worker_is_checked(known: Site, monkeypatch: pytest.MonkeyPatch, pongs: list[str], workers: Any) -> None:
    assert MAIL in worker_check(known, monkeypatch, pongs, workers)


def test_old_processes_whose_broker_is_gone_keep_no_new_one_out(known: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAIL in worker_check(known, monkeypatch, [MAIL, REPORTS] * 9, {}, HalfGone)


@pytest.mark.parametrize(
    ("pongs", "workers", "says"),
    [
        ([MAIL] * 9, {MAIL: IDLE}, f"reports2-{NEW}.service executed no celeriac.ping"),
        ([MAIL] * 9, {MAIL: IDLE, REPORTS.replace(NEW, OLD): BUSY}, f"reports2-{NEW}.service executed no"),
        ([], {MAIL: IDLE, REPORTS: IDLE}, "no worker of"),
    ],
)
def test_a_worker_that_is_silent_is_not_let_through(
    known: Site, monkeypatch: pytest.MonkeyPatch, pongs: list[str], workers: Any, says: str
) -> None:
    with pytest.raises(UnhealthyError, match=says):
        worker_check(known, monkeypatch, pongs, workers)


def command_check(known: Site, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **shown: str) -> str:
    """Return what the check of a command says that is as it is shown."""
    (tmp_path / "UNIT_DIRECTORY" / f"loop-{NEW}.service").write_text("[X-Celeriac]\nKind=command\nSettle=10\n")
    monkeypatch.setattr(systemd.Systemd, "properties", lambda *_: shown)
    monkeypatch.setattr(systemd.Systemd, "last_words", lambda *_: "its last words")
    web = Web([], {})
    return Checks(systemd.Systemd(host), web, web, NEW, known, {COMMAND: [f"loop-{NEW}.service"]}).command()


NOW = f"{datetime.now(UTC) + timedelta(hours=1):%a %Y-%m-%d %H:%M:%S} UTC"
LONG_AGO = "Fri 2021-01-01 00:00:00 UTC"


def test_a_command_that_is_there_for_a_while_is_well(
    known: Site, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"ActiveState": "active", "ActiveEnterTimestamp": LONG_AGO, "NRestarts": "3"}
    assert "runs since 2021-01-01" in command_check(known, host, tmp_path, monkeypatch, **shown)


def test_one_that_cannot_overlap_is_not_asked_before_it_is_started(known: Site, host: Host) -> None:
    here = {COMMAND: [f"loop-{NEW}.service"]}
    assert Checks(systemd.Systemd(host), Web([], {}), Web([], {}), NEW, known, here).overlapping_command() == ""
    assert OVERLAPPING_COMMAND.readiness == ("overlapping_command",)
    assert COMMAND.readiness == ()


@pytest.mark.parametrize(
    ("shown", "says", "hopeless"),
    [
        (("active", NOW, "0"), "did not run for 10 s without an end yet$", False),
        (("activating", LONG_AGO, "4"), "it was started 4 times again:\nits last words", False),
        (("failed", LONG_AGO, "0"), "started, and has ended.\nits last words", True),
        (("inactive", "", "0"), "started, and has ended.\nits last words", True),
    ],
)
def test_a_command_that_ends_is_not_let_through(
    known: Site,
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: tuple[str, ...],
    says: str,
    hopeless: bool,
) -> None:
    named = dict(zip(("ActiveState", "ActiveEnterTimestamp", "NRestarts"), shown, strict=True))
    with pytest.raises(UnhealthyError, match=says) as caught:
        command_check(known, host, tmp_path, monkeypatch, **named)
    assert isinstance(caught.value, HopelessError) is hopeless


def test_what_is_hopeless_is_not_waited_for() -> None:
    asked = []

    def probe() -> None:
        asked.append(1)
        raise HopelessError

    with pytest.raises(HopelessError):
        Deadline(3600).eventually(probe)
    assert asked == [1]


class Queues(Web):
    """The web processes of a site, each of whose workers has a queue of its own."""

    def expect(self, status: int, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Let the worker of the queue answer, or nobody."""
        if method == "POST":
            self.pongs = iter([{"": MAIL, "reports": REPORTS}[path.partition("?queue=")[2]]])
        return super().expect(status, method, path, headers)


def test_a_pool_is_asked_in_its_own_queue(known: Site, host: Host, tmp_path: Path) -> None:
    here = [f"{name}-{NEW}.service" for name in WORKERS]
    (tmp_path / "UNIT_DIRECTORY" / here[1]).write_text("[X-Celeriac]\nKind=worker\nQueue=reports\n")
    web = Queues([], {})

    checks = Checks(systemd.Systemd(host), web, web, NEW, known, {WORKER: here})

    assert checks.worker() == f"celeriac.ping was executed by {MAIL}; celeriac.ping was executed by {REPORTS}"


def test_a_worker_that_runs_its_tasks_itself_says_so_to_systemd(
    known: Site, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd.Systemd, "properties", lambda *_: {"StatusText": "runs work.tasks.long"})
    assert MAIL in worker_check(known, monkeypatch, [MAIL] * 9, {MAIL: IDLE})


class Files(Client):
    """Nginx with files by their addresses."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def request(self, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Answer with a file, or that there is none."""
        return Reply(200, "", self.files[path]) if path in self.files else Reply(404, "", b"")


@pytest.mark.parametrize(
    ("served", "says"),
    [({}, "404 where 200 is right"), ({"/static/a%20b.css": b"of another release"}, "not what release"), (None, "")],
)
def test_a_static_file_of_the_release_is_asked_for(known: Site, served: dict[str, bytes] | None, says: str) -> None:
    assert "static_file" in WEB.outside
    folder = known.root / "releases" / NEW / "static"
    (folder / "app").mkdir(parents=True)
    (folder / "app/site.css").write_text("longer than the other")
    (folder / "a b.css").write_text("short")
    web = Files({"/static/a%20b.css": b"short"} if served is None else served)
    checks = Checks(systemd.Systemd(Host()), web, web, NEW, known, {})
    if not says:
        assert checks.static_file() == "/static/a%20b.css is served"
        return
    with pytest.raises(UnhealthyError, match=says):
        checks.static_file()


def test_a_release_without_static_files_is_well(known: Site) -> None:
    checks = Checks(systemd.Systemd(Host()), Files({}), Files({}), NEW, known, {})
    assert "no static files" in checks.static_file()


# ── One list, one table ──────────────────────────────────────────────────────────────────────────


def test_each_process_of_the_list_has_a_kind_that_the_engine_knows() -> None:
    assert {process["kind"] for process in PROCESSES} <= set(KINDS)


def test_what_overlaps_is_there_twice_in_a_deploy() -> None:
    needs = yaml.safe_load((ROOT / "playbooks/group_vars/all/needs.yml").read_text())
    assert set(needs["__site_overlapping_kinds"]) == {name for name, kind in KINDS.items() if kind.overlaps}


def test_each_check_of_the_table_is_one() -> None:
    for kind in KINDS.values():
        for name in (*kind.readiness, *kind.health, *kind.outside):
            assert callable(getattr(Checks, name)), name
    assert WEB.overlaps
    assert not COMMAND.overlaps


def test_the_playbooks_reach_every_group_of_the_list() -> None:
    plays = [play for file in (ROOT / "playbooks").glob("*.yml") for play in yaml.safe_load(file.read_text())]
    patterns = {play["name"]: set(play["hosts"].split(":")) for play in plays if "hosts" in play}
    groups = {process["group"] for process in PROCESSES}
    assert groups <= patterns["The hosts"] & patterns["How the site is"]
    assert groups <= patterns["The release and the processes that run it"]
    assert groups <= patterns["The release to go back to"]


def constants(file: Path) -> Iterator[str]:
    """Yield the texts in a program, without its documentation."""
    tree = ast.parse(file.read_text())
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("DOCUMENTATION", "EXAMPLES"):
            prose.add(id(node.value))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_no_plugin_knows_a_process_by_its_name() -> None:
    names = "|".join(process["name"] for process in PROCESSES)
    one = re.compile(rf"({names})(\.service|\.socket)?|.*\b({names})\.(service|socket)\b.*", re.DOTALL)
    known = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in (ROOT / "plugins").rglob("*.py")
        for text in constants(file)
        if one.fullmatch(text)
    ]
    assert known == []
