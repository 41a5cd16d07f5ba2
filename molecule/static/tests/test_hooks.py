"""An operator's own commands run at their points of a release, and one that fails undoes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import (
    site_build,
    site_names,
    site_processes,
    site_transaction,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_build import CHECKED, Build, Releases
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import ReleaseError
from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import POINTS, Hook, read_hooks
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Order, Shipment, Site
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd
from stack.host import Asked, Host

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
HERE = {"pages": "web", "mail": "worker"}
FOLDERS = ("UNIT_DIRECTORY", "CANDIDATE_DIRECTORY", "RUNTIME_UNITS")
SHIPMENT = Shipment(None, Path("/etc/site/index.environment"), "uv==1.0", (), (), "before_migrate", {})
ENVIRONMENT = 'DEBUG="false"\nREDIS_PASSWORD="hun\\"ter2"\n'
BEFORE_RECORD = POINTS[: POINTS.index("after_record")]


@dataclass
class Seen:
    """A command in a transient unit, and what the host was like then."""

    words: list[str]
    environment: dict[str, str]
    settings: list[str]
    recorded: dict[str, str]
    candidates: dict[str, str]
    running: set[str]
    kept: set[str]


@dataclass
class Ops(Host):
    """A host on which transient units run.

    Attributes:
        seen: what ran in one.
        status: with which each command ends that is not a success, by its first word.
        seconds: how long each takes, by its first word.
        says: what it prints, by its first word.
        now: the time, in seconds.
    """

    root: Path
    seen: list[Seen] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, int] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    now: float = 0

    def __post_init__(self) -> None:
        """Be a host on which nothing runs."""
        super().__init__()

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        """Run a transient unit; of the rest, what the host does."""
        if command[0] != "systemd-run":
            return super().__call__(command)
        end = command.index("--")
        values = [word.removeprefix("--setenv=") for word in command[:end] if word.startswith("--setenv=")]
        settings = [word.removeprefix("--property=") for word in command[:end] if word.startswith("--property=")]
        words = [word for word in command[end + 1 :] if word not in ("/usr/bin/env", "--")]
        processes = [site_processes.Process(Systemd(Host()), name, Names()) for name in HERE]
        self.seen.append(
            Seen(
                words,
                dict(value.split("=", 1) for value in values),
                settings,
                {each.name: each.recorded() for each in processes},
                {each.name: each.candidate() for each in processes},
                self.running(),
                {path.name for path in (self.root / "releases").iterdir()},
            )
        )
        self.now += self.seconds.get(words[0], 0)
        if words[1:2] == ["venv"]:
            Path(words[-1]).mkdir()
        return self.status.get(words[0], 0), self.says.get(words[0], f"{words[0]} says hello"), ""

    @property
    def hooks(self) -> dict[str, Seen]:
        """What ran as a hook, by its first word, in this order."""
        return {seen.words[0]: seen for seen in self.seen if "CELERIAC_HOOK" in seen.environment}


@pytest.fixture
def host(tmp_path: Path, known: Site, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """A host that knows how releases run its processes, and what builds them."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(site_processes, folder, tmp_path / folder)
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path / "etc")
    (tmp_path / "etc/site/processes").mkdir(parents=True)
    for name, kind in HERE.items():
        (tmp_path / "etc/site/processes" / f"{name}.service").write_text(f"# @RELEASE@\nKind={kind}\n")
    uv = known.root / "tools/uv-1.0/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.touch()
    (known.root / "releases").mkdir()
    host = Ops(known.root)
    clock = SimpleNamespace(monotonic=lambda: host.now, time=time.time, sleep=time.sleep)
    monkeypatch.setattr(site_build, "time", clock)
    monkeypatch.setattr(site_transaction, "Checks", Asked(host))
    monkeypatch.setattr(site_transaction.Transaction, "_fits_at_first_sight", lambda _: True)
    return host


@pytest.fixture
def transact(host: Ops, known: Site) -> Callable[..., Any]:
    """Deploy a release, or go back to it, with hooks."""
    file = known.root / "environment"
    site = replace(known, processes=tuple(HERE), environment_files=(file,))

    def run(
        release: str, hooks: dict[str, Any], kind: str = "deploy", environment: str = ENVIRONMENT, **shipped: Any
    ) -> Any:
        host.seen.clear()
        file.write_text(environment)
        order = Order(kind, release, "anna", "h1", read_hooks(hooks, 60))
        transaction = site_transaction.Transaction(host, site, order, replace(SHIPMENT, **shipped))
        transaction._do_all()
        return transaction

    return run


