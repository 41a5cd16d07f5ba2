"""The scripts of the transport, and who calls them, against a model; they may end between any two.

A holder takes, acknowledges, gives back and looks for others as a worker does, and its calls may
stop after any command, with or without what Redis answers to that. It may be gone then, or go on
over the next connection. The model knows where each message is by the rules; Redis must agree.
"""

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import redis as redis_client
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kombu.utils.encoding import bytes_to_str
from testkit.redis import Redis

from celeriac.transport import identity, scripts
from celeriac.transport.channel import _Channel
from celeriac.transport.holder import HELD, HOLDERS, Holder
from celeriac.transport.parking import PARKED, UNFINISHED, release
from celeriac.transport.recovery import Keys, Recovery
from celeriac.transport.scripts import TURN

LISTS = ["first", "second"]
PREFIX = "site:"
ASKED = SimpleNamespace(keys=[PREFIX + each for each in LISTS], no_ack="")
KEYS = Keys(PREFIX, f"{PREFIX}unacked", f"{PREFIX}unacked_index")
DELIVERIES = 2
FULL = bool(os.environ.get("CELERIAC_FULL"))
LONG = 32  # of a list from which several are taken in one turn

numbers = st.integers(0, 1000)
stops = st.one_of(st.none(), st.tuples(st.integers(0, 6), st.booleans()))


class Stopped(Exception):
    """A holder's call has ended before its time."""


