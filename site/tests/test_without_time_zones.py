"""The whole site of a project with `USE_TZ = False`, running: every page answers, and times are those of TIME_ZONE.

The zone is far from UTC and half an hour off, so that a time that was taken for one of UTC is seen.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from testkit.waiting import eventually

from conftest import site_of
from processes import SITE, Stack, Visitor

ZONE = ZoneInfo("Asia/Kolkata")
# Less than what two zones differ by, and far more than clocks do on one computer.
MARGIN = timedelta(hours=2)

SETTINGS = "from TimeOut.settings import *\nUSE_TZ = False\n"
# Each of a kind that the library's beat takes for one of UTC, or cannot compare.
SCHEDULE = """
from datetime import datetime, timedelta
from django_celery_beat.models import *
often = IntervalSchedule.objects.create(every=1, period="seconds")
soon = ClockedSchedule.objects.create(clocked_time=datetime.now() + timedelta(seconds=5))
daily = CrontabSchedule.objects.create(minute="30", hour="6", timezone="Asia/Kolkata")
task = {"task": "app.tasks.simple_function"}
PeriodicTask.objects.create(name="often", interval=often, args='["often"]', **task)
begun = {"start_time": datetime.now() - timedelta(hours=1), "expires": datetime.now() + timedelta(hours=1)}
PeriodicTask.objects.create(name="begun", interval=often, args='["begun"]', **begun, **task)
later = {"start_time": datetime.now() + timedelta(hours=1)}
PeriodicTask.objects.create(name="later", interval=often, args='["later"]', **later, **task)
over = {"expires": datetime.now() - timedelta(hours=1)}
PeriodicTask.objects.create(name="over", interval=often, args='["over"]', **over, **task)
PeriodicTask.objects.create(name="soon", clocked=soon, one_off=True, args='["soon"]', **task)
PeriodicTask.objects.create(name="daily", crontab=daily, args='["daily"]', **task)
print(1)
"""
SENT = """
import json
from celeriac.ledger.models import Dispatch
rows = Dispatch.objects.filter(name="app.tasks.simple_function")
print(json.dumps([json.loads(args)[0] for args in rows.values_list("args", flat=True)]))
"""
ENTRIES = """
import json
from django_celery_beat.models import PeriodicTask
rows = PeriodicTask.objects.values_list("name", "enabled", "last_run_at")
print(json.dumps({name: [enabled, run and str(run)] for name, enabled, run in rows}))
"""
JOURNAL = """
import json
from celeriac.ledger.models import Dispatch
from celeriac.ledger.report import report
fields = ("sent_at", "started_at", "ended_at", "overdue_at", "eta")
row = Dispatch.objects.values(*fields).get(task_id="%s")
print(json.dumps([{field: row[field] and str(row[field]) for field in fields}, report()]))
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def zoneless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running site that stores times without a zone: a developer's, and one with a host's database and beat."""
    folder = tmp_path_factory.mktemp("zoneless")
    (folder / "zoneless.py").write_text(SETTINGS)
    redis = request.getfixturevalue("redis_server")
    broker = {"sqlite": 12, "postgresql": 13}[request.param]
    redis.forget(broker)
    variables = {
        "DJANGO_SETTINGS_MODULE": "zoneless",
        "PYTHONPATH": f"{folder}:{SITE}",
        "TIME_ZONE": ZONE.key,
        "CELERY_BROKER_URL": redis.database(broker),
    }
    scheduler = "celeriac.schedule.scheduler:DatabaseScheduler"
    if request.param == "postgresql":
        variables["DATABASE_URL"] = request.getfixturevalue("postgresql_server").create(f"zoneless_{uuid4().hex}")
        scheduler = "celeriac.beat.scheduler:scheduler"
    with site_of(Stack(folder, redis, variables=variables)) as stack:
        assert stack.ask("from django.conf import settings; print(int(settings.USE_TZ))") == 0
        stack.ask(SCHEDULE)
        start_beat(stack, scheduler)
        stack.variables["scheduler"] = scheduler
        yield stack


@pytest.fixture
def anna(zoneless: Stack) -> Visitor:
    """A member of staff, logged in."""
    visitor = Visitor(zoneless.url)
    visitor.log_in()
    visitor.headers["Accept"] = "text/html"
    return visitor


def start_beat(stack: Stack, scheduler: str) -> None:
    """Start beat, and wait until it ticks."""
    options = (f"--scheduler={scheduler}", "--loglevel=debug", "--max-interval=1", "--pidfile=")
    stack.spawn("beat", "celery", "-A", "TimeOut", "beat", *options)
    eventually(lambda: "beat: Ticking" in stack.log("beat"), what="beat ticks")


def started(anna: Visitor, task: str, **more: Any) -> str:
    """Start a task in the console; return the id of its run."""
    arguments = {"arg-x": "2", "arg-y": "3"} if task == "app.tasks.add" else {}
    answer = anna.ask(f"/tasks/start/{task}/", {**arguments, **more})
    assert answer.status == 302, answer.text
    return str(answer.headers["Location"].strip("/").rpartition("/")[2])


def run_of(anna: Visitor, run_id: str) -> Any:
    """Return what the API has of a run."""
    answer = anna.ask(f"/tasks/api/runs/{run_id}")
    assert answer.status == 200, answer.text
    return answer.json


def ended(anna: Visitor, run_id: str) -> Any:
    """Wait for the end of a run; return what the API has of it."""
    eventually(lambda: run_of(anna, run_id)["state"] in {"SUCCESS", "FAILURE"}, what="the run has ended")
    return run_of(anna, run_id)


def is_now(text: str) -> bool:
    """Whether a time that a page or an answer shows has a zone, and is about now."""
    moment = datetime.fromisoformat(text)
    return moment.tzinfo is not None and abs(moment - datetime.now(UTC)) < MARGIN


def is_now_there(text: str) -> bool:
    """Whether a time without a zone is about now in TIME_ZONE."""
    return abs(datetime.fromisoformat(text).replace(tzinfo=ZONE) - datetime.now(UTC)) < MARGIN


def test_every_page_and_address_answers(zoneless: Stack, anna: Visitor) -> None:
    """200 from each, with rows of every table to show."""
    run_id = started(anna, "app.tasks.daily_report")
    assert ended(anna, run_id)["state"] == "SUCCESS"
    later = started(anna, "app.tasks.always_fails", countdown="600")
    assert zoneless.manage("api_token", "anna", "a test", "--days=3").returncode == 0
    tables = (
        "app/post app/dailyreport celeriac_console/apitoken django_celery_beat/periodictask"
        " django_celery_beat/crontabschedule django_celery_beat/clockedschedule django_celery_results/taskresult"
    )
    paths = [
        *("/", "/health/", "/tasks/", "/tasks/?state=SUCCESS&name=app.tasks.daily_report", "/tasks/graphs/"),
        *("/tasks/start/", "/tasks/start/app.tasks.add/", "/tasks/emails/"),
        *(f"/tasks/{run}/{what}" for run in (run_id, later) for what in ("", "revoke/", "terminate/")),
        *(
            "/tasks/api/",
            "/tasks/api/openapi.json",
            "/tasks/api/tasks",
            "/tasks/api/runs",
            f"/tasks/api/runs/{later}",
            "/admin/",
        ),
        *(f"/admin/{table}/" for table in tables.split()),
        *(f"/admin/{table}/1/change/" for table in tables.split()),
        "/admin/django_celery_beat/periodictask/add/",
    ]
    assert {path: answer.status for path in paths if (answer := anna.ask(path)).status != 200} == {}
    assert anna.ask(f"/tasks/{run_id}/rerun/", {}).status == 302
    assert anna.ask(f"/tasks/{later}/revoke/", {}).status == 302
    assert "Traceback" not in zoneless.log("web")


def test_times_of_a_run_are_right(zoneless: Stack, anna: Visitor) -> None:
    """In the API and on its page, with their zone; the journal has them as those of TIME_ZONE."""
    run_id = started(anna, "app.tasks.add")
    run = ended(anna, run_id)
    assert run["result"] == 5
    assert [name for name in ("sent_at", "started_at", "done_at") if not is_now(run[name])] == []
    assert 4 < run["seconds"] < MARGIN.total_seconds()
    shown = re.findall(r'<time datetime="([^"]+)">(\d\d):\d\d:\d\d<', anna.ask(f"/tasks/{run_id}/").text)
    assert len(shown) >= 3
    for moment, hour in shown:
        assert is_now(moment)
        assert datetime.fromisoformat(moment).astimezone(ZONE).hour == int(hour)

    def journal() -> Any:
        row, report = zoneless.ask(JOURNAL % run_id)
        return (row, report) if row["ended_at"] else None

    row, report = eventually(journal, what="its end is in the journal")
    assert [name for name in ("sent_at", "started_at", "ended_at", "overdue_at") if not is_now_there(row[name])] == []
    assert (report["not_noted"], report["not_marked"], report["never_ended"]) == (0, 0, 0)
    listed = zoneless.manage("task", "list", "--name=app.tasks.add")
    assert listed.returncode == 0, listed.stderr
    assert is_now(re.findall(rf"{run_id} (\S+ \S+) ", listed.stdout)[0] + "+00:00")
    told = zoneless.manage("task", "show", run_id, "--json")
    assert told.returncode == 0, told.stderr
    assert is_now(re.findall(r'"started_at": "([^"]+)"', told.stdout)[0])


def test_the_time_of_a_countdown_is_right(zoneless: Stack, anna: Visitor) -> None:
    """The time before which a task does not run has the zone of all others."""
    run_id = started(anna, "app.tasks.always_fails", countdown="1200")
    assert is_now(run_of(anna, run_id)["eta"])
    assert is_now_there(zoneless.ask(JOURNAL % run_id)[0]["eta"])


def test_the_schedule_is_shown_and_sent_at_its_times(zoneless: Stack, anna: Visitor) -> None:
    """What is due is sent, again after beat was started anew, and nothing before its time or after its end."""

    def sent() -> list[str]:
        return list(zoneless.ask(SENT))

    eventually(lambda: {"often", "begun", "soon"} <= set(sent()), what="the entries are sent")
    zoneless.end("beat")
    count = sent().count("often")
    start_beat(zoneless, zoneless.variables["scheduler"])
    eventually(lambda: sent().count("often") > count + 2, what="it is sent again")
    assert sent().count("soon") == 1
    assert {"later", "over", "daily"}.isdisjoint(sent())
    rows = zoneless.ask(ENTRIES)
    assert is_now_there(rows["often"][1])
    assert not rows["over"][0]
    shown = re.findall(r'<time datetime="([^"]+)">', anna.ask("/").text)
    assert len(shown) > 5  # of the post, and of what is due next
    assert [moment for moment in shown if not is_now(moment)] == []
    admin = anna.ask("/admin/django_celery_beat/periodictask/").text
    assert "6:30 a.m." in re.findall(r">daily<.*?field-next_run[^>]*>([^<]*)<", admin, re.DOTALL)[0]
    assert zoneless.ask(JOURNAL % run_id_of(anna))[1]["beat_is_late"] == []


def run_id_of(anna: Visitor) -> str:
    """Return the id of any run."""
    return str(anna.ask("/tasks/api/runs?size=1").json["runs"][0]["id"])


SAMPLES = """
import json
from celeriac.console.models import Sample
print(json.dumps([str(sample.minute) for sample in Sample.objects.all()]))
"""


def test_graphs_show_this_hour(zoneless: Stack, anna: Visitor) -> None:
    """What is measured is of the minutes that have just been, and stands under their hours."""
    zoneless.ask("from celeriac.console.tasks import measure; print(int(measure.delay() is not None))")
    eventually(lambda: zoneless.ask(SAMPLES), what="numbers")
    page = anna.ask("/tasks/graphs/")
    assert page.status == 200
    assert is_now_there(max(zoneless.ask(SAMPLES)))
    titles = [int(hour) for hour in re.findall(r"<title>(\d\d):\d\d · ", page.text)]
    assert titles
    assert titles[-1] in {(datetime.now(ZONE) - back).hour for back in (timedelta(), timedelta(hours=1))}