def units(release: str) -> dict[str, str]:
    """Return the units of a release, by the names of their processes."""
    return {name: f"{name}-{release}.service" for name in HERE}


def each(words: str = "") -> dict[str, Any]:
    """Return a hook at each point that is called like it."""
    return {point: [f"{point}.sh {words}"] for point in POINTS}


def ran(host: Ops) -> list[str]:
    """Return the first words of what ran, with the steps of the release in place of their Python."""
    return [" ".join(seen.words[3:]) if "celeriac.release" in seen.words else seen.words[0] for seen in host.seen]


def test_each_hook_runs_at_its_point(host: Ops, transact: Callable[..., Any]) -> None:
    transact(OLD, {})
    transact(NEW, each())

    hooks = host.hooks
    assert list(hooks) == [f"{point}.sh" for point in POINTS]
    migrate, before, after, record = hooks.values()
    assert ran(host)[-5:] == ["before_migrate.sh", " ".join(CHECKED["before_migrate"]), *list(hooks)[1:]]
    assert "check import queues broker commands" in ran(host)[:-5]  # a hook finds a release that can be imported
    old, new = units(OLD), units(NEW)
    assert migrate.running == {*old.values()}
    # Of the new one nothing runs that could answer.
    assert before.running == {*old.values()}
    # Alone, but for the old worker, which would go on; not for good yet.
    assert after.running == {*new.values(), old["mail"]}
    assert after.candidates == new
    assert after.recorded == old
    # For good.
    assert record.recorded == new
    assert [*record.candidates.values()] == ["", ""]


def test_on_the_way_back_nothing_is_migrated(host: Ops, transact: Callable[..., Any]) -> None:
    transact(OLD, {})
    transact(NEW, {})
    transact(OLD, each(), "rollback")

    assert list(host.hooks) == ["before_switch.sh", "after_switch.sh", "after_record.sh"]
    environments = [seen.environment for seen in host.hooks.values()]
    assert {each["CELERIAC_COMMAND"] for each in environments} == {"rollback"}
    assert {each["CELERIAC_PREVIOUS_RELEASE"] for each in environments} == {NEW}


def test_without_hooks_a_release_is_checked_once(host: Ops, transact: Callable[..., Any]) -> None:
    transact(NEW, {})

    assert ran(host).count(" ".join(CHECKED["before_migrate"])) == 1
    assert "check import" not in ran(host)


def test_a_hook_is_run_as_the_migrations_are(host: Ops, transact: Callable[..., Any]) -> None:
    transact(OLD, {})
    transact(NEW, {"before_switch": ["./smoke 'a b' $HOME"]})

    [hook] = host.hooks.values()
    assert hook.words == ["./smoke", "a b", "$$HOME"]  # as systemd-run is told that it means $HOME
    [migrations] = [seen for seen in host.seen if "migrate" in seen.words]
    assert set(hook.settings) - set(migrations.settings) == {"RuntimeMaxSec=60", "TimeoutStopSec=5"}
    assert set(migrations.settings) <= set(hook.settings)
    assert f"EnvironmentFile={host.root}/environment" in hook.settings
    release = f"{host.root}/releases/{NEW}"
    assert f"WorkingDirectory={release}/app" in hook.settings
    assert hook.environment["PATH"].split(":")[0] == f"{release}/venv/bin"
    assert (
        hook.environment.items()
        >= {
            "PYTHONPATH": f"{release}/app",
            "CELERIAC_HOOK": "before_switch",
            "CELERIAC_COMMAND": "deploy",
            "CELERIAC_RELEASE": NEW,
            "CELERIAC_PREVIOUS_RELEASE": OLD,
            "CELERIAC_HOST": "h1",
            "CELERIAC_PERFORMER": "anna",
        }.items()
    )


def test_of_the_first_release_there_is_none_before(host: Ops, transact: Callable[..., Any]) -> None:
    transact(OLD, each())

    assert {seen.environment["CELERIAC_PREVIOUS_RELEASE"] for seen in host.hooks.values()} == {""}


