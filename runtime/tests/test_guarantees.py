"""Each task has the guarantee that the first one gives who says something of it, and status knows who that was."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from leased import kill, starts
from testkit.redis import Redis
from workers import messages, record, send, worker

from celeriac.configure import configure
from celeriac.guarantees import report

GUARANTEES = ("at_least_once", "at_most_once", "project")
SAYS = {"at_least_once": True, "at_most_once": False}
UNSAID_YES_NO = (None, True, False)


def nothing() -> None:
    """Do nothing."""


def choose(monkeypatch: pytest.MonkeyPatch, everywhere: str, **by_name: str) -> None:
    """Say what the inventory says."""
    monkeypatch.setenv("CELERIAC_TASK_GUARANTEE", everywhere)
    monkeypatch.setenv("CELERIAC_TASK_GUARANTEES", json.dumps(by_name))


def configured(early: bool, settings: dict[str, Any], **options: Any) -> tuple[Celery, Any]:
    """Return an app and its task, which the project has used before we see them, or not."""
    app = Celery(set_as_current=False)
    app.conf.update(settings)
    task = app.task(shared=False, name="mail.send", **options)(nothing)
    if early:
        assert task.name
    for _ in range(2):  # the second time nothing is taken for what the project has set
        configure(app, result_retries=1)
    return app, task


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("everywhere", GUARANTEES)
@pytest.mark.parametrize("chosen", [None, *GUARANTEES])
def test_the_first_that_says_something_decides(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, everywhere: str, early: bool
) -> None:
    choose(monkeypatch, everywhere, **({"mail.*": chosen} if chosen else {}))
    for annotation, own, setting in itertools.product(UNSAID_YES_NO, repeat=3):
        settings: dict[str, Any] = {} if setting is None else {"task_acks_late": setting}
        if annotation is not None:
            settings["task_annotations"] = {"mail.send": {"acks_late": annotation}}
        for_all = None if chosen == "project" or everywhere == "project" else everywhere
        said = [
            (SAYS.get(chosen or ""), "inventory"),
            (annotation, "project"),
            (own, "task"),
            (False if for_all == "at_most_once" else None, "inventory"),
            (setting, "project"),
            (True if for_all == "at_least_once" else None, "inventory"),
            (False, "project"),
        ]
        expected, who = next((value, who) for value, who in said if value is not None)

        app, task = configured(early, settings, **({} if own is None else {"acks_late": own}))

        for name in ("unlike", "unlike too"):  # two, so that this one is not like most
            app.task(shared=False, name=name, acks_late=not expected, reject_on_worker_lost=True)(nothing)
        kind = "at_least_once" if "at_least_once" in {chosen, for_all} else "neither"
        guarantee = (kind, "project" if kind == "neither" else who) if expected else ("at_most_once", who)
        assert bool(task.acks_late) is expected, (annotation, own, setting)
        assert report(app)["others"] == {"mail.send": guarantee}, (annotation, own, setting)


def test_a_name_goes_before_a_pattern_and_of_two_patterns_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"*.send": "at_least_once", "mail.*": "at_most_once", "mail.send": "at_most_once"}
    choose(monkeypatch, "project", **chosen)
    app, task = configured(False, {})
    others = [app.task(shared=False, name=name)(nothing) for name in ("letter.send", "mail.read", "mail.open.send")]
    assert [each.acks_late for each in (task, *others)] == [False, True, False, True]


def test_what_a_project_annotates_beside_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "at_least_once", **{"mail.send": "at_most_once"})
    annotations = [{"*": {"rate_limit": "1/m", "acks_late": True}}, {"mail.send": {"max_retries": 7}}]
    _, task = configured(False, {"task_annotations": annotations})
    assert (task.rate_limit, task.max_retries, task.acks_late) == ("1/m", 7, False)


@pytest.mark.parametrize(
    ("everywhere", "settings", "prefetch"),
    [
        ("at_least_once", {}, 1),
        ("at_least_once", {"worker_prefetch_multiplier": 4}, 4),
        ("at_most_once", {}, 4),
        ("project", {}, 4),
    ],
)
def test_with_late_acknowledgement_none_waits_behind_a_slow_one(
    monkeypatch: pytest.MonkeyPatch, everywhere: str, settings: dict[str, Any], prefetch: int
) -> None:
    choose(monkeypatch, everywhere)
    app, _ = configured(False, settings)
    assert app.conf.worker_prefetch_multiplier == prefetch


def test_tasks_that_are_not_the_projects_are_not_counted() -> None:
    app, _ = configured(False, {})
    assert "celery.chord" in app.tasks
    assert "celeriac.ping" in app.tasks
    assert report(app) == {"counts": {"at_least_once": 1}, "others": {}}


@pytest.mark.parametrize(("guarantee", "times"), [("at_least_once", 2), ("at_most_once", 1)])
def test_a_task_of_a_killed_worker_is_executed_as_often_as_its_guarantee_says(
    environment: dict[str, str], redis: Redis, guarantee: str, times: int
) -> None:
    environment = {**environment, "CELERIAC_TASK_GUARANTEES": json.dumps({"work.tasks.wait_*": guarantee})}
    held = 1 if guarantee == "at_least_once" else 0
    with worker(environment) as first:
        first.told("READY=1")
        send(redis, "gate", task="wait_for_file")
        first.waits(lambda: record(environment) == ["began gate"], "running task")
        first.waits(lambda: messages(redis) == (0, held), "message that is acknowledged, or is not")
        kill(first)
    (Path(environment["SCRATCH"]) / "gate").touch()
    with worker(environment, "--concurrency=1") as second:
        second.told("READY=1")
        second.waits(lambda: starts(environment)["gate"] == times, "task of the killed worker")
        send(redis, "last", 0)
        second.waits(lambda: "ended last" in record(environment), "task behind it")
    assert starts(environment)["gate"] == times


OWN = '''
"""A project with everything of its own that Celery lets one have."""
import json
import os
from pathlib import Path

import celery
from celery.backends.filesystem import FilesystemBackend
from celery.worker.request import Request
from kombu import Queue
from kombu.serialization import register

SCRATCH = Path(os.environ["SCRATCH"])


def note(word):
    with (SCRATCH / "record").open("a") as record:
        record.write(word + chr(10))


class Theirs(Request):
    def on_accepted(self, *args, **more):
        note("request")
        super().on_accepted(*args, **more)


class Task(celery.Task):
    Request = "own:Theirs"
    acks_late = None

    def before_start(self, *args):
        note("base")


class Results(FilesystemBackend):
    def store_result(self, task_id, result, state, *args, **more):
        note(f"result {state}")
        return super().store_result(task_id, result, state, *args, **more)


class App(celery.Celery):
    pass


def route(name, args, kwargs, options, task=None, **more):
    return {"queue": "other"} if name == "own.once" else None


register("own", lambda body: "own" + json.dumps(body), lambda text: json.loads(text[3:]), "application/x-own", "utf-8")
BACKEND = os.environ["OWN_BACKEND"] or None
# As an attribute of its class, Celery 5.4 puts a base for Django in its place.
app = App("own", broker=os.environ["BROKER_URL"], backend=BACKEND, task_cls=Task)
app.conf.update(
    task_routes=[route], task_queues=[Queue("other"), Queue("celery")], task_serializer="own",
    accept_content=["own", "json"], result_backend_transport_options={},
)


@app.task(shared=False, name="own.once", bind=True)
def once(self):
    """Lose the process the first time."""
    gone = SCRATCH / "gone"
    if not gone.exists():
        gone.touch()
        os._exit(1)
    note("ended " + self.request.delivery_info["routing_key"])
'''


# Packages that a project may be without: nothing of ours may import them then.
WITHOUT = """
import sys
sys.modules["django_celery_results"] = sys.modules["django_celery_beat"] = None
"""


@pytest.mark.parametrize("results", [True, False], ids=["own results", "no results"])
def test_what_is_a_projects_own_keeps_working(
    on_host: dict[str, str], project: Path, redis: Redis, results: bool
) -> None:
    (project / "own.py").write_text(OWN if results else WITHOUT + OWN)
    kept = Path(on_host["SCRATCH"]) / "results"
    kept.mkdir()
    environment = {
        **on_host,
        "BROKER_URL": redis.url,
        "CELERIAC_CELERY_APP": "own",
        "OWN_BACKEND": f"own.Results+file://{kept}" if results else "",
    }
    if not results:
        environment["CELERIAC_SETTINGS"] = '{"INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes"]}'
    with worker(environment) as running:
        running.told("READY=1")
        code = "from celeriac.app import app; import own; print(own.once.delay().id)"
        sent = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        running.waits(lambda: "ended other" in record(environment), "task that lost its process once")
        running.waits(lambda: messages(redis, "other") == (0, 0), "acknowledged task")
    assert {"request", "base"} <= {*record(environment)}
    assert ("result SUCCESS" in record(environment)) is results
    assert [sent.stdout.strip() in each.name for each in kept.iterdir()] == [True] * results
