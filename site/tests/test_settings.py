"""What stands in the environment is what Django and Celery use."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from celeriac.checks import names
from celery.app.defaults import DEFAULTS as DEFAULTS_OF_CELERY

from processes import HOST_SECRET_KEY, SITE, host_environment, run

# The settings of the notes' block, each with a value that is nobody's default, and what Celery
# then holds under its own name.
CELERY_SETTINGS: dict[str, tuple[str, Any]] = {
    "CELERY_TIMEZONE": ("Asia/Tokyo", "Asia/Tokyo"),
    "CELERY_BROKER_URL": ("redis://broker.example:6390/3", "redis://broker.example:6390/3"),
    "CELERY_RESULT_BACKEND": ("redis://results.example/4", "redis://results.example/4"),
    "CELERY_REDIS_SOCKET_TIMEOUT": ("13", 13),
    "CELERY_REDIS_SOCKET_CONNECT_TIMEOUT": ("14", 14),
    "CELERY_ACCEPT_CONTENT": ("json,yaml", ["json", "yaml"]),
    "CELERY_TASK_SERIALIZER": ("yaml", "yaml"),
    "CELERY_RESULT_SERIALIZER": ("yaml", "yaml"),
    "CELERY_TASK_EAGER_PROPAGATES": ("false", False),
    "CELERY_TASK_TIME_LIMIT": ("700", 700),
    "CELERY_TASK_SOFT_TIME_LIMIT": ("600", 600),
    "CELERY_BEAT_SCHEDULER": ("celery.beat:PersistentScheduler", "celery.beat:PersistentScheduler"),
    "CELERY_BEAT_CRON_STARTING_DEADLINE": ("7200", 7200),
    "CELERY_BEAT_SYNC_EVERY": ("7", 7),
    "CELERY_TASK_ALWAYS_EAGER": ("true", True),
    "CELERY_TASK_TRACK_STARTED": ("false", False),
    "CELERY_RESULT_EXTENDED": ("false", False),
    "CELERY_RESULT_EXPIRES": ("99", 99),
    "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": ("41", 41),
}

DEFAULTS: dict[str, Any] = {
    "CELERY_TIMEZONE": "UTC",
    "CELERY_BROKER_URL": "redis://127.0.0.1:6379/0",
    "CELERY_RESULT_BACKEND": "django-db",
    "CELERY_REDIS_SOCKET_TIMEOUT": 10,
    "CELERY_REDIS_SOCKET_CONNECT_TIMEOUT": 5,
    "CELERY_ACCEPT_CONTENT": ["json"],
    "CELERY_TASK_SERIALIZER": "json",
    "CELERY_RESULT_SERIALIZER": "json",
    "CELERY_TASK_EAGER_PROPAGATES": True,
    "CELERY_TASK_TIME_LIMIT": 30 * 60,
    "CELERY_TASK_SOFT_TIME_LIMIT": 27 * 60,
    "CELERY_BEAT_SCHEDULER": "celeriac.schedule.scheduler:DatabaseScheduler",
    "CELERY_BEAT_CRON_STARTING_DEADLINE": 3600,
    "CELERY_BEAT_SYNC_EVERY": 1,
    "CELERY_TASK_ALWAYS_EAGER": False,
    "CELERY_TASK_TRACK_STARTED": True,
    "CELERY_RESULT_EXTENDED": True,
    "CELERY_RESULT_EXPIRES": 7 * 24 * 3600,
    "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 30,
}

ALSO = (
    "broker_transport_options",
    "broker_connection_retry_on_startup",
    "broker_connection_max_retries",
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_publish_retry_policy",
    "worker_prefetch_multiplier",
    "worker_cancel_long_running_tasks_on_connection_loss",
    "worker_send_task_events",
    "worker_hijack_root_logger",
)


def celery_name(setting: str) -> str:
    """Return the name under which Celery holds one of our settings."""
    return setting.removeprefix("CELERY_").lower()


def configuration(**variables: str) -> dict[str, Any]:
    """Return Celery's configuration in a process with these variables."""
    names = [celery_name(setting) for setting in CELERY_SETTINGS] + list(ALSO)
    code = (
        f"import json; from TimeOut.celery import app;print(json.dumps({{n: getattr(app.conf, n) for n in {names!r}}}))"
    )
    result = run("python3", "-c", code, **variables)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def django_settings(*names: str, **variables: str) -> dict[str, Any]:
    """Return some of Django's settings in a process with these variables."""
    code = (
        f"import json; from django.conf import settings as s;print(json.dumps({{n: getattr(s, n) for n in {names!r}}}))"
    )
    result = run("python3", "-c", code, DJANGO_SETTINGS_MODULE="TimeOut.settings", **variables)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def changed() -> dict[str, Any]:
    """Celery's configuration with every setting of the notes changed."""
    return configuration(**{name: value for name, (value, _) in CELERY_SETTINGS.items()})


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    """Celery's configuration with nothing set."""
    return configuration()


