"""A message belongs to a worker that lives: what becomes of it when that ends, or seems to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from environment import process_environment
from leased import (
    ELSEWHERE,
    FOR_EVER,
    client_of,
    ended,
    kill,
    lease_of,
    leased,
    nothing_left,
    of_holders,
    prefetching,
    queued,
    starts,
)
from supervised import Supervised
from testkit.redis import Redis
from workers import let_end, messages, send, worker

from celeriac.transport import identity

ONE = "--concurrency=1"
OTHERS = "--queues=others"  # of a worker that only looks after the rest


def begun(running: Supervised, environment: dict[str, str], **times: int) -> None:
    """Wait until tasks began so often."""
    running.waits(lambda: starts(environment) >= Counter(times), f"{times} began")


def holding(running: Supervised, environment: dict[str, str], redis: Redis) -> None:
    """Let a new worker run a task, ``long``."""
    running.told("READY=1")
    send(redis, "long", task="wait_for_file")
    begun(running, environment, long=1)


# Of a worker that ends.


def test_task_of_killed_worker_starts_on_its_sibling_at_once(environment: dict[str, str], redis: Redis) -> None:
    """It is seen to be dead: its lease would last for ten minutes."""
    environment = leased(environment, lease_seconds=FOR_EVER)
    with worker(environment) as first, worker(environment) as second:
        second.told("READY=1")
        first.told("READY=1")
        for name in ("a", "b", "c", "d"):
            send(redis, name, task="wait_for_file")
        begun(first, environment, a=1, b=1, c=1, d=1)
        kill(first)
        let_end_all(environment, "abcd")
        second.waits(lambda: ended(environment) == {*"abcd"}, "end of all tasks")
        nothing_left(second, redis)
        assert sorted(starts(environment).values()) == [1, 1, 2, 2]


def let_end_all(environment: dict[str, str], names: str) -> None:
    """Let some tasks with short names end."""
    for name in names:
        let_end(environment, name)


def test_task_of_killed_worker_starts_on_the_next_of_its_host(environment: dict[str, str], redis: Redis) -> None:
    environment = leased(environment, lease_seconds=FOR_EVER)
    with worker(environment) as first:
        holding(first, environment, redis)
        kill(first)
    let_end(environment, "long")
    with worker(environment) as second:
        nothing_left(second, redis)
        assert starts(environment) == {"long": 2}
        assert ended(environment) == {"long"}


def test_task_of_another_host_starts_when_its_lease_is_over(environment: dict[str, str], redis: Redis) -> None:
    """Nobody can see from there that it is dead."""
    environment = leased(environment, lease_seconds=4)
    with worker(environment) as first, worker({**environment, **ELSEWHERE}, OTHERS) as looks:
        holding(first, environment, redis)
        looks.told("READY=1")
        lease = lease_of(redis, first)
        kill(first)
        with client_of(redis) as client:
            assert client.persist(lease)
            time.sleep(6)  # two looks, and more than its time to live
            assert messages(redis) == (0, 1)
            client.pexpire(lease, 1)
        looks.waits(lambda: messages(redis) == (1, 0), "message back in the queue")


def test_what_comes_back_is_in_front_of_the_queue_in_its_old_order(environment: dict[str, str], redis: Redis) -> None:
    environment = leased(environment, prefetching(4), lease_seconds=FOR_EVER)
    with worker(environment, ONE) as first, worker(environment, OTHERS) as looks:
        looks.told("READY=1")
        holding(first, environment, redis)
        for number in range(6):
            send(redis, f"{number}", 0)
        first.waits(lambda: messages(redis) == (3, 4), "messages taken in advance")
        kill(first)
        looks.waits(lambda: messages(redis) == (7, 0), "messages back in the queue")
        assert queued(redis) == ["long", *(f"{number}" for number in range(6))]


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_worker_that_has_ended_leaves_no_key_behind(environment: dict[str, str], redis: Redis, end: str) -> None:
    environment = leased(environment, lease_seconds=FOR_EVER)
    with worker(environment) as first, worker(environment, OTHERS) as looks:
        looks.told("READY=1")
        first.told("READY=1")
        send(redis, "a", 0)
        first.waits(lambda: ended(environment) == {"a"}, "end of a task")
        first.waits(lambda: of_holders(redis) == (2, 2, 2), "two holders")
        kill(first) if end == "killed" else first.stop()
        looks.waits(lambda: of_holders(redis) == (1, 1, 1), "one holder")


# Of a worker that lives.


def test_task_held_over_the_visibility_timeout_runs_once(environment: dict[str, str], redis: Redis) -> None:
    environment = leased(environment, visibility_timeout=3, unacked_restore_interval=1, unacked_restore_throttle=1)
    eight = "--concurrency=8"
    with worker(environment, eight) as first, worker(environment, eight) as second:
        first.told("READY=1")
        second.told("READY=1")
        for name in ("a", "b", "c"):
            send(redis, name, task="wait_for_file")
            send(redis, f"{name} later", 0, countdown=12)
        first.waits(lambda: len(ended(environment)) == 3, "end of those with a countdown")
        let_end_all(environment, "abc")
        nothing_left(first, redis)
        names = [name + when for name in "abc" for when in ("", " later")]
        assert starts(environment) == dict.fromkeys(names, 1)


def test_worker_that_drains_over_its_lease_keeps_what_it_runs(environment: dict[str, str], redis: Redis) -> None:
    environment = leased({**environment, "CELERIAC_DRAIN_SECONDS": "600"}, lease_seconds=3)
    with worker(environment) as first, worker({**environment, **ELSEWHERE}) as second:
        second.told("READY=1")
        first.told("READY=1")
        send(redis, "a", task="wait_for_file")
        send(redis, "b", task="wait_for_file")
        send(redis, "c", task="wait_for_file")
        begun(second, environment, a=1, b=1, c=1)
        first.process.send_signal(signal.SIGTERM)
        first.told("STOPPING=1")
        time.sleep(9)
        let_end_all(environment, "abc")
        first.process.wait(60)
        nothing_left(second, redis)
        assert starts(environment) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_gives_nothing_out_twice(environment: dict[str, str], redis: Redis, hours: int) -> None:
    """One of two workers lives in another hour, which is more than the visibility timeout."""
    environment = leased(
        environment,
        visibility_timeout=600,
        unacked_restore_interval=1,
        unacked_restore_throttle=1,
        lease_seconds=3,
    )
    shifted = {"MORE_APPS": "work.shifted", "CLOCK_SHIFT": str(3600 * hours)}
    with worker(environment) as right, worker({**environment, **shifted, **ELSEWHERE}) as wrong:
        right.told("READY=1")
        wrong.told("READY=1")
        for name in ("a", "b", "c", "d"):
            send(redis, name, task="wait_for_file")
        begun(right, environment, a=1, b=1, c=1, d=1)
        time.sleep(6)  # two leases, and as many looks for what is old
        let_end_all(environment, "abcd")
        nothing_left(wrong, redis)
        assert starts(environment) == {"a": 1, "b": 1, "c": 1, "d": 1}


# Of a worker that was thought dead.


@contextmanager
def frozen(running: Supervised) -> Iterator[None]:
    """Let a worker with all of its processes stand still until the block ends."""
    os.killpg(running.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(running.process.pid, signal.SIGCONT)


def test_of_a_worker_that_stood_still_only_what_ran_runs_twice(
    environment: dict[str, str], redis: Redis, scratch: Path
) -> None:
    """What it had not begun is another's then; its acknowledgements take nothing from that one."""
    (scratch / "second").mkdir()
    environment = leased(environment, prefetching(4), lease_seconds=3)
    elsewhere = {**environment, "SCRATCH": str(scratch / "second")}
    queues = "--queues=celery,first"
    with worker(environment, ONE, queues) as first, worker(elsewhere) as second:
        second.told("READY=1")
        second.process.send_signal(signal.SIGSTOP)  # so that the first gets everything
        first.told("READY=1")
        send(redis, "later", 0, countdown=20)
        first.waits(lambda: messages(redis) == (0, 1), "task with a countdown")
        send(redis, "long", task="wait_for_file")
        begun(first, environment, long=1)
        for number in range(3):
            send(redis, f"{number}", 0)
        first.waits(lambda: messages(redis) == (0, 5), "messages taken in advance")
        with frozen(first):
            second.process.send_signal(signal.SIGCONT)
            begun(second, environment, long=2)
            second.waits(lambda: len(ended(environment)) == 4, "end of what had not begun")
        second.waits(lambda: "are dropped here" in first.log.read_text(), "word of the first")
        let_end(environment, "long")
        first.waits(lambda: "long" in ended(environment), "end of what the first runs")
        send(redis, "next", 0, queue="first")  # what was acknowledged before is said with it
        first.waits(lambda: "next" in ended(environment), "end of the first's next task")
        first.waits(lambda: messages(redis) == (0, 1), "acknowledgement of that")
        kill(second)
        nothing_left(first, redis)
        once = dict.fromkeys(("0", "1", "2", "later", "next"), 1)
        assert starts(environment) == {**once, "long": 3}


