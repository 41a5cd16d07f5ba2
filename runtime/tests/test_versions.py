"""What is off with an older library is known by its name."""

import re
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path

import pytest
from celery.app.defaults import DEFAULTS
from celery.apps import worker
from celery.worker.consumer import Consumer

from celeriac import versions
from celeriac.versions import FEATURES, Feature, has, off

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/versions.md").read_text()
LOCKS = ["runtime/tests/oldest.txt", "runtime/tests/middle.txt", "requirements.txt"]
# How one sees of each whether the libraries that are here have it.
SEEN = {
    "soft shutdown": lambda: hasattr(worker, "on_cold_shutdown"),
    # Before it a worker that has lost its connection takes one message at a time from such queues ever after.
    "cluster of RabbitMQ": lambda: "qos_global" in getsource(Consumer),
    "use of quorum queues": lambda: find_spec("celery.utils.quorum_queues"),
    "time limit across a lost connection": lambda: "timer.clear()" not in getsource(Consumer.on_close),
    "limit of held tasks": lambda: "worker_eta_task_limit" in DEFAULTS,
}

of_each_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)


@of_each_feature
@pytest.mark.parametrize("before", ["{0}.{2}.0", "{0}.{2}.0rc2", "{0}.{2}", "{3}.99.1"])
def test_it_is_off_before_the_version_that_has_it(
    feature: Feature, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = feature.since
    number = before.format(major, minor, minor - 1, major - 1)
    monkeypatch.setattr(versions, "version", lambda _: number)
    assert f"{feature.name}: {feature.library} {number} has none, {feature.instead}" in off()


@of_each_feature
@pytest.mark.parametrize("since", ["{0}.{1}.0", "{0}.{1}.0b1", "{0}.10.1", "{2}.0"])
def test_it_is_not_off_since_then(feature: Feature, since: str, monkeypatch: pytest.MonkeyPatch) -> None:
    major, minor = feature.since
    monkeypatch.setattr(versions, "version", lambda _: since.format(major, minor, major + 1))
    assert not [said for said in off() if said.startswith(feature.name)]


@of_each_feature
def test_what_is_said_is_true_of_the_libraries_that_are_here(feature: Feature) -> None:
    assert has(feature.name) == bool(SEEN[feature.name]())


def table(first: str) -> list[str]:
    """Return the rows of a table of the document.

    Args:
        first: the name of its first column.
    """
    return DOCUMENT.partition(f"| {first} |")[2].partition("\n\n")[0].splitlines()[2:]


def test_the_document_has_the_same_table() -> None:
    rows = [f"| {each.name} | {each.library} {'.'.join(map(str, each.since))} | {each.instead} |" for each in FEATURES]
    assert table("off") == rows


def test_the_document_has_the_versions_that_the_tests_run_with() -> None:
    locks = [dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS]
    named = [row.split()[1] for row in table("library")]
    assert "celery" in named
    assert table("library") == [f"| {' | '.join([name, *(lock[name] for lock in locks)])} |" for name in named]
