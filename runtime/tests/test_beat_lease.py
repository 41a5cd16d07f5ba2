"""Several beats on one PostgreSQL: one of them sends, and what it leaves another takes up."""

import itertools
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from beats import HOURLY, Arrivals, arrivals, beat, overdue, schedule, with_schedule
from environment import postgresql_session
from supervised import Supervised
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL, postgresql_server
from testkit.redis import Redis
from testkit.waiting import comes_true

STANDBY = "standby, another beat holds the lease"
NO_DATABASE = "standby, the database does not answer"


@pytest.fixture
def environment(
    bare_environment: dict[str, str],
    migrated_on_postgresql: str,
    postgresql: PostgreSQL,
    redis: Redis,
    scratch: Path,
) -> dict[str, str]:
    """The environment of a process of the project, with its schema on PostgreSQL, and Redis."""
    with postgresql_session(postgresql.environment) as session:
        session.execute(f'CREATE DATABASE "{scratch.name}" TEMPLATE "{migrated_on_postgresql}"')
    database = {**postgresql.environment, "PGDATABASE": scratch.name}
    return {**bare_environment, **database, "BROKER_URL": redis.url}


def gaps(moments: list[float]) -> list[float]:
    """Return the seconds between each two that follow each other."""
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def first(running: Supervised, text: str) -> float:
    """Return the time.monotonic() of the first message with a text."""
    return next(at for at, message in running.notifications.messages if text in message)


def arrived(sends: Arrivals, running: Supervised, name: str, times: int) -> None:
    """Wait until an entry was sent so many times in all."""
    running.waits(lambda: len(sends.of(name)) >= times, f"{times} sends of {name}")


def runs(environment: dict[str, str]) -> dict[str, int]:
    """Return how often each entry was sent, as the database knows it."""
    with postgresql_session(environment) as session:
        query = "SELECT name, total_run_count FROM django_celery_beat_periodictask"
        return dict(session.execute(query).fetchall())


def end_lease(environment: dict[str, str]) -> None:
    """End the session that has the lease in the server, as an administrator may."""
    with postgresql_session(environment) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )


ASKS = """
import django
django.setup()
from celeriac.beat.lease import Lease
lease = Lease("default")
assert lease.acquire()
names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
print(*(lease._ask(f"SHOW {name}")[0] for name in (*names, "tcp_user_timeout")))
"""


def test_the_server_gives_a_host_up_that_vanished(bare_environment: dict[str, str]) -> None:
    """Only over TCP has it a meaning, and the PostgreSQL of the other tests has none."""
    port = free_port()
    with postgresql_server() as server:
        server.stop()
        options = f"-k {server.directory} -c listen_addresses=127.0.0.1 -p {port}"
        server.run("pg_ctl", "start", "--wait", "--silent", f"--options={options}")
        address = {**server.environment, "PGHOST": "127.0.0.1", "PGPORT": str(port)}
        asked = subprocess.run(
            [sys.executable, "-c", ASKS],
            env={**bare_environment, **address, "PGDATABASE": "postgres"},
            capture_output=True,
            text=True,
            check=True,
        )
    idle, interval, count, unconfirmed = asked.stdout.split()
    assert 0 < int(idle) + int(interval) * int(count) <= 11
    assert 0 < int(unconfirmed) <= 10_000  # milliseconds


def test_the_projects_own_scheduler_lies_under_ours(environment: dict[str, str], redis: Redis) -> None:
    """It does things the project's way once it has the lease, and leaves the table alone before."""
    own = {"CELERY_BEAT_SCHEDULER": "work.schedulers:Renaming"}
    with arrivals(redis) as sends, beat(with_schedule(environment, schedule(HOURLY))) as old:
        old.told("last tick")
        with beat(with_schedule(environment, schedule(1), **own)) as new:
            new.told(STANDBY, times=2)
            assert list(runs(environment)) == ["entry 0"]
            old.stop()
            arrived(sends, new, "ours entry 0", 2)


def refused(environment: dict[str, str]) -> str:
    """Return what a beat says that one on another host would join, and that ends for it."""
    with beat({**environment, "CELERIAC_BEAT_HOSTS": "2"}) as running:
        running.process.wait(60)
        assert running.process.returncode != 0
        return running.log.read_text()