# Of workers that lose Redis.


def test_everything_runs_once_when_redis_is_away_over_a_lease(environment: dict[str, str], kept_redis: Redis) -> None:
    """All leases are over then, and nobody is dead."""
    losing_redis(environment, kept_redis, kept_redis.stop)


def test_everything_runs_once_when_all_connections_are_cut(environment: dict[str, str], kept_redis: Redis) -> None:
    def cut() -> None:
        with client_of(kept_redis) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind)

    losing_redis(environment, kept_redis, cut)


def losing_redis(environment: dict[str, str], redis: Redis, lose: Callable[[], None]) -> None:
    """Let two workers lose Redis while they run four tasks, and hold others."""
    environment = leased({**environment, "BROKER_URL": redis.url}, prefetching(4), lease_seconds=3)
    elsewhere = {**environment, **ELSEWHERE}
    one, two = ("--queues=one",), ("--queues=two",)
    with worker(environment, *one) as first, worker(elsewhere, *two) as second:
        workers = {"one": first, "two": second}
        for queue, each in workers.items():
            each.told("READY=1")
            send(redis, f"later {queue}", 0, countdown=12, queue=queue)
        first.waits(lambda: messages(redis, "one") == messages(redis, "two") == (0, 2), "both")
        for queue in workers:
            for name in "ab":
                send(redis, f"{name} {queue}", task="wait_for_file", queue=queue)
        first.waits(lambda: len(starts(environment)) == 4, "running tasks")
        for queue in workers:
            for number in range(6):
                send(redis, f"{number} {queue}", 0, queue=queue)
        first.waits(lambda: messages(redis, "one") == messages(redis, "two") == (0, 18), "all")
        lose()
        for each in workers.values():
            each.told("STATUS=waiting for the broker", times=2)
        time.sleep(4)
        redis.start()
        for each in workers.values():
            each.told("STATUS=consuming", times=2)
        time.sleep(6)  # until each believes a lease again
        names = [f"{name} {queue}" for name in (*"ab012345", "later") for queue in workers]
        for name in names:
            let_end(environment, name)
        first.waits(lambda: ended(environment) == {*names}, "end of all")
        nothing_left(second, redis)
        assert starts(environment) == dict.fromkeys(names, 1)