@pytest.mark.parametrize("point", BEFORE_RECORD)
def test_a_hook_that_fails_undoes_the_release(host: Ops, transact: Callable[..., Any], point: str) -> None:
    transact(OLD, {})
    host.status[f"{point}.sh"] = 3
    hooks = {point: [f"{point}.sh", "another.sh"]}

    with pytest.raises(ReleaseError) as error:
        transact(NEW, hooks)

    failed, now, *said = str(error.value).split("\n")
    assert f"step {point} failed. Release {OLD} serves on." in failed
    assert now == f"{point}.sh ended with status 3."
    assert said == [f"{point}.sh says hello"]
    assert "another.sh" not in host.hooks
    assert host.running() == {*units(OLD).values()}
    assert {name: site_processes.Process(Systemd(Host()), name, Names()).recorded() for name in HERE} == units(OLD)
    # What the next run may take up, and it alone.
    assert {path.name for path in (host.root / "releases").iterdir()} == {OLD, NEW}
    assert {path.name for path in (host.root / "releases" / NEW).iterdir()} <= {"built.json", "venv"}


def test_what_fails_when_all_is_recorded_undoes_nothing(
    host: Ops, transact: Callable[..., Any], tmp_path: Path
) -> None:
    transact(OLD, {})
    host.status["after_record.sh"] = 1

    with pytest.raises(ReleaseError, match=f"Release {NEW} serves, but a hook has failed, and nothing is undone"):
        transact(NEW, each())

    assert host.running() == {*units(NEW).values()}
    assert {name: site_processes.Process(Systemd(Host()), name, Names()).recorded() for name in HERE} == units(NEW)
    # What was to be removed is removed.
    assert {path.name for path in (tmp_path / "UNIT_DIRECTORY").glob("*-*.service")} == {*units(NEW).values()}


@pytest.mark.parametrize("seconds", [60, 7])
def test_a_hook_that_takes_too_long_is_ended_and_said_so(host: Ops, transact: Callable[..., Any], seconds: int) -> None:
    hook = "slow.sh" if seconds == 60 else {"command": "slow.sh", "timeout_seconds": seconds}
    host.status["slow.sh"] = 1  # as systemd-run ends then
    host.seconds["slow.sh"] = seconds

    with pytest.raises(ReleaseError, match=rf"slow\.sh did not end in {seconds} s\.\nslow\.sh says hello"):
        transact(NEW, {"before_switch": [hook]})

    assert f"RuntimeMaxSec={seconds}" in host.hooks["slow.sh"].settings


def test_what_was_run_is_a_line_each(host: Ops, transact: Callable[..., Any]) -> None:
    transaction = transact(
        NEW, {"after_record": ["true", "python manage.py tell --token=abc"], "before_switch": ["ls"]}
    )

    assert [line.rpartition(" (")[0] for line in transaction.hooks] == [
        "before_switch: ls",
        "after_record: true",
        "after_record: python manage.py tell",
    ]


def test_what_a_hook_prints_is_shown_without_secrets(host: Ops, transact: Callable[..., Any]) -> None:
    host.status["tell"] = 1
    host.says["tell"] = 'DEBUG=false, not hun"ter2: redis://site:open@h1/0 redis://h1/0'

    with pytest.raises(ReleaseError) as error:
        transact(NEW, {"before_switch": ["tell"]})

    assert str(error.value).endswith("DEBUG=false, not ********: redis://********@h1/0 redis://h1/0")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python manage.py tell all of them", "python manage.py tell"),
        ("curl -u anna:secret https://www.mysite.test", "curl"),
        ("sh -c 'echo $SECRET'", "sh"),
        ("TOKEN=abc ./tell", "the command"),
    ],
)
def test_a_hook_is_named_without_what_may_be_secret(command: str, name: str) -> None:
    [hook] = read_hooks({"before_switch": [command]}, 60)["before_switch"]

    assert isinstance(hook, Hook)
    assert hook.name == name


# ── Steps as lists ───────────────────────────────────────────────────────────────────────────────


def build_with(host: Ops, known: Site, **chosen: Any) -> Build:
    """Return a release that is about to be built by choices."""
    (known.root / "releases" / NEW / "app").mkdir(parents=True)
    return Build(Releases(host, known), NEW, replace(SHIPMENT, **chosen))


