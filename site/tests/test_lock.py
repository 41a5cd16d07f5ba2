"""What `bin/lock` wrote fits both Debians, and is the same on the hosts and beside them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from celeriac.console import checks as console
from celeriac.schedule import checks as schedule
from packaging.requirements import Requirement

from processes import SITE

LOCKS = {"hosts": SITE / "requirements.txt", "control": SITE.parent / "requirements.txt"}
# Of projects that bring older libraries.
OLDER = [SITE.parent / "runtime" / "tests" / f"{age}.txt" for age in ("oldest", "middle")]


def requirements(lock: Path) -> dict[str, str]:
    """Return version and marker of each locked package; fail for one without a hash."""
    found = {}
    for block in re.split(r"\n(?=\S)", lock.read_text()):
        if match := re.match(r"([a-z0-9.-]+)==(.+?) \\\n", block):
            assert "--hash=sha256:" in block, block
            found[match[1]] = match[2]
        else:
            assert block.startswith("#"), block
    return found


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_has_what_only_the_older_python_needs(lock: Path) -> None:
    """Debian 12 has Python 3.11.2, where the Redis client does not start without async-timeout."""
    assert requirements(lock)["async-timeout"].endswith("; python_full_version < '3.11.3'")


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: Path) -> None:
    """Where packages come from is each computer's own configuration."""
    assert not re.search(r"://|--(extra-)?index|--find-links|\bfile:", lock.read_text())


def test_the_tests_run_with_what_the_hosts_run() -> None:
    """The lock of the control computer holds every package of the hosts, at its version."""
    assert requirements(LOCKS["hosts"]).items() <= requirements(LOCKS["control"]).items()


def test_django_is_the_release_that_both_debians_can_run() -> None:
    """The long-term one."""
    assert requirements(LOCKS["hosts"])["django"].startswith("5.2.")


def project(folder: str) -> Any:
    """Return what a folder's `pyproject.toml` says of its project."""
    return tomllib.loads((SITE.parent / folder / "pyproject.toml").read_text())["project"]


EXTRAS = {"ledger": {"celery", "django"}, "schedule": schedule.PACKAGES.values(), "console": console.PACKAGES.values()}


def test_the_runtime_has_an_extra_for_each_app_that_names_what_its_checks_ask_for() -> None:
    """And requires nothing by itself: each release has the project's own lock."""
    runtime = project("runtime")
    assert runtime["dependencies"] == []
    found = {name: map(Requirement, extra) for name, extra in runtime["optional-dependencies"].items()}
    assert {name: {each.name for each in extra} - {"celeriac"} for name, extra in found.items()} == {
        name: set(packages) for name, packages in EXTRAS.items()
    }


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_has_the_versions_that_the_tests_run_with(extra: str) -> None:
    """From the oldest of them on, as far as the site's own range goes."""
    ranges = {each.name: each.specifier for each in map(Requirement, project("site")["dependencies"])}
    locks = [requirements(lock) for lock in (*OLDER, LOCKS["hosts"])]
    for required in map(Requirement, project("runtime")["optional-dependencies"][extra]):
        if required.name == "celeriac":
            assert required.extras == {"ledger"}
            continue
        bounds = {each.operator: each.version for each in required.specifier}
        assert bounds["<"] in {each.version for each in ranges[required.name] if each.operator == "<"}
        versions = [lock[required.name].partition(" ")[0] for lock in locks if required.name in lock]
        assert f"{versions[0]}.".startswith(f"{bounds['>=']}.")
        assert [*required.specifier.filter(versions)] == versions
