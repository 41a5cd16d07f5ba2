"""The project's own Celery app, with our parts, under every command of Celery's."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from ssl import CERT_REQUIRED
from types import SimpleNamespace

import pytest
import redis as redis_client
from celery import Celery
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from environment import postgresql_session
from supervised import supervised
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from workers import messages, record, send, worker

from celeriac import defaults
from celeriac.configure import BACKEND, configure
from celeriac.worker.extensions import install


@pytest.mark.parametrize(
    "backend",
    [
        "django-db",
        "django_celery_results.backends:DatabaseBackend",
        "django_celery_results.backends.DatabaseBackend",
        "django_celery_results.backends.database:DatabaseBackend",
    ],
)
def test_the_database_backend_is_replaced_by_ours(backend: str) -> None:
    app = configure(Celery(backend=backend, set_as_current=False), result_retries=7)
    assert app.conf.result_backend == BACKEND
    assert app.conf.result_backend_always_retry is True
    assert app.conf.result_backend_max_retries == 7


@pytest.mark.parametrize(
    "backend",
    [
        None,
        "rpc://",
        "django-cache",
        "cache+memory://",
        "own.backend:Theirs",
    ],
)
def test_another_backend_is_left_alone(backend: str | None) -> None:
    untouched = Celery(backend=backend, set_as_current=False)
    app = configure(Celery(backend=backend, set_as_current=False), result_retries=7)
    for name in ("result_backend", "result_backend_always_retry", "result_backend_max_retries"):
        assert app.conf[name] == untouched.conf[name]


@pytest.mark.parametrize("backend", ["redis", "redis://127.0.0.1/0", "sentinel://127.0.0.1"])
def test_a_backend_on_redis_tries_again(backend: str) -> None:
    app = configure(Celery(backend=backend, set_as_current=False), result_retries=7)
    assert app.conf.result_backend == backend
    assert app.conf.result_backend_always_retry is True
    assert app.conf.result_backend_max_retries == 7


@pytest.mark.parametrize(
    ("url", "plain", "ssl"),
    [
        ("amqp://site_1:p%40%2F@127.0.0.1:5672/site", "amqp://127.0.0.1:5672/site", False),
        (
            "amqps://site_1:p%40%2F@mq.mysite.org/v",
            "amqps://mq.mysite.org/v",
            {"cert_reqs": CERT_REQUIRED, "server_hostname": "mq.mysite.org"},
        ),
    ],
)
def test_the_broker_is_the_one_that_the_inventory_chooses(
    monkeypatch: pytest.MonkeyPatch, url: str, plain: str, ssl: object
) -> None:
    """Whatever the project says of its own, and without a log-in in what is shown."""
    monkeypatch.setenv("CELERIAC_BROKER_URL", url)
    app = Celery(set_as_current=False)
    own = {"CELERY_BROKER_URL": "redis://own:secret@127.0.0.1/0", "CELERY_BROKER_READ_URL": "redis://127.0.0.1/3"}
    app.config_from_object(SimpleNamespace(**own, CELERY_BROKER_USER="own"), namespace="CELERY")
    defaults.add(app)
    for _ in range(2):
        configure(app, result_retries=7)
        assert app.conf.broker_url == plain
        for connection in (app.connection_for_read(), app.connection_for_write()):
            assert (connection.userid, connection.password) == ("site_1", "p@/")
            assert (connection.virtual_host, connection.ssl) == (plain.rpartition("/")[2], ssl)
            assert connection.transport_options["confirm_publish"] is True
            assert not connection.transport_options.keys() & {"socket_timeout", "priority_steps", "visibility_timeout"}


def test_a_project_with_no_choice_has_its_own_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", "")
    app = configure(Celery(broker="redis://own:secret@127.0.0.1/0", set_as_current=False), result_retries=7)
    assert app.connection_for_write().password == "secret"


@pytest.mark.parametrize("own", [None, "rpc://", "own.backend:Theirs"])
@pytest.mark.parametrize("variable", [False, True])
def test_results_are_in_the_redis_that_the_inventory_chooses(
    monkeypatch: pytest.MonkeyPatch, own: str | None, variable: bool
) -> None:
    """Whatever the project and Celery's own variable say; and its password is masked wherever settings are shown."""
    monkeypatch.setenv("CELERIAC_RESULT_BACKEND", "redis://site:%24a%2Fb%40c%3Ad%25e@127.0.0.2:6390/0")
    if variable:
        monkeypatch.setenv("CELERY_RESULT_BACKEND", "rpc://")
    app = Celery(backend=own, set_as_current=False)
    app.conf.update(redis_backend_use_ssl={"ssl_cert_reqs": "required"})
    configure(app, result_retries=7)
    expected = {"host": "127.0.0.2", "port": 6390, "db": 0, "username": "site", "password": "$a/b@c:d%e"}
    found = app.backend.connparams
    assert {name: found[name] for name in expected} == expected
    assert "ssl_cert_reqs" not in found
    assert app.conf.result_backend_always_retry is True
    shown = app.conf.humanize() + str(app.backend.as_uri())
    assert "a/b@c" not in shown
    assert "a%2Fb" not in shown