@pytest.mark.parametrize("setting", CELERY_SETTINGS)
def test_a_setting_of_the_notes_comes_from_the_environment_under_its_own_name(
    setting: str, changed: dict[str, Any]
) -> None:
    """`CELERY_X` in the environment is `x` in Celery's configuration."""
    assert changed[celery_name(setting)] == CELERY_SETTINGS[setting][1]


@pytest.mark.parametrize("setting", DEFAULTS)
def test_a_setting_of_the_notes_has_its_default(setting: str, default: dict[str, Any]) -> None:
    """Unset, it is what the settings say, which is not always what Celery would choose."""
    assert default[celery_name(setting)] == DEFAULTS[setting]


def test_the_visibility_timeout_follows_the_time_limits(default: dict[str, Any], changed: dict[str, Any]) -> None:
    """It is derived: time limit + soft shutdown + 60 seconds."""
    assert default["broker_transport_options"]["visibility_timeout"] == 1800 + 30 + 60
    assert changed["broker_transport_options"]["visibility_timeout"] == 700 + 41 + 60


def test_a_lost_broker_connection_is_noticed_and_retried_for_ever(default: dict[str, Any]) -> None:
    """Each of these was missing in a failure that was seen."""
    options = default["broker_transport_options"]
    assert options["socket_timeout"] == 10
    assert options["socket_connect_timeout"] == 5
    assert options["socket_keepalive"] is True
    assert options["health_check_interval"] == 10
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 10
    assert default["broker_connection_retry_on_startup"] is True
    assert default["broker_connection_max_retries"] is None
    assert default["task_publish_retry_policy"]["max_retries"] == 20
    assert default["worker_cancel_long_running_tasks_on_connection_loss"] is False


def test_a_task_survives_its_worker(default: dict[str, Any]) -> None:
    """It is acknowledged late, goes back when its process dies, and none is hoarded."""
    assert default["task_acks_late"] is True
    assert default["task_reject_on_worker_lost"] is True
    assert default["worker_prefetch_multiplier"] == 1


def test_workers_tell_flower_what_they_do_and_leave_the_logs_alone(default: dict[str, Any]) -> None:
    """Their own log would be a second one."""
    assert default["worker_send_task_events"] is True
    assert default["worker_hijack_root_logger"] is False


def test_the_broker_is_made_from_the_redis_variables() -> None:
    """With any character in the password, also a `$` at its beginning."""
    code = (
        "from TimeOut.celery import app; c = app.connection_for_write();"
        "print(c.hostname, c.port, c.userid, c.password, c.virtual_host)"
    )
    result = run(
        *("python3", "-c", code),
        REDIS_HOST="redis.example",
        REDIS_PORT="6390",
        REDIS_USERNAME="site",
        REDIS_PASSWORD="$a/b@c:d%e",
    )
    assert result.stdout.split() == ["redis.example", "6390", "site", "$a/b@c:d%e", "0"]


@pytest.mark.parametrize("results", ["django-db", "redis"])
def test_no_password_is_shown_by_celery_report(results: str, tmp_path: Path) -> None:
    """It prints the configuration, as Flower's page of a worker does; people paste it in public."""
    shown = run(
        *("celery", "-A", "TimeOut", "report"),
        **host_environment(
            tmp_path,
            DATABASE_URL="postgres://site:hunter2@127.0.0.1/site",
            REDIS_USERNAME="site",
            REDIS_PASSWORD="hunter2",
            CELERY_RESULT_BACKEND=results,
        ),
    )
    assert "CELERY_BROKER_URL: 'redis://127.0.0.1:6379/0'" in shown.stdout, shown.stderr
    assert "hunter2" not in shown.stdout
    assert HOST_SECRET_KEY not in shown.stdout


def test_results_in_redis_are_in_the_brokers_server_beside_the_queue() -> None:
    """`CELERY_RESULT_BACKEND=redis` needs nothing more, and uses database 1."""
    code = (
        "from TimeOut.celery import app; p = app.backend.connparams;"
        "print(type(app.backend).__name__,"
        " *[p[n] for n in ('host', 'port', 'db', 'username', 'password', 'socket_timeout')])"
    )
    result = run(
        *("python3", "-c", code),
        CELERY_RESULT_BACKEND="redis",
        REDIS_HOST="redis.example",
        REDIS_PORT="6390",
        REDIS_USERNAME="site",
        REDIS_PASSWORD="$a/b@c:d%e",
    )
    assert result.stdout.split() == [*("RedisBackend", "redis.example", "6390", "1", "site", "$a/b@c:d%e", "10.0")], (
        result.stderr
    )


