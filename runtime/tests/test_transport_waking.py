"""An idle worker that waits for messages in Redis: it is told, it heals, and it asks seldom."""

import itertools
import random
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from supervised import Supervised
from testkit.redis import Redis
from testkit.waiting import comes_true
from transport_bed import ONE, calls, configured, execute, inside, names, sender, trap
from workers import messages, record, send, worker

from celeriac.transport.scripts import TURN
from celeriac.transport.waking import SLEEPERS

# Between two questions of a worker that nobody tells anything, in seconds. What comes sooner came
# because it was told.
SELDOM = 60
SOON = SELDOM / 2

UNTOLD = "does not tell of messages"

_numbers = itertools.count(1)


@pytest.fixture
def told(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a worker that must be told, for it asks by itself too seldom."""
    return configured(environment, polling_interval=SELDOM, socket_timeout=SELDOM)


def does(running: Supervised, environment: dict[str, str], redis: Redis) -> None:
    """See an idle worker execute a task soon, and be idle again."""
    name = f"task {next(_numbers)}"
    send(redis, name, 0)
    running.waits(lambda: f"ended {name}" in record(environment), name, within=SOON)
    # The acknowledgement goes with a question, which finds nothing.
    running.waits(lambda: messages(redis) == (0, 0), "acknowledgement", within=SOON)


def have_ended(environment: dict[str, str], number: int) -> bool:
    """Return whether so many tasks have ended."""
    return len(names(record(environment), "ended")) == number


def is_done(environment: dict[str, str], redis: Redis, queue: str, name: str) -> bool:
    """Return whether a task has ended, and is acknowledged."""
    return f"ended {name}" in record(environment) and messages(redis, queue) == (0, 0)


def waiting(redis: Redis) -> list[tuple[str, str]]:
    """Return who waits: the ids of the connection that asks, and of the one that is told."""
    with inside(redis) as client:
        connections = client.client_list()
    told = {each["id"] for each in connections if each["cmd"] == "subscribe"}
    return [(each["id"], each["redir"]) for each in connections if each["redir"] in told]


def touch(client: Any) -> None:
    """Change the queue, and leave it as it was."""
    client.lpush("celery", "")
    client.lpop("celery")


def test_any_of_many_lists_wakes(told: dict[str, str], redis: Redis) -> None:
    queues, steps = ["one", "two", "three"], [*range(10)]
    lists = [{"queue": queue, "priority": step} for queue in queues for step in steps]
    steps_known = configured(told, polling_interval=SELDOM, priority_steps=steps)
    with (
        worker(steps_known, ONE, f"--queues={','.join(queues)}") as only,
        sender(redis.url, priority_steps=steps) as send_one,
    ):
        for number, where in enumerate([lists[-1], *lists], 1):
            send_one(str(number), 0, **where)
            only.waits(partial(have_ended, told, number), f"task of {where}", SOON)
            only.waits(lambda: messages(redis) == (0, 0), "acknowledgement", SOON)
        # At any moment of a turn: just before an answer, just after it.
        for number in range(200):
            send_one(f"at random {number}", 0, **random.choice(lists))
            time.sleep(random.random() * 0.02)
        only.waits(partial(have_ended, told, 1 + len(lists) + 200), "end of all tasks", SOON)


def test_what_comes_before_an_empty_answer_is_not_missed(told: dict[str, str], redis: Redis) -> None:
    """The news of it can be there sooner than the answer: they come over two connections."""
    is_empty, is_news = threading.Event(), threading.Event()

    def hold() -> bool:
        is_empty.set()
        return is_news.wait(60)

    with trap(redis, told) as (way, through), worker(through, ONE) as only:
        does(only, told, redis)
        way.set("answered", TURN.sha.encode(), hold)
        with inside(redis) as client, client.pipeline() as nothing:
            touch(nothing)  # lets it ask
            nothing.execute()
        assert is_empty.wait(60)
        send(redis, "between", 0)
        time.sleep(1)  # for the news to be read
        is_news.set()
        only.waits(lambda: "ended between" in record(told), "executed task", SOON)


def test_it_heals(told: dict[str, str], redis: Redis) -> None:
    """Whatever is cut or forgotten: soon a message is announced again."""
    with worker(told, ONE) as only, inside(redis) as client:
        does(only, told, redis)
        ((_, is_told),) = both = waiting(redis)
        client.client_kill_filter(_id=is_told)
        only.waits(lambda: waiting(redis) not in ([], both), "new connection", SOON)
        does(only, told, redis)

        client.script_flush()
        does(only, told, redis)
        does(only, told, redis)

        for times in (2, 3):
            ((asks, is_told),) = waiting(redis)
            if times == 3:
                client.client_kill_filter(_id=is_told)
            client.client_kill_filter(_id=asks)
            only.told("STATUS=consuming", times=times)
            does(only, told, redis)
            does(only, told, redis)
        # Nobody is there to be told: Redis says that over the connection that asks.
        ((_, is_told),) = waiting(redis)
        with client.pipeline() as at_once:
            at_once.client_kill_filter(_id=is_told)
            touch(at_once)
            at_once.execute()
        does(only, told, redis)
        does(only, told, redis)
    log = only.log.read_text()
    assert "Unrecoverable" not in log
    assert UNTOLD not in log


def as_site(environment: dict[str, str], redis: Redis) -> dict[str, str]:
    """Return the environment of a worker that is this user."""
    return {**environment, "BROKER_URL": f"redis://site:secret@127.0.0.1:{redis.port}/0"}


@pytest.mark.usefixtures("acl")
def test_the_user_of_a_site_is_told(told: dict[str, str], redis: Redis) -> None:
    with worker(as_site(told, redis), ONE) as only:
        does(only, told, redis)
        does(only, told, redis)
        assert UNTOLD not in only.log.read_text()
        assert waiting(redis)


@pytest.mark.usefixtures("acl")
def test_who_may_not_be_told_asks_and_says_so(environment: dict[str, str], redis: Redis) -> None:
    with inside(redis) as client:
        execute(client, "ACL", "SETUSER", "site", "-client")
    with worker(as_site(environment, redis), ONE) as only:
        does(only, environment, redis)
        does(only, environment, redis)
        assert UNTOLD in only.log.read_text()
        assert not waiting(redis)


def sleepers(redis: Redis) -> int:
    """Return how many workers sleep while another one watches."""
    with inside(redis) as client:
        return sum(client.zcard(key) for key in client.keys(f"{SLEEPERS}*"))


@pytest.mark.parametrize("count", [1, 10], ids=["one queue", "ten queues in turn"])
def test_of_a_team_one_asks_and_once_for_each_message(count: int, environment: dict[str, str], redis: Redis) -> None:
    """Who takes the last message learns with it that there is no more, and the others sleep.

    A sleeper that has watched the queues before is told of each once: that is no call, and it asks nothing. Each has
    room for one more than it is sent, or it would call another while its task waits for a processor.
    """
    queues = [f"queue{number}" for number in range(count)]
    consumes = "--concurrency=2", f"--queues={','.join(queues)}"
    with (
        worker(environment, *consumes) as one,
        worker(environment, *consumes) as other,
        worker(environment, *consumes) as third,
        sender(redis.url) as send_one,
    ):
        for each in (one, other, third):
            each.told("READY=1")

        def do(times: int) -> None:
            for _ in range(times):
                for queue in queues:
                    name = f"task {next(_numbers)}"
                    send_one(name, 0, queue=queue)
                    one.waits(partial(is_done, environment, redis, queue, name), name, SOON)

        def settles() -> bool:
            do(1)
            return sleepers(redis) == 2

        assert comes_true(settles, 60)
        with inside(redis) as client:
            client.config_resetstat()
            since = client.time()[0]
            do(100 // count)
            asked, looked = calls(redis, "lmpop"), calls(redis, "del")
            seconds = client.time()[0] - since + 1
    # By itself each asks once a second, and who is called then asks too: 3 to 6 a second, the more the busier the
    # computer is (seen: 105 in 18 s). If all asked for each message, these would be 300.
    assert 100 <= asked <= 1.25 * 100 + 6 * seconds
    # So does each of the two that sleep, and one a second is called.
    assert looked <= 4 * seconds


@pytest.mark.parametrize("members", [2, 3])
def test_in_a_team_everybody_works_at_times(environment: dict[str, str], redis: Redis, members: int) -> None:
    """A new worker gets some of what comes: a deploy waits for that, and the old one is there.

    Who watches has room for more all the time: it calls nobody for want of it.
    """
    roomy = "--concurrency=4"
    with ExitStack() as stack:
        everybody = [stack.enter_context(worker(environment, roomy)) for _ in range(members)]
        one = everybody[0]
        for each in everybody:
            each.told("READY=1")

        def settles() -> bool:
            does(one, environment, redis)
            return sleepers(redis) == members - 1

        def executed() -> list[int]:
            return [each.log.read_text().count("succeeded in") for each in everybody]

        def all_work() -> bool:
            does(one, environment, redis)
            return all(map(int.__gt__, executed(), before))

        assert comes_true(settles, 60)
        before = executed()
        assert comes_true(all_work, 60), (before, executed())


def test_idle_workers_ask_about_once_a_second(environment: dict[str, str], redis: Redis) -> None:
    """The renewals of their leases, three in a second, wake nobody."""
    renewing = configured(environment, lease_seconds=1)
    with worker(renewing, ONE) as one, worker(renewing, ONE) as other:
        one.told("READY=1")
        other.told("READY=1")
        one.waits(lambda: len(waiting(redis)) == 2, "questions")
        with inside(redis) as client:
            client.config_resetstat()
            since = client.time()[0]
            assert comes_true(lambda: client.time()[0] >= since + 8, 60)
            asked, renewed = calls(redis, "lmpop"), calls(redis, "pexpire")
            seconds = client.time()[0] - since + 1
    # Fewer on a busy computer, never more.
    assert 2 <= asked <= 1.5 * 2 * seconds
    assert renewed > asked / 2, "the leases were not renewed"