@pytest.mark.parametrize("own", [None, "rpc://"])
def test_results_are_in_the_database_where_the_inventory_wants_it(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.setenv("CELERIAC_RESULT_BACKEND", "django-db")
    app = configure(Celery(backend=own, set_as_current=False), result_retries=7)
    assert app.backend_cls == BACKEND


def test_results_in_a_database_without_their_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_RESULT_BACKEND", "django-db")
    monkeypatch.setattr(settings, "INSTALLED_APPS", ["django.contrib.auth"])
    with pytest.raises(ImproperlyConfigured, match=r"site_result_backend: django-db .*INSTALLED_APPS"):
        configure(Celery(set_as_current=False), result_retries=7)


def test_a_task_waits_for_its_results_on_redis(environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    """The read before its start must not fail: it would be acknowledged, and never executed."""
    results = Redis(tmp_path, free_port())
    results.start()
    try:
        with worker({**environment, "RESULT_BACKEND": results.url}) as running:
            running.told("READY=1")
            results.stop()
            task_id = send(redis, "kept", 0, ignore_result=False)
            running.waits(lambda: messages(redis) == (0, 1), "task that waits for its results")
            time.sleep(2)  # long enough for one that does not
            results.start()
            running.waits(lambda: "ended kept" in record(environment), "executed task")
            with Celery(broker=redis.url, backend=results.url, set_as_current=False) as app:
                running.waits(lambda: app.AsyncResult(task_id).successful(), "its result")
    finally:
        results.stop()


DURABLE = ("task_acks_late", "task_reject_on_worker_lost")


def test_tasks_are_acknowledged_when_they_have_ended() -> None:
    app = configure(Celery(set_as_current=False), result_retries=7)

    @app.task(shared=False)
    def task() -> None: ...

    @app.task(shared=False, acks_late=False)
    def early() -> None: ...

    assert task.acks_late is True
    assert task.reject_on_worker_lost is True
    assert early.acks_late is False


@pytest.mark.parametrize("namespace", ["", "CELERY"])
def test_what_a_project_says_of_acknowledgements_is_left_alone(namespace: str) -> None:
    app = Celery(set_as_current=False)
    prefix = f"{namespace}_" if namespace else ""
    names = [f"{prefix}{name}" for name in DURABLE]
    settings = {name.upper() if namespace else name: False for name in names}
    app.config_from_object(SimpleNamespace(**settings), namespace=namespace or None)
    configure(app, result_retries=7)
    assert [app.conf[name] for name in DURABLE] == [False, False]


def test_adopting_twice_changes_nothing_more() -> None:
    app = Celery(backend="django-db", set_as_current=False)
    install(configure(app, result_retries=7))
    steps = {part: {*app.steps[part]} for part in ("worker", "consumer")}
    install(configure(app, result_retries=3))
    assert all(steps.values())
    assert {part: {*app.steps[part]} for part in steps} == steps
    assert app.conf.result_backend_max_retries == 3


def test_every_command_of_celery_runs_on_it(environment: dict[str, str], redis: Redis) -> None:
    celery = ["-A", "celeriac.app"]
    port = free_port()
    flower = [*celery, "flower", f"--port={port}", "--address=127.0.0.1"]
    starts = [*celery, "worker", "--concurrency=1", "--hostname=tested@%h", "--task-events"]
    with (
        supervised("celery", *starts, environment=environment) as running,
        supervised("celery", *flower, environment=environment) as web,
        supervised("celery", *celery, "events", "--dump", environment=environment) as events,
    ):
        running.told("READY=1")
        # Of `control`, the command that Flower's buttons send.
        control = subprocess.run(
            [sys.executable, "-m", "celery", *celery, "control", "pool_grow", "1"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "pool will grow" in control.stdout
        inspect = subprocess.run(
            [sys.executable, "-m", "celery", *celery, "inspect", "registered"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "celeriac.ping" in inspect.stdout
        assert "work.tasks.sleep" in inspect.stdout
        events.waits(lambda: "tested@" in events.log.read_text(), "event of the worker")
        web.waits(lambda: "Visit me" in web.log.read_text(), "start of Flower")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert page.status == 200


def test_a_task_is_sent_from_the_command_line_whatever_keeps_the_results(environment: dict[str, str]) -> None:
    """A backend whose results are in a model, too, though Celery sets Django up for its processes alone."""
    call = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celeriac.app", "call", "celeriac.ping"],
        env={**environment, "CELERIAC_RESULT_BACKEND": "django-db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert call.returncode == 0, call.stderr
    assert re.fullmatch(r"[0-9a-f-]{36}\n", call.stdout)


@pytest.mark.parametrize(("options", "content"), [((), "x-python-serialize"), (("--serializer=json",), "json")])
def test_a_task_is_sent_from_the_command_line_as_the_project_sends_it(
    environment: dict[str, str], redis: Redis, options: tuple[str, ...], content: str
) -> None:
    """Its workers may accept nothing else."""
    subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celeriac.app", "call", *options, "work.tasks.add", "--args=[1, 2]"],
        env={**environment, "MORE_SETTINGS": json.dumps({"CELERY_TASK_SERIALIZER": "pickle"})},
        check=True,
    )
    with redis_client.Redis.from_url(redis.url) as client:
        [message] = [json.loads(each) for each in client.lrange("celery", 0, -1)]
    assert message["content-type"] == f"application/{content}"


def test_a_wrong_name_of_the_app_is_said_on_the_command_line(
    bare_environment: dict[str, str],
) -> None:
    status = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celeriac.app", "status"],
        env={**bare_environment, "CELERIAC_CELERY_APP": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert status.returncode != 0
    assert "CELERIAC_CELERY_APP=nowhere: No module named 'nowhere'" in status.stderr


def test_a_result_survives_a_restart_of_the_database(
    on_postgresql: dict[str, str], postgresql: PostgreSQL, redis: Redis
) -> None:
    # Celery prefers the variable to whatever is set.
    environment = {
        **on_postgresql,
        "CELERY_RESULT_BACKEND": "django-db",
        "MORE_SETTINGS": '{"CELERY_TASK_TRACK_STARTED": true}',
    }
    prepare = [sys.executable, "-m", "celeriac.release", "migrate"]
    subprocess.run(prepare, env=environment, check=True, stdout=subprocess.DEVNULL)
    starts = ["-A", "celeriac.app", "worker", "--concurrency=2", "--hostname=tested@%h"]
    with supervised("celery", *starts, environment=environment) as running:
        running.told("READY=1")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            # One ends after the restart, on a broken connection; one while the database is down.
            for seconds in (4, 1.5):
                sender.send_task("work.tasks.sleep", (str(seconds), seconds))
        record = Path(environment["RECORD"])
        running.waits(lambda: record.exists() and record.read_text().count("began") == 2, "tasks")
        time.sleep(0.5)  # until both are recorded as STARTED
        postgresql.stop()
        time.sleep(2)
        postgresql.start()

        def states() -> list[str]:
            with postgresql_session(environment) as session:
                rows = session.execute("SELECT status FROM django_celery_results_taskresult")
                return [row[0] for row in rows]

        running.waits(lambda: states() == ["SUCCESS", "SUCCESS"], "results")


def test_what_celery_logs_comes_out_whatever_a_project_has_for_it(on_host: dict[str, str]) -> None:
    own = {"handlers": ["out"], "propagate": False}
    logging = {"version": 1, "handlers": {"out": {"class": "logging.StreamHandler"}}, "loggers": {"celery": own}}
    laid = {"CELERIAC_SETTINGS": json.dumps({"LOGGING": {**logging, "disable_existing_loggers": False}})}
    # As a worker begins, and as it says why it ends.
    code = (
        "import django, logging; django.setup(); from celeriac.app import app; app.log.setup(loglevel='INFO');"
        "logging.getLogger('celery.worker').critical('this is why')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**on_host, **laid}, capture_output=True, text=True, check=True
    )
    assert "this is why" in done.stderr