def test_the_commands_of_a_build_run_behind_the_virtualenv(host: Ops, known: Site) -> None:
    build_with(host, known, build_commands=(("npm", "ci"), ("npm", "run", "build"))).build()

    assert [seen.words for seen in host.seen[-2:]] == [["npm", "ci"], ["npm", "run", "build"]]
    assert "venv" in host.seen[0].words
    venv = f"{known.root}/releases/{NEW}/venv"
    for seen in host.seen[-2:]:
        assert f"User={known.owner}" in seen.settings
        assert f"WorkingDirectory={known.root}/releases/{NEW}/app" in seen.settings
        # It may be links to the files of another release.
        assert f"ReadOnlyPaths={venv}" in seen.settings
        assert seen.environment["PATH"].startswith(f"{venv}/bin:")


def test_a_build_stops_at_the_first_command_that_fails(host: Ops, known: Site) -> None:
    host.status, host.says = {"npm": 1}, {"npm": "no such script"}

    with pytest.raises(ReleaseError, match=r"npm run ended with status 1\.\nno such script"):
        build_with(host, known, build_commands=(("npm", "run", "--token=x"), ("make",))).build()

    assert "make" not in ran(host)


def test_a_made_release_is_not_built_again(host: Ops, known: Site) -> None:
    build = build_with(host, known, build_commands=(("npm", "ci"),))
    build._made = True
    build.build()
    assert ran(host) == []


@pytest.mark.parametrize("check", CHECKED)
def test_a_release_is_checked_when_it_is_chosen(host: Ops, known: Site, check: str) -> None:
    build = build_with(host, known, check=check)
    build.check()
    build.prepare(beside=False, point="")
    before, steps = (line.split() for line in ran(host))

    assert before == steps[: steps.index("migrate")]
    where = {"before_migrate": [True], "after_migrate": [False], "never": []}[check]
    assert [number < steps.index("migrate") for number, step in enumerate(steps) if step == "check"] == where


@pytest.mark.parametrize("passed", [False, True])
def test_what_was_built_of_a_release_that_failed_is_taken_up(
    host: Ops, known: Site, transact: Callable[..., Any], passed: bool
) -> None:
    """While none has passed there is also nothing else in which `site-manage` could run."""
    if passed:
        transact(OLD, {})
    host.status = {"false": 1}

    with pytest.raises(ReleaseError, match="step before_migrate failed"):
        transact(NEW, {"before_migrate": ["false"]})
    left = known.root / "releases" / NEW
    (left / "of-the-build").touch()
    (left / "static").mkdir()
    (left / "static/in-part").touch()
    transact(NEW, {})
    assert (left / "of-the-build").exists()
    assert not (left / "static/in-part").exists()

    with pytest.raises(ReleaseError, match="step before_switch failed"):
        transact(OLD if not passed else "cccccccccccc", {"before_switch": ["false"]})
    transact(NEW, {})
    assert [path.name for path in (known.root / "releases").iterdir() if path.name not in {OLD, NEW}] == []


def test_what_was_built_in_part_is_built_anew(host: Ops, known: Site, transact: Callable[..., Any]) -> None:
    transact(OLD, {})
    host.status = {"npm": 1}
    with pytest.raises(ReleaseError, match="step build failed"):
        transact(NEW, {}, build_commands=(("npm", "ci"),))
    assert not (known.root / "releases" / NEW).exists()

    # As a run leaves it that is killed.
    (known.root / "releases" / NEW).mkdir()
    (known.root / "releases" / NEW / "in-part").touch()
    host.status = {}
    transact(NEW, {}, build_commands=(("npm", "ci"),))
    assert not (known.root / "releases" / NEW / "in-part").exists()
    assert ["npm", "ci"] in [seen.words for seen in host.seen]


@pytest.mark.parametrize(("commands", "is_taken_up"), [((), True), ((("npm", "ci"),), False)])
def test_what_commands_have_built_is_that_of_their_environment(
    host: Ops, known: Site, transact: Callable[..., Any], commands: tuple[tuple[str, ...], ...], is_taken_up: bool
) -> None:
    host.status = {"false": 1}
    with pytest.raises(ReleaseError, match="step before_migrate failed"):
        transact(NEW, {"before_migrate": ["false"]}, build_commands=commands)
    (known.root / "releases" / NEW / "of-the-build").touch()

    transact(NEW, {}, environment='VITE_URL="another"\n', build_commands=commands)
    assert (known.root / "releases" / NEW / "of-the-build").exists() is is_taken_up