# Who is dead.


LIVES = """
import sys
from celeriac.transport import identity
print(identity.own(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that says who it is, and lives on."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(Path("/nowhere"), Path("/nowhere")),
    )
    yield process
    process.kill()
    process.communicate()


def told_by(child: "subprocess.Popen[str]") -> identity.Identity:
    """Return who a process says that it is."""
    assert child.stdout is not None
    who: identity.Identity = json.loads(child.stdout.readline())
    return who


def test_a_process_that_lives_is_not_dead(child: "subprocess.Popen[str]") -> None:
    assert not identity.is_dead(json.loads(identity.own()))
    assert not identity.is_dead(told_by(child))


def test_killed_process_is_dead_whether_or_not_its_parent_knows(
    child: "subprocess.Popen[str]",
) -> None:
    who = told_by(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity.is_dead(who)
    child.wait()
    assert identity.is_dead(who)


def test_a_process_whose_number_another_has_is_dead() -> None:
    who: identity.Identity = json.loads(identity.own())
    assert identity.is_dead({**who, "start": str(int(who["start"]) - 1)})


@pytest.mark.parametrize("host", ["", "00000000000000000000000000000000 pid:[4026531836]"])
def test_of_a_process_of_another_host_nobody_can_say_that_it_is_dead(child: "subprocess.Popen[str]", host: str) -> None:
    who = told_by(child)
    child.kill()
    child.wait()
    assert not identity.is_dead({**who, "host": host})


ASKS = """
import json, sys
from celeriac.transport import identity
print(*(identity.is_dead(json.loads(who)) for who in sys.argv[1:]))
"""


def test_a_process_that_may_not_be_signalled_is_not_dead(child: "subprocess.Popen[str]") -> None:
    """Asked by another user, of whom one is needed that can read this package."""
    living, dead = told_by(child), told_by_dead()
    user = "nobody" if os.geteuid() == 0 else None
    first = living if user else {**living, "pid": 1, "start": identity._started(1) or ""}
    asked = subprocess.run(
        [sys.executable, "-c", ASKS, json.dumps(first), json.dumps(dead)],
        env=process_environment(Path("/nowhere"), Path("/nowhere")),
        user=user,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == ["False", "True"]


def told_by_dead() -> identity.Identity:
    """Return a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    who: identity.Identity = json.loads(identity.own())
    return {**who, "pid": process.pid, "start": "1"}
