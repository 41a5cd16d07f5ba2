"""What a project wants under systemd, and neither Celery nor Django has by default. What a project says itself stays.

What keeps a promise is laid on the app of every project by `celeriac.configure`: `lay`, and `DURABLE` by
`celeriac.guarantees`. The rest is a matter of taste, and a project asks for it, in ``celery.py`` and in its settings;
with it it has the promises at a desk, too.

    app.config_from_object("django.conf:settings", namespace="CELERY")
    defaults.add(app)

    DATABASES = {"default": defaults.database(env.db_url("DATABASE_URL"))}
    LOGGING = defaults.logging("INFO")
"""

import os
from collections import ChainMap
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import django
from celery import Celery, Task

from celeriac import priorities
from celeriac.internals import is_set, on_bind, set_over, soft_shutdown_seconds

REDIS = frozenset({"redis", "rediss", "sentinel"})

# Each has its reference under its own name: https://docs.celeryq.dev/en/stable/userguide/configuration.html
DURABLE: Mapping[str, bool | int] = {
    # A task is acknowledged when it has ended, and goes back to the queue when its process dies: it is executed at
    # least once, whatever ends its worker, and sometimes twice.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # As many tasks as processes: with late acknowledgement none waits behind a slow one while another worker is free.
    "worker_prefetch_multiplier": 1,
}

_PROMISED = {
    # A worker that starts before its broker waits for it, and one whose broker is unavailable tries for ever (100
    # times is Celery's default, which ends it).
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Tasks that run while the connection is lost are finished: a cancelled one would begin anew, and without a lease
    # only after the visibility timeout.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # How long an answer of Redis, and a connection to it, may take, in seconds. Celery reads them for results; for the
    # broker they are taken over below.
    "redis_socket_timeout": 10,
    "redis_socket_connect_timeout": 5,
    "redis_socket_keepalive": True,
}

_OF_TASTE = {
    # A RabbitMQ queue is declared with its highest priority, and for good: another number needs another queue.
    "task_queue_max_priority": priorities.HIGHEST,
    # Without one a task is in the middle, and not behind all others. A route and not `task_default_priority`, which
    # only a task knows that is registered where it is sent: `celery call`, Flower and `send_task` go by name.
    "task_routes": {"*": {"priority": priorities.DEFAULT}},
    # Flower, and `celery events`, see only what workers tell.
    "worker_send_task_events": True,
    # The project's logs stay as they are set; `--loglevel` still decides how much is written.
    "worker_hijack_root_logger": False,
}

# Publishing waits out a restart of the broker, about 20 seconds; beat would otherwise skip the run. While somebody
# waits for a page it gives up sooner: `lay`, and at once `celeriac.enqueue`.
PATIENT_RETRIES = 20

# How long Redis waits where nobody says it: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
_KOMBUS_VISIBILITY_SECONDS = 3600

# The tasks of this process, and to what they have raised the visibility timeout of an app that is ours to choose.
_tasks: WeakSet[type] = WeakSet()
_raised: WeakKeyDictionary[Celery, float | None] = WeakKeyDictionary()

# What the inventory says of all tasks, by the variable that has it, in seconds.
_LIMITS = {"task_time_limit": "CELERIAC_TASK_TIME_LIMIT", "task_soft_time_limit": "CELERIAC_TASK_SOFT_TIME_LIMIT"}
# Of a pool of workers that may take longer: all that use a Redis must agree on how long it waits.
_LONGEST = {"longest": "CELERIAC_LONGEST_TASK_TIME_LIMIT"}
_SOFT_SHUTDOWN = {"worker_soft_shutdown_timeout": "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT"}

_SQLITE_SINCE_5_1 = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
}
_DATABASES: Mapping[str, dict[str, Any]] = {
    # Web, worker and beat write to one file: wait for the lock instead of failing, take it before reading, and let
    # readers go on meanwhile. Django before 5.1 knows the first only, and refuses what it does not know.
    # https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-transaction-behavior
    "django.db.backends.sqlite3": {
        "timeout": 20,
        **(_SQLITE_SINCE_5_1 if django.VERSION >= (5, 1) else {}),
    },
    # A database that swallows packets is an error after 5 seconds, not the kernel's two minutes.
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CONNECT-TIMEOUT
    "django.db.backends.postgresql": {"connect_timeout": 5},
}


def lay(app: Celery, *, retries: int) -> None:
    """Lay on a Celery app what keeps a promise, where the project says nothing. Doing it again changes nothing.

    Of the options of the broker's transport those are added that it does not have.

    Args:
        app: of the project; it is changed in place.
        retries: how often a publication is tried again.
    """
    app.conf.update(unset(app, _promised(app, retries)))
    options = _transport_options(app.conf, app.conf.broker_url)
    set_over(app, broker_transport_options={**options, **app.conf.broker_transport_options})
    _raised.setdefault(app, None)
    for task in [each for each in _tasks if getattr(each, "app", None) is app]:
        _wait_for(app, task)


def add(app: Celery) -> None:
    """Give a Celery app what it has no setting of its own for, once its settings are read.

    Args:
        app: of the project; it is changed in place.
    """
    app.add_defaults(lambda: _missing(app))
    _raised.setdefault(app, None)


def _missing(app: Celery) -> dict[str, Any]:
    """Return the settings of Celery to add. It would prefer them to the project's own: these are left out."""
    missing = unset(app, {**DURABLE, **_promised(app, PATIENT_RETRIES), **_OF_TASTE})
    if not is_set(app, "broker_transport_options"):
        options = _transport_options(ChainMap(missing, app.conf), app.conf["broker_url"])
        # Ten lists for the ten priorities, and 9 is first, as on RabbitMQ.
        ordered = {"priority_steps": priorities.REDIS_STEPS} if is_redis(app.conf["broker_url"]) else {}
        missing["broker_transport_options"] = {**options, **ordered}
    return missing