def test_limits_of_the_inventory_hold_on_a_host(tmp_path: Path) -> None:
    """Unless the environment has one under Celery's own name: then the project's hold, in their order."""
    code = (
        "from celeriac.app import app; c = app.conf;"
        "print(c.task_time_limit, c.task_soft_time_limit, c.worker_soft_shutdown_timeout,"
        " c.broker_transport_options['visibility_timeout'])"
    )
    environment = host_environment(
        tmp_path,
        CELERIAC_CELERY_APP="TimeOut",
        CELERIAC_TASK_TIME_LIMIT="1000",
        CELERIAC_TASK_SOFT_TIME_LIMIT="800",
        CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT="7",
    )
    assert run("python3", "-c", code, **environment).stdout.split() == ["1000", "800", "7", "1067"]
    environment["CELERY_TASK_TIME_LIMIT"] = "100"
    assert run("python3", "-c", code, **environment).stdout.split() == ["100", "90", "7", "167"]


def test_a_rabbitmq_broker_confirms_what_it_took() -> None:
    """And gets none of the options that only Redis has; nobody waits for ever for one that is full."""
    assert configuration(CELERY_BROKER_URL="amqp://u:p@rabbit.example/site")["broker_transport_options"] == {
        "confirm_publish": True,
        "read_timeout": 10,
        "write_timeout": 10,
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CELERY_TASK_SOFT_TIME_LIMIT", "1800"),
        ("CELERY_TASK_SOFT_TIME_LIMIT", "0"),
        ("CELERY_TASK_TIME_LIMIT", "0"),
        ("CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT", "-60"),
    ],
)
def test_limits_in_the_wrong_order_are_refused(variable: str, value: str) -> None:
    """Soft < hard < visibility timeout, or a task would run twice; it says which variable."""
    result = run("python3", "manage.py", "check", **{variable: value})
    assert result.returncode != 0
    assert "ImproperlyConfigured: CELERY_TASK_SOFT_TIME_LIMIT must be" in result.stderr
    assert variable in result.stderr


@pytest.mark.parametrize("process", ["worker", "beat"])
def test_limits_in_the_wrong_order_stop_worker_and_beat(process: str) -> None:
    """Celery itself would start with them."""
    result = run("celery", "-A", "TimeOut", process, CELERY_TASK_SOFT_TIME_LIMIT="1800")
    assert result.returncode != 0
    assert "CELERY_TASK_SOFT_TIME_LIMIT must be" in result.stdout + result.stderr


@pytest.mark.parametrize("missing", ["SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL"])
def test_a_host_that_lost_a_variable_stops_instead_of_turning_on_debug_pages(missing: str, tmp_path: Path) -> None:
    """What a host must decide has no default there."""
    environment = host_environment(tmp_path)
    del environment[missing]
    result = run("python3", "manage.py", "check", **environment)
    assert result.returncode != 0
    assert f"Set the {missing} environment variable" in result.stderr


def test_a_host_is_closed(tmp_path: Path) -> None:
    """No debug pages, log-ins over HTTPS only, names that it answers to, its own time zone."""
    settings = django_settings(
        *("DEBUG", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "TIME_ZONE", "CELERY_TIMEZONE"),
        *("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT"),
        *("SECURE_PROXY_SSL_HEADER", "SECURE_HSTS_SECONDS", "STATIC_ROOT"),
        **host_environment(tmp_path, SECURE_HSTS_SECONDS="86400"),
    )
    assert settings == {
        "DEBUG": False,
        "ALLOWED_HOSTS": ["site.example.org", "localhost"],
        "CSRF_TRUSTED_ORIGINS": ["https://site.example.org"],
        "TIME_ZONE": "Europe/Berlin",
        "CELERY_TIMEZONE": "Europe/Berlin",
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SECURE_SSL_REDIRECT": True,
        "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
        "SECURE_HSTS_SECONDS": 86400,
        "STATIC_ROOT": str(tmp_path),
    }