class Client(redis_client.Redis):
    """A client that may be stopped, or overtaken by others, before any of its commands.

    Attributes:
        stop: after so many more commands, and whether the last one still gets to Redis.
        meanwhile: after so many more commands, and what is done before the next one.
    """

    stop: tuple[int, bool] | None = None
    meanwhile: tuple[int, Callable[[], None]] | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command, or lose the connection."""
        if self.meanwhile is not None:
            left, others = self.meanwhile
            self.meanwhile = (left - 1, others) if left else None
            if not left:
                others()
        if self.stop is not None:
            left, arrives = self.stop
            self.stop = (left - 1, arrives) if left else None
            if not left:
                if arrives:
                    super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
                raise Stopped
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


@dataclass
class Deed:
    """What a holder is doing.

    Attributes:
        acked: the tags that it acknowledges, each with the name under which it was taken.
        gives_back: the tags of what it gives back of its own; None: of all that it has forgotten.
        reason: why that did not end.
        last: it puts that behind the others.
        by_lease: it believes that a holder is gone when only its lease is.
    """

    acked: dict[str, str] = field(default_factory=dict)
    gives_back: set[str] | None = None
    reason: str = ""
    last: bool = False
    by_lease: bool = True


class Worker:
    """A holder, and what it does as a worker does it."""

    def __init__(self, url: str) -> None:
        self.client: Any = Client.from_url(url)
        self.holder = Holder(self.client, PREFIX, 600)
        self.holder._renewal = threading.current_thread()  # its lease is renewed by a rule
        self.recovery = Recovery(self.client, KEYS, self.holder, DELIVERIES)
        self.holder.renew()

    def turn(self, wanted: int) -> None:
        """Ask, and say what is acknowledged."""
        holder = self.holder
        if any(name != holder.name for name in holder.acks.values()):
            self.say()
        said = list(holder.acks)
        channel: Any = _Channel
        keys, question = channel._question(self, ASKED, wanted)
        try:
            answer = TURN(self.client, *question, *said, keys=keys)
        except redis_client.exceptions.ResponseError as error:
            assert str(error).startswith("NOLEASE")
            holder.invalidate()
            holder.renew()
            return
        holder.acks_sent(said)
        for tag in (answer or [])[2::3]:
            holder.mark_taken(tag.decode())

    def ack(self, tag: str) -> None:
        """Acknowledge a message; Redis is told later."""
        self.holder.acks[tag] = self.holder.taken.pop(tag)

    def say(self) -> None:
        """Tell Redis what is acknowledged."""
        self.holder.acknowledge(KEYS.unacked, KEYS.index)

    def connect(self) -> None:
        """Go on over a new connection; what is acknowledged is said with the next question."""
        self.holder.renew()
        self.recovery.requeue_forgotten()


@dataclass
class Place:
    """Where a message is.

    Attributes:
        kind: it is in a list, or held, or parked.
        of: the list, the holder, or the list that it was parked from.
        unfinished: how often it did not end.
    """

    kind: str
    of: str
    unfinished: int = 0


class State:
    """What Redis has at one moment.

    Attributes:
        places: of each message, all that there are.
        lists: the tags in each list, in the order in which they are taken.
        leases: the names of those holders whose lease lasts.
        alive: the names of those holders that cannot be seen to be dead.
    """

    def __init__(self, client: "redis_client.Redis") -> None:
        self.places: dict[str, list[Place]] = {}
        pipeline = client.pipeline(transaction=True)
        for each in LISTS:
            pipeline.lrange(PREFIX + each, 0, -1)
        pipeline.hgetall(KEYS.unacked)
        pipeline.zrange(KEYS.index, 0, -1)
        pipeline.hgetall(PREFIX + PARKED)
        pipeline.hgetall(PREFIX + HOLDERS)
        pipeline.keys(f"{PREFIX}celeriac.*")
        *lists, unacked, index, parked, holders, keys = pipeline.execute()
        self.lists = {}
        for name, texts in zip(LISTS, lists, strict=True):
            messages = [json.loads(text) for text in reversed(texts)]
            self.lists[name] = [self._add(message, Place("list", name)) for message in messages]
        begin = f"{PREFIX}celeriac.held."
        held = [key.decode().removeprefix(begin) for key in keys if key.startswith(begin.encode())]
        for name in held:
            pipeline.hkeys(begin + name)
        noted = {tag.decode(): json.loads(text)[0] for tag, text in unacked.items()}
        seen = []
        for name, tags in zip(held, pipeline.execute(), strict=True):
            for tag in filter(None, (each.decode() for each in tags)):
                self._add(noted[tag], Place("held", name))
                seen.append(tag)
                assert name.encode() in holders  # or nobody would ever look there
        assert sorted(seen) == sorted(noted) == sorted(tag.decode() for tag in index)
        for text in parked.values():
            found = json.loads(text)
            self._add(json.loads(found["message"]), Place("parked", found["list"]), found["times"])
        begin = f"{PREFIX}celeriac.lease."
        self.leases = {key.decode().removeprefix(begin) for key in keys if key.startswith(begin.encode())}
        self.alive = {name.decode() for name, who in holders.items() if not identity.is_dead(json.loads(who))}

    def _add(self, message: dict[str, Any], place: Place, times: int | None = None) -> str:
        tag: str = message["properties"]["delivery_tag"]
        place.unfinished = message["properties"].get(UNFINISHED, 0) if times is None else times
        self.places.setdefault(tag, []).append(place)
        return tag


class Broker(RuleBasedStateMachine):
    """Some holders, and the messages of two lists.

    Each rule is one step, that ends with `agrees`: what is where by then, and how it may have come
    there from where it was.
    """

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.client = redis_client.Redis.from_url(self.url)
        self.client.flushall()
        self.workers = [Worker(self.url) for _ in range(3)]
        self.tags = itertools.count()
        self.taken = itertools.count()
        self.order: dict[str, int] = {}  # in which the messages were taken the last time
        self.robbed: set[str] = set()  # holders from which somebody has taken something
        self.begun: set[str] = set()  # of those that are held, and did not end before
        self.state = State(self.client)

    def teardown(self) -> None:
        """Close all connections."""
        for each in self.workers:
            each.client.close()
        self.client.close()

    def one(self, number: int) -> Worker:
        """Return one of the holders."""
        return self.workers[number % len(self.workers)]

    def step(
        self,
        actor: Worker,
        call: Callable[[], object],
        stop: tuple[int, bool] | None,
        deed: Deed | None = None,
        meanwhile: tuple[int, Callable[[], None]] | None = None,
    ) -> bool:
        """Let a holder do something, and see that no message went where it must not.

        Args:
            actor: the holder.
            call: what it does.
            stop: after how many commands it ends before its time.
            deed: what that is.
            meanwhile: after how many commands others do something, and what.

        Returns:
            Whether it came to its end.
        """
        deed = deed or Deed()
        before, name = self.state, actor.holder.name

        def see() -> None:
            nonlocal before
            self.state = State(self.client)
            self.agrees(before, self.state, actor, name, deed)
            before = self.state

        def others() -> None:
            nonlocal before
            see()
            meanwhile[1]()  # type: ignore[index]
            before = self.state

        actor.client.stop = stop
        actor.client.meanwhile = (meanwhile[0], others) if meanwhile else None
        try:
            call()
            ended = True
        except Stopped:
            ended = False
        actor.client.stop = actor.client.meanwhile = None
        see()
        for tag, taken_as in deed.acked.items() if ended else ():
            assert ("held", taken_as) not in self.held(tag), "what was acknowledged is there"
        return ended

    def agrees(self, before: State, after: State, actor: Worker, name: str, deed: Deed) -> None:
        """Check that messages are where they were, but for what the holder may have moved."""
        moved: dict[str, dict[str, list[str]]] = {}
        for tag, (was,) in before.places.items():
            (now,) = after.places.get(tag, [None])  # never in two places
            if now is None:
                assert was.kind == "held"
                assert deed.acked.get(tag) == was.of
            elif was.kind == "list" and now.kind == "held":
                assert now.of in {name, actor.holder.name}
            elif now != was:
                self.moved(tag, was, now, name, deed, before)
                self.robbed |= {was.of} - {name}
                moved.setdefault(now.of, {}).setdefault(was.of, []).append(tag)
        assert after.places.keys() <= before.places.keys()
        for each, old in before.lists.items():
            self.keeps_order(old, after.lists[each], moved.get(each, {}), deed.last)
        for each in LISTS:  # what was taken, was taken from the front
            for tag in before.lists[each]:
                if after.places[tag][0].kind == "held":
                    self.order[tag] = next(self.taken)
                    self.begun.discard(tag)

    def moved(self, tag: str, was: Place, now: Place, name: str, deed: Deed, before: State) -> None:
        """Check that a message may have moved, and was counted if it had to be."""
        assert was.kind == "held"
        if was.of == name or tag in (deed.gives_back or ()):
            assert deed.gives_back is None or tag in deed.gives_back
            counted = bool(deed.reason)
        else:
            over = deed.by_lease and was.of not in before.leases
            assert over or was.of not in before.alive
            counted = not was.unfinished or tag in self.begun
        expected = was.unfinished + counted
        kind = "parked" if counted and expected >= DELIVERIES else "list"
        assert (now.kind, now.unfinished) == (kind, expected)

    def keeps_order(self, old: list[str], new: list[str], moved: dict[str, list[str]], last: bool) -> None:
        """Check that what came back is in front, in the order in which it was taken."""
        came = {tag for tags in moved.values() for tag in tags}
        left = [tag for tag in new if tag not in came]
        assert left == [tag for tag in old if tag in new]
        if not last:
            came &= {*new}
            assert {*new[: len(came)]} == came
        for tags in moved.values():
            there = [tag for tag in new if tag in tags]
            assert there == sorted(there, key=lambda tag: self.order[tag])

    # What happens.

    @initialize(number=st.sampled_from([3, LONG + 8]))
    def begins(self, number: int) -> None:
        """There are messages from before, often more than anybody takes at once."""
        self.publish("first", number)
        self.publish("second", 10)

    @rule(each=st.sampled_from(LISTS), number=st.sampled_from([1, 2, 5, LONG + 8]))
    def publish(self, each: str, number: int) -> None:
        """Somebody sends messages, by kombu."""
        for _ in range(number):
            tag = f"tag-{next(self.tags)}"
            message = {
                "body": "W1tdLCB7fSwge31d",
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {"id": tag, "task": "work", "argsrepr": '"properties": {'},
                "properties": {
                    "correlation_id": tag,
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": each},
                    "priority": 0,
                    "body_encoding": "base64",
                    "delivery_tag": tag,
                },
            }
            self.client.lpush(PREFIX + each, json.dumps(message))
        self.state = State(self.client)

    @rule(
        who=numbers,
        wanted=st.integers(1, 10),
        begin=st.booleans(),
        stop=stops,
        lives=st.booleans(),
    )
    def take(self, who: int, wanted: int, begin: bool, stop: tuple[int, bool] | None, lives: bool) -> None:
        """A worker asks for messages, and says what it has acknowledged; some begin at once."""
        actor = self.one(who)
        acked = self.said(actor)
        had = {*actor.holder.taken}
        if not self.step(actor, lambda: actor.turn(wanted), stop, Deed(acked)):
            self.lost(actor, lives)
            return
        took = [each for each in actor.holder.taken if each not in had]
        held = {tag for tag, (place,) in self.state.places.items() if place.kind == "held"}
        assert {*took} <= held
        assert len(took) <= wanted
        for tag in took[:-1] if begin else []:
            self.begin_one(actor, tag)

    @rule(who=numbers, wanted=st.integers(1, 10))
    def work(self, who: int, wanted: int) -> None:
        """A worker does what it has, and asks for more."""
        actor = self.one(who)
        for tag in [*actor.holder.taken]:
            actor.ack(tag)
        self.take(who, wanted, False, None, True)

    @rule(who=numbers, which=st.lists(numbers, min_size=1, max_size=6))
    def acknowledge(self, who: int, which: list[int]) -> None:
        """Tasks end."""
        actor = self.one(who)
        for number in which:
            if actor.holder.taken:
                actor.ack([*actor.holder.taken][number % len(actor.holder.taken)])

    @rule(who=numbers, stop=stops, lives=st.booleans())
    def say(self, who: int, stop: tuple[int, bool] | None, lives: bool) -> None:
        """A worker says what it has acknowledged, without a question."""
        actor = self.one(who)
        if not self.step(actor, actor.say, stop, Deed(self.said(actor))):
            self.lost(actor, lives)

    @rule(
        who=numbers,
        which=st.lists(numbers, min_size=1, max_size=60),
        reason=st.sampled_from(["", "its process was killed"]),
        last=st.booleans(),
        stop=stops,
        lives=st.booleans(),
    )
    def give_back(
        self,
        who: int,
        which: list[int],
        reason: str,
        last: bool,
        stop: tuple[int, bool] | None,
        lives: bool,
    ) -> None:
        """As a drain does, or a task that did not end; not with what is acknowledged."""
        actor = self.one(who)
        taken = [*actor.holder.taken]
        tags = list(dict.fromkeys(taken[number % len(taken)] for number in which if taken))
        if last:
            tags = tags[:1]

        def call() -> None:
            actor.recovery.requeue_own(tags, reason=reason, last=last)

        if not self.step(actor, call, stop, Deed({}, {*tags}, reason, last)):
            self.lost(actor, lives)

    @rule(who=numbers, which=numbers)
    def begin(self, who: int, which: int) -> None:
        """As before a message that did not end before goes to the pool."""
        actor = self.one(who)
        taken = [*actor.holder.taken]
        if taken:
            self.begin_one(actor, taken[which % len(taken)])

    @rule(who=numbers, by_lease=st.booleans(), stop=stops, lives=st.booleans())
    def look(self, who: int, by_lease: bool, stop: tuple[int, bool] | None, lives: bool) -> None:
        """A worker looks for those that are gone."""
        actor = self.one(who)
        before = self.state
        looks = partial(actor.recovery.scan, by_lease=by_lease)
        if not self.step(actor, looks, stop, Deed(by_lease=by_lease)):
            self.lost(actor, lives)
            return
        for (place,) in self.state.places.values():
            if place.kind == "held" and place.of != actor.holder.name:
                assert place.of in before.alive
                assert place.of in before.leases or not by_lease

    @rule(who=numbers)
    def renew(self, who: int) -> None:
        """A holder from which nobody has taken anything goes on; any other begins anew."""
        actor = self.one(who)
        name = actor.holder.name
        had = [place for (place,) in self.state.places.values() if (place.kind, place.of) == ("held", name)]
        known = {tag for tag, of in actor.holder.taken.items() if of == name}
        robbed = not self.client.hexists(actor.holder.held, "")
        assert not (robbed and had and not self.is_half_robbed(name))
        lost = actor.holder.renew()
        assert (lost is not None) == robbed
        assert robbed or name not in self.robbed
        assert lost is None or lost == known
        self.state = State(self.client)
        assert actor.holder.name in self.state.leases

    def is_half_robbed(self, name: str) -> bool:
        """Return whether who took it all away has ended in between."""
        return name not in self.state.leases

    @rule(who=numbers, how=st.sampled_from(["stands still", "is seen to be dead", "is dead"]))
    def end(self, who: int, how: str) -> None:
        """A lease is not renewed, or a worker is killed; and another looks at once."""
        actor = self.one(who)
        if how == "stands still":
            self.client.delete(actor.holder.lease)
            self.state = State(self.client)
        else:
            self.dies(actor, seen=how == "is seen to be dead")
        other = self.one(who + 1)
        by_lease = bool(who % 2)
        looks = partial(other.recovery.scan, by_lease=by_lease)
        self.step(other, looks, None, Deed(by_lease=by_lease))

    @rule(
        who=numbers,
        what=st.sampled_from(["look", "look", "say", "begin", "give back"]),
        after=st.integers(0, 5),
        other=st.sampled_from([1, 2]),
        others=st.lists(
            st.sampled_from(["renew", "look", "take", "work", "stand still"]),
            min_size=1,
            max_size=3,
        ),
    )
    def overtake(self, who: int, what: str, after: int, other: int, others: list[str]) -> None:
        """A worker does something, and before one of its commands others do, or all."""
        actor, taken = self.one(who), [*self.one(who).holder.taken]
        deed = Deed()
        call: Callable[[], object] = partial(actor.recovery.scan, by_lease=True)
        robbed = self.one(who + 1) if what == "look" else actor
        self.client.delete(robbed.holder.lease)
        self.state = State(self.client)
        if what == "say":
            deed, call = Deed(self.said(actor)), actor.say
        elif what == "begin" and taken:
            call = partial(actor.recovery.mark_started, taken[who % len(taken)])
        elif what == "give back":
            deed = Deed(gives_back={*taken})
            call = partial(actor.recovery.requeue_own, taken)

        def meanwhile() -> None:
            for number, each in enumerate(others):
                self.quickly(who + other * (1 + number % 2), each)

        marked = {tag for tag in taken if what == "begin" and tag == taken[who % len(taken)]}
        self.step(actor, call, None, deed, (after, meanwhile))
        for tag in marked:
            self.begun |= self.is_marked(tag)

    def quickly(self, who: int, what: str) -> None:
        """Let a worker do something between two commands of another."""
        actor = self.one(who)
        if what == "look":
            self.step(actor, partial(actor.recovery.scan, by_lease=True), None)
        elif what == "renew":
            self.step(actor, actor.holder.renew, None)
        elif what == "take":
            self.take(who, 3, False, None, True)
        elif what == "work":
            self.work(who, 3)
        else:
            self.client.delete(actor.holder.lease)
            self.state = State(self.client)

    @rule(which=numbers)
    @precondition(lambda self: self.client.hlen(PREFIX + PARKED))
    def release(self, which: int) -> None:
        """Two release the same message at once, and a third one later."""
        tags = sorted(self.client.hkeys(PREFIX + PARKED))
        tag = bytes_to_str(tags[which % len(tags)])
        slow: Any = Client.from_url(self.url)
        first = []
        slow.meanwhile = 1, lambda: first.append(release(self.client, tag, PREFIX))
        assert not release(slow, tag, PREFIX)
        assert not release(self.client, tag, PREFIX)
        slow.close()
        assert first == [True]
        self.state = State(self.client)
        (place,) = self.state.places[tag]
        assert (place.kind, place.unfinished) == ("list", 0)
        assert self.state.lists[place.of][-1] == tag

    # Helpers.

    def begin_one(self, actor: Worker, tag: str) -> None:
        """Note that a message begins, if it is still this holder's."""
        actor.recovery.mark_started(tag)
        if Place("held", actor.holder.taken[tag], self.unfinished(tag)) in self.places_of(tag):
            self.begun.add(tag)
        self.state = State(self.client)

    def is_marked(self, tag: str) -> set[str]:
        """Return a tag if it is marked as begun where it is held."""
        held = (place.of for place in self.places_of(tag) if place.kind == "held")
        places = [self.client.hget(f"{PREFIX}{HELD}{name}", tag) for name in held]
        return {tag for place in places if place and place.split()[1] == b"B"}

    def places_of(self, tag: str) -> list[Place]:
        """Return where a message is: in one place, or nowhere."""
        return self.state.places.get(tag, [])

    def unfinished(self, tag: str) -> int:
        """Return how often a message did not end."""
        return self.state.places[tag][0].unfinished if tag in self.state.places else 0

    def said(self, actor: Worker) -> dict[str, str]:
        """Return what is acknowledged with the next word of a holder."""
        return {**actor.holder.acks}

    def lost(self, actor: Worker, lives: bool) -> None:
        """Let a holder that has stopped be gone, or go on with the next connection."""
        if not lives:
            self.dies(actor, seen=False)
            return
        known = actor.holder.taken.keys() | actor.holder.acks.keys()
        name = actor.holder.name
        kept = [tag for tag in known if ("held", name) in self.held(tag)]
        self.step(actor, actor.connect, None)
        if actor.holder.name == name:
            assert all(("held", name) in self.held(tag) for tag in kept)
        for tag, (place,) in self.state.places.items():
            assert place.kind != "held" or place.of != actor.holder.name or tag in known

    def held(self, tag: str) -> list[tuple[str, str]]:
        """Return where a message is, however often it did not end."""
        return [(place.kind, place.of) for place in self.places_of(tag)]

    def dies(self, actor: Worker, seen: bool) -> None:
        """Let a holder be gone, by its lease or to be seen."""
        self.workers[self.workers.index(actor)] = Worker(self.url)  # the next one of its unit
        actor.client.close()
        if seen:  # by those of the same host
            who = {**json.loads(identity.own()), "start": "1"}
            if self.client.hexists(PREFIX + HOLDERS, actor.holder.name):
                self.client.hset(PREFIX + HOLDERS, actor.holder.name, json.dumps(who))
        else:
            self.client.delete(actor.holder.lease)
        self.state = State(self.client)


@pytest.fixture
def machine(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Broker]]:
    """The model, on a Redis that has the scripts: to give it one is a command more."""
    Broker.url = redis.url
    monkeypatch.setattr("celeriac.transport.recovery.BATCH", 3)  # many calls for a few messages
    with redis_client.Redis.from_url(redis.url) as client:
        for each in vars(scripts).values():
            if isinstance(each, scripts.Script):
                client.script_load(each.text)
    yield Broker


def test_message_is_in_one_place_until_it_is_acknowledged(
    machine: type[Broker],
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=5000 if FULL else 50,
            stateful_step_count=60,
            deadline=None,
            derandomize=not FULL,
            suppress_health_check=list(HealthCheck),
        ),
    )