def _promised(app: Celery, retries: int) -> dict[str, Any]:
    """Return what keeps a promise, with what the inventory says in seconds.

    Its limits are for a project that has none: a soft one of ours below a hard one of theirs would end what they let
    run.
    """
    limits = {} if any(is_set(app, name) for name in _LIMITS) else _seconds(_LIMITS)
    policy = {"max_retries": retries, "interval_start": 0.2, "interval_step": 0.2, "interval_max": 1}
    return {**_PROMISED, "task_publish_retry_policy": policy, **_seconds(_SOFT_SHUTDOWN), **limits}


def unset(app: Celery, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some settings that the project has not.

    Args:
        app: of the project.
        settings: by their names in lower case.
    """
    return {name: value for name, value in settings.items() if not is_set(app, name)}


def _seconds(variables: Mapping[str, str]) -> dict[str, int]:
    """Return the settings whose variable the environment has."""
    return {name: int(os.environ[each]) for name, each in variables.items() if os.environ.get(each)}


def is_redis(broker_url: str | None) -> bool:
    """Return whether the address of a broker is one of a Redis."""
    return str(broker_url).partition(":")[0] in REDIS


def _transport_options(conf: Mapping[str, Any], broker_url: str | None) -> dict[str, Any]:
    """Return what the transport of the broker is told.

    https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.redis.html
    """
    if not is_redis(broker_url):
        # RabbitMQ confirms that it has the message, or who sends it gets an error; soon, too, where it
        # lets those wait who send, or is frozen.
        seconds = conf["redis_socket_timeout"]
        return {"confirm_publish": True, "read_timeout": seconds, "write_timeout": seconds}
    options = {
        # Without it a connection that died silently (firewall, frozen host) holds a worker for ever.
        "socket_timeout": conf["redis_socket_timeout"],
        "socket_connect_timeout": conf["redis_socket_connect_timeout"],
        "socket_keepalive": conf["redis_socket_keepalive"],
        # How often idle connections are tried and tasks of dead workers looked for, in seconds.
        "health_check_interval": 10,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    }
    if seconds := _visibility_seconds(conf, _longest(conf)):
        # On a host a task belongs to its worker as long as that lives (`celeriac.transport`), however long it takes.
        # This is the last resort, for workers without a lease, `celery -A PROJECT worker` at a desk: Redis gives a task
        # to another one when it was not acknowledged for this long. Derived and never typed, because a task that may
        # run longer than this would be run twice there, again and again; one with a longer limit of its own
        # raises it (`_wait_for`). It also bounds countdown: what must happen later belongs in the schedule.
        options["visibility_timeout"] = seconds
    return options


def _visibility_seconds(conf: Mapping[str, Any], held: float | None) -> float | None:
    """Return how long Redis waits for a task that a worker may hold for so long, None where nobody knows that."""
    return held + soft_shutdown_seconds(conf) + 60 if held else None


def _longest(conf: Mapping[str, Any]) -> float | None:
    """Return how long a task may run that says nothing of it itself, on any worker."""
    return max([conf["task_time_limit"] or 0, *_seconds(_LONGEST).values()]) or None


def _wait_for(app: Celery, task: Any) -> None:
    """Let Redis wait for a task that says itself that it takes longer, unless the project says how long Redis waits.

    It is asked as each task comes, so every process has the same in the end. A worker holds a task that is to be
    tried again until its time, too.
    """
    conf = app.conf
    options = conf.broker_transport_options
    ours = _visibility_seconds(conf, _longest(conf))
    if not is_redis(conf.broker_url) or options.get("visibility_timeout") not in {None, ours, _raised[app]}:
        return
    runs = max(task.time_limit or 0, task.soft_time_limit or 0)
    delay = task.default_retry_delay or 0  # a project may have said None
    waits = delay if delay > Task.default_retry_delay else 0
    if not (runs or waits):
        return
    needed = _visibility_seconds(conf, (runs or _longest(conf) or 0) + waits)
    if needed and needed > (options.get("visibility_timeout") or _KOMBUS_VISIBILITY_SECONDS):
        _raised[app] = needed
        set_over(app, broker_transport_options={**options, "visibility_timeout": needed})


def _bound(app: Celery, task: type, own: set[str]) -> None:
    _tasks.add(task)
    if app in _raised:
        _wait_for(app, task)


def database(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return one of the `DATABASES`, with what its connections want.

    Each gunicorn thread keeps its connection between requests, for a minute at most: PostgreSQL needs room for
    processes x threads of them, twice that while two releases overlap. Workers do not keep any: Celery closes the
    connection after each task. A kept one is tested before its first use in a request, so a restart of PostgreSQL is
    not seen as an error. https://docs.djangoproject.com/en/5.2/ref/databases/#persistent-connections

    Args:
        found: what the project has of it, such as what django-environ makes of a URL.
    """
    options = {**_DATABASES.get(found["ENGINE"], {}), **found.get("OPTIONS", {})}
    return {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True, **found, "OPTIONS": options}


def logging(level: str, *, time: bool = False) -> dict[str, Any]:
    """Return `LOGGING`: one line an event on standard output, where systemd's journal adds time, unit and process.

    Args:
        level: the least that is written, such as "INFO".
        time: whether each line has its time; for a terminal, which has no journal.
    """
    line = ("{asctime} " if time else "") + "{levelname} {name}: {message}"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": line, "style": "{"}},
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"},
        },
        "root": {"handlers": ["stdout"], "level": level},
        # Django's own handlers would print every line a second time.
        "loggers": {"django": {"handlers": [], "level": "INFO"}},
    }


# At the import of this module, for that is before the project has tasks.
on_bind((), _bound)
