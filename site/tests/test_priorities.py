"""Priorities: 0 to 9, and 9 is first, on both brokers."""

import copy
import pickle
from bisect import bisect

import pytest
from celeriac import priorities

from processes import Stack

FLOOD = """
import json, time
from celery import current_app
from django_celery_results.models import TaskResult
from celeriac.console import runs
from app.tasks import simple_function

# Who sends may be slower than the worker: it begins when all are there.
assert current_app.control.cancel_consumer("celery", reply=True)
low = [simple_function.apply_async(("low",), priority=0).id for _ in range(500)]
assert current_app.control.add_consumer("celery", reply=True)
done = TaskResult.objects.filter(task_id__in=low, status="SUCCESS")
deadline = time.monotonic() + 120
while done.count() < 20:
    assert time.monotonic() < deadline, "nothing runs"
    time.sleep(0.02)
# By three ways: each says what it wants on the same scale.
before = done.count()
sent = [
    simple_function.apply_async(("high",), priority=9).id,
    runs.start("app.tasks.simple_function", ["high"], priority=9),
    simple_function.delay("middle").id,
]
while TaskResult.objects.filter(task_id__in=sent, status="SUCCESS").count() < 3:
    assert time.monotonic() < deadline, [runs.find(run_id) for run_id in sent]
    time.sleep(0.02)
ended = [runs.find(run_id).done_at for run_id in sent]
print(json.dumps({
    "before": before,
    "overtaken_by": [500 - done.filter(date_done__lt=at).count() for at in ended],
    "last_of_high_before_middle": max(ended[:2]) <= ended[2],
    "middle": runs.find(sent[2]).priority,
}))
"""


def test_a_high_one_sent_after_500_low_ones_overtakes_them(worker_stack: Stack) -> None:
    """At most what a process works on, what it has fetched, and what is done while the high one is being sent."""
    worker_stack.start_worker("--concurrency=1")
    found = worker_stack.ask(FLOOD)
    assert found["before"] < 400, "the flood was over too soon to show anything"
    for overtaken in found["overtaken_by"]:
        assert overtaken > 500 - found["before"] - 25
    assert found["middle"] == priorities.DEFAULT


ORDER = """
import json, time
from celery import current_app
from django_celery_results.models import TaskResult
from app.tasks import simple_function

levels = [3, 9, 0, 6, 4, 8, 1, 5, 2, 7, None]
sent = {simple_function.apply_async((str(level),), **({} if level is None else {"priority": level})).id: level
        for level in levels}
named = current_app.send_task("app.tasks.simple_function", ("by name",)).id
print(json.dumps([*sent.items(), [named, None]]))
"""

FOUND = """
import json, time
from django_celery_results.models import TaskResult
deadline = time.monotonic() + 120
while (done := TaskResult.objects.filter(status="SUCCESS")).count() < {number}:
    assert time.monotonic() < deadline
    time.sleep(0.05)
print(json.dumps([*done.order_by("date_done").values_list("task_id", flat=True)]))
"""


def test_each_of_the_ten_is_before_the_lower_ones_and_none_at_all_is_the_middle(worker_stack: Stack) -> None:
    """Also for a task that is sent by its name, as another program would."""
    sent = dict(worker_stack.ask(ORDER))
    worker_stack.start_worker("--concurrency=1")
    ran = worker_stack.ask(FOUND.format(number=len(sent)))
    assert [sent[run_id] for run_id in ran] == [9, 8, 7, 6, 5, None, None, 4, 3, 2, 1, 0]


def test_a_retry_keeps_its_priority(worker_stack: Stack) -> None:
    """It is sent again with what its message had: nothing is turned round twice."""
    worker_stack.start_worker("--concurrency=1")
    state, priority = worker_stack.ask(
        "import json, time\nfrom celeriac.console import runs\n"
        "run_id = runs.start('app.tasks.succeeds_later', [1, 0.1], priority=8)\n"
        "deadline = time.monotonic() + 120\n"
        "while not (run := runs.find(run_id)).is_over and time.monotonic() < deadline: time.sleep(0.05)\n"
        "print(json.dumps([run.state, run.priority]))"
    )
    assert (state, priority) == ("SUCCESS", 8)
    received = [line for line in worker_stack.log("worker").splitlines() if "received" in line]
    assert len(received) == 2


def test_the_steps_are_looked_up_as_kombu_expects_and_walked_through_from_the_highest() -> None:
    """Whatever copies the settings on the way."""
    for steps in (
        priorities.REDIS_STEPS,
        copy.deepcopy(priorities.REDIS_STEPS),
        pickle.loads(pickle.dumps(priorities.REDIS_STEPS)),
    ):
        assert [*steps] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
        assert [steps[bisect(steps, level) - 1] for level in range(10)] == [*range(10)]
        assert 9 in steps and 10 not in steps


@pytest.mark.parametrize("worker_stack", ["redis"], indirect=True)
def test_flower_and_the_worker_count_what_waits_in_all_of_them(worker_stack: Stack) -> None:
    """The length of the queue, as the deployment asks for it, and as Flower's page of the broker does."""
    count = worker_stack.ask(
        "import asyncio, json\nfrom celery import current_app\nfrom app.tasks import simple_function\n"
        "from flower.utils.broker import Broker\n"
        "for level in range(10): simple_function.apply_async(priority=level)\n"
        "with current_app.connection_for_write() as broker:\n"
        "    declared = broker.default_channel.queue_declare('celery', passive=True).message_count\n"
        "flower = Broker(current_app.connection_for_read().as_uri(include_password=True),"
        " broker_options=current_app.conf.broker_transport_options)\n"
        "(found,) = asyncio.run(flower.queues(['celery']))\n"
        "print(json.dumps([declared, found['messages']]))"
    )
    assert count == [10, 10]