def test_beats_on_several_hosts_need_what_lets_one_of_them_send(environment: dict[str, str]) -> None:
    own_file = {"CELERY_BEAT_SCHEDULER": "celery.beat:PersistentScheduler"}

    with beat({**with_schedule(environment, schedule(HOURLY)), "CELERIAC_BEAT_HOSTS": "2"}) as running:
        running.told("last tick")
    assert "what was sent is in a file of the host" in refused(with_schedule(environment, schedule(1), **own_file))
    without = {name: value for name, value in environment.items() if not name.startswith("PG")}
    assert "there is no lease on sqlite" in refused(with_schedule(without, schedule(1)))


def plan(environment: dict[str, str], name: str) -> None:
    """Put a plan of every second into the project's own table, as the project would."""
    with postgresql_session(environment) as session:
        session.execute(
            "INSERT INTO plans_plan (name, seconds, kwargs, enabled, total_run_count)"
            f" VALUES ('{name}', 1, '{{}}', true, 0)"
        )
        session.execute(
            "INSERT INTO plans_planchanges (id, last_update) VALUES (1, now())"
            " ON CONFLICT (id) DO UPDATE SET last_update = now()"
        )


def test_the_projects_own_table_is_sent_as_it_changes(environment: dict[str, str], redis: Redis) -> None:
    """The first change of all is seen too: until then nobody has noted one."""
    environment = {**environment, "MORE_APPS": "plans"}
    environment = with_schedule(environment, {}, CELERY_BEAT_SCHEDULER="plans.schedulers:PlanScheduler")
    subprocess.run([sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v0"], env=environment, check=True)
    with arrivals(redis) as sends, beat(environment) as running:
        running.told("0 entries; nothing due", times=3)  # it has looked for changes, and found no row
        plan(environment, "first")
        arrived(sends, running, "first", 2)
        plan(environment, "second")
        arrived(sends, running, "second", 2)
        running.stop()
    with postgresql_session(environment) as session:
        counted = dict(session.execute("SELECT name, total_run_count FROM plans_plan").fetchall())
    assert counted == {name: len(sends.of(name)) for name in ("first", "second")}
    assert min(gaps(sends.of("first"))) > 0.5


def two_speeds() -> dict[str, Any]:
    """Return a beat_schedule with one entry every second, and one every five."""
    return {**schedule(1), "slow": {"task": "celeriac.ping", "schedule": 5}}


def assert_sent_by_one(environment: dict[str, str], sends: Arrivals) -> None:
    """Check that what was sent is what the table knows of: of two that send, it would know half.

    And that `two_speeds` were kept, whoever sent; a slow computer can only make it less often.
    """
    names = ("entry 0", "slow")
    assert comes_true(lambda: [len(sends.of(name)) for name in names] == [runs(environment)[name] for name in names]), (
        sends.sends,
        runs(environment),
    )
    assert min(gaps(sends.of("slow"))) > 2.5


def test_two_beats_send_as_one(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(environment, two_speeds())
    with arrivals(redis) as sends, beat(environment) as one:
        one.told("READY=1\nSTATUS=last tick")
        with beat(environment) as other:
            other.told(f"READY=1\nSTATUS={STANDBY}")
            arrived(sends, one, "slow", len(sends.of("slow")) + 2)
            assert not any("last tick" in text for text in other.notifications.texts())
            other.stop()
            one.stop()
        assert_sent_by_one(environment, sends)


def test_a_standby_leaves_the_schedule_alone_until_it_leads(environment: dict[str, str], redis: Redis) -> None:
    with arrivals(redis) as sends, beat(with_schedule(environment, schedule(HOURLY))) as old:
        old.told("last tick")
        with beat(with_schedule(environment, {**schedule(HOURLY), **two_speeds()})) as new:
            new.told(STANDBY, times=2)
            assert list(runs(environment)) == ["entry 0"]
            old.stop()
            arrived(sends, new, "slow", 1)


def test_a_deploy_hands_the_lease_over(environment: dict[str, str], project: Path, redis: Redis) -> None:
    with (project / "work" / "tasks.py").open("a") as module:
        module.write("import atexit\natexit.register(time.sleep, 8)\n")  # it takes its time to end
    environment = with_schedule(environment, two_speeds())
    with arrivals(redis) as sends, beat(environment) as old:
        arrived(sends, old, "entry 0", 3)
        with beat(environment) as new:
            new.told(STANDBY)
            old.process.send_signal(signal.SIGTERM)  # it sleeps until the next send
            new.told("last tick")
            assert old.process.poll() is None, "it had to end first"
            assert old.process.wait(60) == 0
            arrived(sends, new, "slow", len(sends.of("slow")) + 2)
            new.stop()
        assert_sent_by_one(environment, sends)


def test_a_first_run_is_not_put_off_by_deploys(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(environment, schedule(15))
    with arrivals(redis) as sends, ExitStack() as stack:
        beats = [stack.enter_context(beat(environment)) for _ in range(3)]
        leads = the_leader(beats)
        while len(beats) > 1:
            leads.stop()
            beats.remove(leads)
            leads = the_leader(beats)
        assert sends.sends == []
        arrived(sends, leads, "entry 0", 1)
        # Had it begun to count anew, it would have sent 15 seconds later.
        assert sends.sends[0][0] - first(leads, "last tick") < 15


def the_leader(beats: list[Supervised]) -> Supervised:
    """Wait until all have begun and one of them leads; return that one."""

    def leaders() -> list[Supervised]:
        texts = {running: "".join(running.notifications.texts()) for running in beats}
        leading = [running for running, text in texts.items() if "last tick" in text]
        return leading if all("READY=1" in text for text in texts.values()) else []

    beats[0].waits(lambda: bool(leaders()), "beat that leads")
    (leader,) = leaders()
    return leader


def test_the_lease_of_a_killed_beat_is_free(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(environment, schedule(1))
    with arrivals(redis) as sends, beat(environment) as old, beat(environment) as new:
        leads = the_leader([old, new])
        stands_by = new if leads is old else old
        arrived(sends, leads, "entry 0", 2)
        leads.process.send_signal(signal.SIGKILL)
        stands_by.told("last tick")
        arrived(sends, stands_by, "entry 0", 5)


def lose_and_regain(environment: dict[str, str], sends: Arrivals, old: Supervised, name: str) -> None:
    """Let another beat lead in place of one that has sent an entry once, and then this one again."""
    with beat(environment) as new:
        new.told(STANDBY)
        end_lease(environment)
        new.told("last tick")
        old.told(STANDBY)
        arrived(sends, new, name, 3)
        new.stop()
    arrived(sends, old, name, 4)


def test_a_lost_lease_is_noticed_before_the_next_send(environment: dict[str, str], redis: Redis) -> None:
    with beat(with_schedule(environment, schedule(3))) as running:
        running.told("last tick")
        running.stop()
    environment = with_schedule(environment, {})  # from here on, who leads only reads it
    with arrivals(redis) as sends, beat(environment) as old:
        arrived(sends, old, "entry 0", 1)
        lose_and_regain(environment, sends, old, "entry 0")
        assert "leads no more" in old.log.read_text()
    assert min(gaps(sends.of("entry 0"))) > 2


def test_beat_outlives_a_restart_of_the_database(
    environment: dict[str, str], redis: Redis, postgresql: PostgreSQL
) -> None:
    environment = with_schedule(environment, schedule(1))
    with arrivals(redis) as sends, beat({**environment, "WATCHDOG_USEC": "3000000"}) as running:
        arrived(sends, running, "entry 0", 2)
        postgresql.stop()
        try:
            running.told(NO_DATABASE, times=3)
            stopped = len(sends.sends)
            before = running.notifications.texts().count("WATCHDOG=1")
            running.waits(lambda: running.notifications.texts().count("WATCHDOG=1") > before + 2, "feeds")
            assert len(sends.sends) == stopped
        finally:
            postgresql.start()
        arrived(sends, running, "entry 0", stopped + 3)
        running.stop()
    assert min(gaps(sends.of("entry 0"))) > 0.5
    # The run before the stop may be written while that stops the server, or be missing.
    assert runs(environment)["entry 0"] in {len(sends.sends), len(sends.sends) - 1}


def test_a_stop_leaves_what_waits_for_the_broker_to_the_next_beat(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(
        environment,
        schedule(HOURLY),
        CELERY_TASK_PUBLISH_RETRY_POLICY={"max_retries": 100, "interval_max": 1},
    )
    with arrivals(redis) as sends, beat(environment) as old:
        make_due(environment, old)
        arrived(sends, old, "entry 0", 1)
        noted(environment, old)
        redis.stop()
        make_due(environment, old)
        old.waits(lambda: "is not sent yet" in old.log.read_text(), "attempt to send")
        old.stop()
        assert old.process.returncode == 0
    assert runs(environment) == {"entry 0": 1}
    redis.start()
    with arrivals(redis) as sends, beat(environment) as new:
        arrived(sends, new, "entry 0", 1)
        new.told("STATUS=", times=3)
        assert len(sends.sends) == 1
        assert runs(environment) == {"entry 0": 2}


def test_a_send_without_the_lease_is_given_up(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(
        environment,
        schedule(HOURLY),
        CELERY_TASK_PUBLISH_RETRY_POLICY={"max_retries": 100, "interval_max": 1},
    )
    with arrivals(redis) as sends, beat(environment) as old:
        make_due(environment, old)
        arrived(sends, old, "entry 0", 1)
        noted(environment, old)
        with beat(environment) as new:
            new.told(STANDBY)
            redis.stop()
            make_due(environment, old)
            old.waits(lambda: "is not sent yet" in old.log.read_text(), "attempt to send")
            end_lease(environment)
            old.told(STANDBY)
            assert "is left to the next beat" in old.log.read_text()
            redis.start()
            arrived(sends, new, "entry 0", 2)
            old.told(STANDBY, times=4)
            assert len(sends.sends) == 2


def noted(environment: dict[str, str], leads: Supervised) -> None:
    """Wait until the first run is in the table: it would be written over the edit of an operator."""
    leads.waits(lambda: runs(environment) == {"entry 0": 1}, "note of the run")


def make_due(environment: dict[str, str], leads: Supervised) -> None:
    """Let the hourly entry be due, as an operator's edit would."""
    leads.told("last tick")
    with postgresql_session(environment) as session:
        session.execute("UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '2 hours'")
        session.execute("UPDATE django_celery_beat_periodictasks SET last_update = now()")


def test_the_watchdog_is_fed_while_the_broker_is_away(environment: dict[str, str], redis: Redis) -> None:
    environment = with_schedule(
        {**environment, "WATCHDOG_USEC": "9000000"},
        schedule(1),
        CELERY_TASK_PUBLISH_RETRY_POLICY={
            "max_retries": 100,
            "interval_start": 60,
            "interval_max": 60,
        },
    )
    with arrivals(redis) as sends, beat(environment) as running:
        arrived(sends, running, "entry 0", 1)
        redis.stop()
        running.waits(lambda: "is not sent yet" in running.log.read_text(), "attempt to send")
        began = time.monotonic()
        running.told("WATCHDOG=1", times=running.notifications.texts().count("WATCHDOG=1") + 8)
        assert not any(at > began + 1 and "last tick" in text for at, text in running.notifications.messages)
    fed = [at for at, text in running.notifications.messages if text == "WATCHDOG=1"]
    assert max(gaps(fed)) < 9  # as systemd would have it
    # Once a second at most; two gaps together, for a busy computer hears of one later than of the next.
    assert min(later - earlier for earlier, later in zip(fed, fed[2:], strict=False)) > 2 * 0.89


def test_the_watchdog_is_fed_before_the_broker_was_ever_there(environment: dict[str, str], redis: Redis) -> None:
    redis.stop()
    environment = overdue({**environment, "WATCHDOG_USEC": "3000000"})
    with beat(environment) as running:
        running.told("WATCHDOG=1", times=10)
        assert "READY=1" not in "".join(running.notifications.texts())
        running.stop()


def test_the_watchdog_is_not_fed_by_a_loop_that_hangs(environment: dict[str, str]) -> None:
    environment = with_schedule({**environment, "WATCHDOG_USEC": "3000000"}, schedule(1))
    with beat(environment) as running:
        running.told("WATCHDOG=1", times=2)
        with postgresql_session(environment) as session, session.transaction():
            session.execute("LOCK TABLE django_celery_beat_periodictasks")
            time.sleep(2)  # the tick that runs now may yet come to its end
            fed = running.notifications.texts().count("WATCHDOG=1")
            time.sleep(4)
            assert running.notifications.texts().count("WATCHDOG=1") == fed
        running.told("WATCHDOG=1", times=fed + 1)


def test_beat_without_a_watchdog_feeds_none(environment: dict[str, str]) -> None:
    environment = with_schedule({**environment, "WATCHDOG_USEC": "3000000"}, schedule(1))
    with beat({**environment, "WATCHDOG_PID": "1"}) as running:
        running.told("last tick", times=3)
        assert "WATCHDOG=1" not in running.notifications.texts()