def test_postgresql_is_reached_by_its_socket_and_connections_are_kept(tmp_path: Path) -> None:
    """`postgres:///site`: no host, no user, no password."""
    database = django_settings("DATABASES", **host_environment(tmp_path))["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert [database[part] for part in ("NAME", "HOST", "USER", "PASSWORD")] == ["site", "", "", ""]
    assert database["CONN_MAX_AGE"] == 60
    assert database["CONN_HEALTH_CHECKS"] is True
    assert database["OPTIONS"] == {"connect_timeout": 5}


def test_the_kept_connections_can_be_turned_off_in_the_address(tmp_path: Path) -> None:
    """As a pooler between Django and PostgreSQL wants it."""
    address = "postgres:///site?conn_max_age=0&sslmode=require"
    database = django_settings("DATABASES", **host_environment(tmp_path, DATABASE_URL=address))
    assert database["DATABASES"]["default"]["CONN_MAX_AGE"] == 0
    assert database["DATABASES"]["default"]["OPTIONS"] == {
        "connect_timeout": 5,
        "sslmode": "require",
    }


@pytest.mark.parametrize("hsts", ["0", None])
def test_the_deployment_checks_are_clean_on_a_host(hsts: str | None, tmp_path: Path) -> None:
    """With HSTS at its default, and turned off on purpose."""
    environment = host_environment(tmp_path, **({"SECURE_HSTS_SECONDS": hsts} if hsts else {}))
    result = run(*("python3", "manage.py", "check", "--deploy", "--fail-level", "WARNING"), **environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "warning"),
    [("SECRET_KEY", "short", "security.W009"), ("DEBUG", "true", "security.W018")],
)
def test_the_deployment_checks_still_warn(variable: str, value: str, warning: str, tmp_path: Path) -> None:
    """Silencing what was decided did not silence the rest."""
    result = run(
        *("python3", "manage.py", "check", "--deploy", "--fail-level", "WARNING"),
        **host_environment(tmp_path, **{variable: value}),
    )
    assert result.returncode != 0
    assert warning in result.stderr


# A name of each kind that is wrong, and what is said of it.
WRONG = {
    "CELERY_TASK_TIMELIMIT": "did you mean CELERY_TASK_TIME_LIMIT?",
    "CELERY_BROKER": "did you mean CELERY_BROKER_",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "is called CELERY_TASK_EAGER_PROPAGATES now",  # of the notes
    "CELERYD_CONCURRENCY": "is called CELERY_WORKER_CONCURRENCY now",
    "CELERY_XYZZY": "Celery has no setting CELERY_XYZZY.",
}


@pytest.mark.parametrize(
    "command",
    [
        ("python3", "manage.py", "check"),
        ("celery", "-A", "TimeOut", "worker"),
        ("celery", "-A", "TimeOut", "beat"),
        ("gunicorn", "--preload", "--bind=127.0.0.1:0", "TimeOut.wsgi:application"),
    ],
    ids=lambda command: command[0] + command[-1],
)
def test_a_misspelt_setting_of_celery_stops_every_process(command: tuple[str, ...], tmp_path: Path) -> None:
    """It says which, what it should be, and in which file; Celery itself would say nothing."""
    file = tmp_path / "misspelt.py"
    file.write_text("from TimeOut.settings import *\n" + "".join(f"{name} = 1\n" for name in WRONG))
    result = run(*command, DJANGO_SETTINGS_MODULE="misspelt", PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert f"{file}: " in said
    for name, hint in WRONG.items():
        assert name in said
        assert hint in said


def test_each_name_of_celerys_configuration_is_known() -> None:
    """As `CELERY_…`; what does not look like Celery's is not our business."""
    for name in DEFAULTS_OF_CELERY:
        assert names.problem(f"CELERY_{name.upper()}") == "", name
    for name in ("CELERIAC_RELEASE", "TIME_ZONE", "DJANGO_CELERY_BEAT_TZ_AWARE", "REDIS_HOST"):
        assert names.problem(name) == ""


def test_an_inventory_sets_any_of_them(tmp_path: Path) -> None:
    """What is in `site_environment` of the inventory reaches Celery, through the file that systemd reads."""
    values = {name: value for name, (value, _) in CELERY_SETTINGS.items()}
    # As roles/site_host has it: what is derived, and `site_environment` over it.
    environment = "{'CELERY_RESULT_BACKEND': 'django-db'} | combine(site_environment)"
    content = f"{{{{ {environment} | celeriac.site.systemd_environment }}}}"
    play = run(
        *("ansible", "localhost", "--connection=local", "--module-name=ansible.builtin.copy"),
        f"--args={json.dumps({'content': content, 'dest': str(tmp_path / 'environment')})}",
        f"--extra-vars={json.dumps({'site_environment': values})}",
        ANSIBLE_COLLECTIONS_PATH=str(SITE.parent / "collections"),
    )
    assert play.returncode == 0, play.stdout
    lines = (line for line in (tmp_path / "environment").read_text().splitlines() if not line.startswith("#"))
    written = {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines if line)}
    assert written == values
    assert configuration(**written)["task_time_limit"] == 700
