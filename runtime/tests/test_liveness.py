"""Workers that hang are replaced, and those that only look like it are left alone."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest
from celery import Celery
from proxies import proxy
from supervised import Supervised
from testkit.redis import Redis
from workers import messages, record, send, worker

from celeriac.versions import has
from celeriac.worker import liveness

WATCHDOG_SECONDS = 6.0
FED = "WATCHDOG=1"
TRIGGERED = "WATCHDOG=trigger"


@pytest.fixture
def watched(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a unit with a watchdog."""
    return {**environment, "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}


def longest_silence(running: Supervised, since: float | None = None) -> float:
    """Return how long, at most, a process did not feed its watchdog, in seconds.

    Args:
        running: a process that has fed it at least once.
        since: from which time.monotonic() on; by default from when it first did.
    """
    fed = [when for when, text in [*running.notifications.messages] if text == FED]
    since = fed[0] if since is None else since
    times = [since, *(when for when in fed if when > since), time.monotonic()]
    return max(late - early for early, late in itertools.pairwise(times))


def fed_for(running: Supervised, seconds: float, watchdog: float = WATCHDOG_SECONDS) -> None:
    """Wait for a time, and until a process has fed its watchdog twice in each of its times by then.

    Args:
        running: the process.
        seconds: how long.
        watchdog: the time of its watchdog.
    """
    fed = running.notifications.texts().count(FED)
    time.sleep(seconds)
    running.told(FED, times=fed + int(2 * seconds / watchdog))


def is_hung(running: Supervised) -> bool:
    """Return whether systemd would end a process now."""
    told = "".join(running.notifications.texts())
    return TRIGGERED in told or longest_silence(running) > WATCHDOG_SECONDS


def abort(running: Supervised) -> None:
    """End a process as systemd's watchdog does, and wait until it is gone."""
    running.process.send_signal(signal.SIGABRT)
    running.process.send_signal(signal.SIGCONT)
    # It dies of the first signal while it writes down where its threads are. These run on, and
    # faulthandler, which reads their stacks all the same, may trip over one: that is its end too.
    assert running.process.wait(60) in {-signal.SIGABRT, -signal.SIGSEGV}


def replaced(running: Supervised, environment: dict[str, str], broker: Redis, *waiting: str) -> None:
    """Wait for the verdict on a worker, replace it, and prove that the next one works.

    Args:
        running: the worker.
        environment: of the next one.
        broker: of both.
        waiting: names of tasks that wait for the next one.
    """
    began = time.monotonic()
    running.waits(lambda: is_hung(running), "verdict")
    print(f"verdict after {time.monotonic() - began:.1f} s, WatchdogSec {WATCHDOG_SECONDS:g} s")
    abort(running)
    send(broker, "after", 0)
    with worker(environment) as next_one:
        for name in ("after", *waiting):
            ended = f"ended {name}"
            next_one.waits(lambda ended=ended: ended in record(environment), ended)


def command(broker: Redis, name: str) -> None:
    """Send a remote control command to all workers."""
    with Celery(broker=broker.url, set_as_current=False) as sender:
        sender.control.broadcast(name)


def running_worker(running: Supervised) -> None:
    """Wait until a worker is ready and has fed its watchdog twice."""
    running.told("READY=1")
    running.told(FED, times=2)


def test_a_worker_that_is_frozen_is_silent(watched: dict[str, str], redis: Redis) -> None:
    with worker(watched) as running:
        running_worker(running)
        running.process.send_signal(signal.SIGSTOP)
        replaced(running, watched, redis)
        assert TRIGGERED not in "".join(running.notifications.texts())


def test_an_event_loop_that_does_not_turn(watched: dict[str, str], redis: Redis) -> None:
    with worker(watched) as running:
        running_worker(running)
        command(redis, "wedge")
        replaced(running, watched, redis)
        reason = "the event loop has not ticked for"
        assert f"STATUS=hangs: {reason}" in running.told(TRIGGERED)
        log = running.log.read_text()
        assert f"ERROR/MainProcess] this worker hangs and is to be replaced: {reason}" in log
        assert "in wedge" in log.partition("Fatal Python error: Aborted")[2]


@pytest.mark.parametrize("loss", ["lose_credit", "lose_reply"])
def test_a_consumer_that_receives_nothing(watched: dict[str, str], redis: Redis, loss: str) -> None:
    with worker(watched) as running:
        running_worker(running)
        for _ in range(2):  # what is held for its ETA takes nobody's room
            send(redis, "held", 0, countdown=600)
        running.waits(lambda: messages(redis) == (0, 2), "held tasks")
        command(redis, loss)
        began = time.monotonic()
        while time.monotonic() < began + 2 * WATCHDOG_SECONDS:  # for nothing waits
            assert not is_hung(running)
            time.sleep(0.2)
        send(redis, "waits", 0)
        replaced(running, watched, redis, "waits")
        reason = "STATUS=hangs: 1 task(s) wait, 2 slot(s) are free, and nothing was received for"
        assert reason in running.told(TRIGGERED)


def test_half_open_connection_comes_back_with_a_sites_options(watched: dict[str, str], redis: Redis) -> None:
    with proxy(redis.port) as between:
        through = {
            **watched,
            "BROKER_URL": f"redis://127.0.0.1:{between.port}/0",
            "WATCHDOG_USEC": "60000000",
        }
        with worker(through) as running:
            running.told("READY=1")
            between.swallow()
            began = time.monotonic()
            time.sleep(2)  # until Redis has given up to answer on the dead connection
            send(redis, "a", 0)
            running.waits(lambda: "ended a" in record(watched), "executed task", within=60)
            print(f"half-open: executed after {time.monotonic() - began:.1f} s")
            assert TRIGGERED not in "".join(running.notifications.texts())


def test_a_half_open_connection_that_does_not_come_back_is_found_out(watched: dict[str, str], redis: Redis) -> None:
    with (
        proxy(redis.port) as between,
        worker({**watched, "BROKER_URL": f"redis://127.0.0.1:{between.port}/0"}) as running,
    ):
        running_worker(running)
        between.swallow()
        time.sleep(2)  # until Redis has given up to answer on the dead connection
        send(redis, "a", 0)
        replaced(running, watched, redis)


def test_a_worker_is_left_alone_while_its_broker_is_away(watched: dict[str, str], redis: Redis) -> None:
    with worker(watched) as running:
        running_worker(running)
        redis.stop()
        fed_for(running, 3 * WATCHDOG_SECONDS)
        redis.start()
        send(redis, "a", 0)
        running.waits(lambda: "ended a" in record(watched), "executed task")
        fed_for(running, WATCHDOG_SECONDS)
        assert TRIGGERED not in "".join(running.notifications.texts())


def test_a_broker_that_swallows_everything_is_away_too(watched: dict[str, str], redis: Redis) -> None:
    with proxy(redis.port) as between:
        more = {"CELERY_BROKER_TRANSPORT_OPTIONS": {"socket_timeout": 2, "health_check_interval": 2}}
        through = {
            **watched,
            "BROKER_URL": f"redis://127.0.0.1:{between.port}/0",
            "MORE_SETTINGS": json.dumps(more),
            "WATCHDOG_USEC": "12000000",
        }
        with worker(through) as running:
            running_worker(running)
            between.swallows_new = True
            between.swallow()
            fed_for(running, 24, watchdog=12)
            between.swallows_new = False
            deadline = time.monotonic() + 60
            while not record(watched):  # more than one: a dying connection may take one with it
                assert time.monotonic() < deadline, running.log.read_text()
                send(redis, "a", 0)
                time.sleep(2)
            assert TRIGGERED not in "".join(running.notifications.texts())


def test_workers_that_only_look_as_if_they_hung_are_left_alone(watched: dict[str, str], redis: Redis) -> None:
    """Of each kind one, at the same time, with a queue of its own that is not empty."""

    def tasks(name: str, number: int, task: str, *arguments: object) -> Callable[[], None]:
        def publish() -> None:
            for _ in range(number):
                send(redis, name, *arguments, task=task, queue=name)

        return publish

    def held() -> None:
        for _ in range(9):
            send(redis, "held", 0, queue="held", countdown=600)

    def paused() -> None:
        with Celery(broker=redis.url, set_as_current=False) as sender:
            sender.control.cancel_consumer("paused")
        time.sleep(2)
        send(redis, "paused", 0, queue="paused")

    kinds: dict[str, tuple[list[str], dict[str, object], Callable[[], None]]] = {
        "busy": ([], {}, tasks("busy", 5, "sleep", 600)),
        "solo": (["--pool=solo"], {}, tasks("solo", 5, "sleep", 600)),
        "limited": ([], {}, tasks("limited", 9, "once_an_hour")),
        "held": ([], {"CELERY_WORKER_ETA_TASK_LIMIT": 4}, held),
        "paused": ([], {}, paused),
    }
    if not has("limit of held tasks"):
        del kinds["held"]
    with ExitStack() as stack:
        workers = {}
        for name, (options, settings, _) in kinds.items():
            its_own = {**watched, "MORE_SETTINGS": json.dumps(settings)}
            workers[name] = stack.enter_context(worker(its_own, f"--queues={name}", *options))
        for running in workers.values():
            running_worker(running)
        for _, _, publish in kinds.values():
            publish()
        for running in workers.values():
            fed_for(running, 2.5 * WATCHDOG_SECONDS)
        for name, running in workers.items():
            assert messages(redis, name)[0] > 0, name
            assert running.process.poll() is None, name
            assert TRIGGERED not in "".join(running.notifications.texts()), running.log.read_text()


def test_without_a_watchdog_there_is_no_sign(environment: dict[str, str], redis: Redis) -> None:
    other = {**environment, "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": str(os.getpid())}
    with worker(environment) as one, worker(other) as another:
        for running in (one, another):
            running.told("READY=1")
        time.sleep(3)
        for running in (one, another):
            assert "WATCHDOG" not in "".join(running.notifications.texts())


@pytest.mark.parametrize("goes_away", [True, False], ids=["broker goes away", "broker answers"])
def test_a_loop_that_waits_for_a_broker_is_no_hang_whenever_that_went(
    goes_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still since up to a second before the broker's last word; a socket waits 10 s."""
    watchdog, tenth = 15.0, 0.1
    app = Celery(broker="memory://", set_as_current=False)
    for ticked, answered in itertools.product(range(10), range(25)):
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr(liveness, "monotonic", partial(getattr, clock, "now"))
        consumer = SimpleNamespace(create_task_handler=None, hub=1, task_consumer=None, pool=None)
        progress = liveness.ConsumerProgress(consumer, watchdog)
        verdicts = []
        with app.connection() as broker:
            for step in range(int(4 * watchdog / tenth)):
                clock.now += tenth
                stands = 200 <= step < 200 + 10 / tenth + 3  # a little longer than the socket
                if not stands and step % 10 == ticked:
                    progress.tick()
                if not (goes_away and step >= 200) and step % 25 == answered:
                    progress.ask_broker(broker, threading.Event())
                verdicts.append(progress.hangs())
        if goes_away:
            assert not any(verdicts), (ticked, answered)
        else:
            assert any(verdicts), (ticked, answered)
