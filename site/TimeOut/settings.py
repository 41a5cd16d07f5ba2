"""Settings of the project. Whatever differs between hosts comes from the environment.

With none of SECRET_KEY, ALLOWED_HOSTS and STATIC_ROOT in the environment this is a developer's
computer: debug pages, SQLite and Redis on 127.0.0.1. With any of them it is a host, and what a host
must decide has no default.

Celery's `task_time_limit` is CELERY_TASK_TIME_LIMIT here, and has that name in the environment too.
Each setting's reference is linked above it.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import environ
from celeriac import priorities
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent

# Any one of the three makes it a host: a host whose environment file lost its key must stop, not
# turn on debug pages.
ON_HOST = any(name in os.environ for name in ("SECRET_KEY", "ALLOWED_HOSTS", "STATIC_ROOT"))


def secret(name: str, default: str | None = None) -> str:
    """Return a variable exactly as it is written.

    django-environ takes a value that starts with `$` for the name of another variable, which would
    silently break a password. Raises ImproperlyConfigured when it is unset and has no default.
    """
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"Set the {name} environment variable")
    return value


# ==================================================================================================
# Who may see what
# ==================================================================================================

# Signs sessions and password-reset links: who knows it can log in as anybody.
# https://docs.djangoproject.com/en/5.2/ref/settings/#secret-key
SECRET_KEY = secret("SECRET_KEY", None if ON_HOST else "django-insecure-on-a-developers-computer")

# Debug pages show settings and source code to whoever causes an error.
# https://docs.djangoproject.com/en/5.2/ref/settings/#debug
DEBUG = env.bool("DEBUG", default=not ON_HOST)

# Names this site answers to; any other Host header is refused, or links could be forged with it.
# https://docs.djangoproject.com/en/5.2/ref/settings/#allowed-hosts
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS") if ON_HOST else []  # with DEBUG: this computer

# Origins, each with its scheme, whose forms may be posted here besides the site's own.
# https://docs.djangoproject.com/en/5.2/ref/settings/#csrf-trusted-origins
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# ==================================================================================================
# HTTPS (nginx ends it; gunicorn hears plain HTTP on a local socket)
# ==================================================================================================

# nginx overwrites this header in every request, so a client cannot pretend. Without nginx, as on a
# developer's computer, the header would be the client's own word, so there it is not believed.
# https://docs.djangoproject.com/en/5.2/ref/settings/#secure-proxy-ssl-header
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ON_HOST else None

# nginx redirects port 80 already; this also covers a request that reaches gunicorn some other way.
# https://docs.djangoproject.com/en/5.2/ref/settings/#secure-ssl-redirect
SECURE_SSL_REDIRECT = ON_HOST

# Log-ins travel over HTTPS only.
# https://docs.djangoproject.com/en/5.2/ref/settings/#session-cookie-secure
SESSION_COOKIE_SECURE = ON_HOST
CSRF_COOKIE_SECURE = ON_HOST

# How long a browser that came once refuses plain HTTP for this name, in seconds. It cannot be
# called back, so the default is an hour; raise it to 31536000 (a year) once HTTPS is known to stay.
# Browsers ignore it while the certificate is self-signed.
# https://docs.djangoproject.com/en/5.2/ref/settings/#secure-hsts-seconds
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600 if ON_HOST else 0)

# `check --deploy` must be clean, so that a new warning is seen. What is silenced was decided: W005
# and W021 ask to bind every subdomain, and to enter the browsers' built-in list; the site owns one
# name only.
# https://docs.djangoproject.com/en/5.2/ref/checks/#security
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# W004 says that HSTS is off; an operator who wrote 0 knows.
if "SECURE_HSTS_SECONDS" in env and SECURE_HSTS_SECONDS == 0:
    SILENCED_SYSTEM_CHECKS.append("security.W004")

# ==================================================================================================
# Parts
# ==================================================================================================

INSTALLED_APPS = [
    "app",
    "celeriac.console",  # pages, API and commands for tasks (../runtime)
    "celeriac.ledger",  # the journal of what was sent
    "celeriac.schedule",  # the schedule of the code, merged into the tables of the next
    "django_celery_beat",  # the schedule, as tables that the admin edits
    "django_celery_results",  # results of tasks, as tables that the admin shows
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "csp",  # checks the policy below
    "ninja",  # the page of the API, with scripts and styles from the site's own static files
    "django_htmx",  # lists and pages of runs that stay live
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

# A page runs no script and loads no style that is not a file of this site: text that a task returned stays text,
# whatever is in it.
# https://django-csp.readthedocs.io/en/latest/configuration.html
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
    },
}

ROOT_URLCONF = "TimeOut.urls"
WSGI_APPLICATION = "TimeOut.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# What the pages of the console extend.
CELERIAC_CONSOLE_BASE_TEMPLATE = "app/base.html"
# Where they say Flower is; empty for no link.
CELERIAC_CONSOLE_FLOWER_URL = env.str("FLOWER_URL", default="/flower/" if ON_HOST else "http://127.0.0.1:5555/")

# ==================================================================================================
# E-mail
# ==================================================================================================

# `smtp+tls://user:password@mail.example.org:587`; signs such as / and @ in the password as %2F and %40. Unless it is
# set, e-mails are written to the log and not sent.
# https://django-environ.readthedocs.io/en/latest/types.html#environ-env-email-url
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
# Seconds after which a mail server that does not answer is an error, and the task is tried again later.
# https://docs.djangoproject.com/en/5.2/ref/settings/#email-timeout
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=10)
# https://docs.djangoproject.com/en/5.2/ref/settings/#default-from-email
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="webmaster@localhost")
# Who gets the daily report; without any it is only kept.
DAILY_REPORT_TO = env.list("DAILY_REPORT_TO", default=[])

# ==================================================================================================
# Language and time
# ==================================================================================================

# A browser gets the one that it asks for, and English when it asks for none of these.
# https://docs.djangoproject.com/en/5.2/topics/i18n/translation/#how-django-discovers-language-preference
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
USE_I18N = True

# The zone of times on pages and of crontab schedules. Stored times are UTC whatever it is.
# https://docs.djangoproject.com/en/5.2/ref/settings/#time-zone
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

# ==================================================================================================
# Database
# ==================================================================================================

# `postgres:///site` is PostgreSQL's local socket and the account's own role: no password to keep.
# https://django-environ.readthedocs.io/en/latest/types.html#environ-env-db-url
DATABASES = {
    "default": env.db_url("DATABASE_URL")
    if ON_HOST
    else env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
}
_database = DATABASES["default"]

# Each gunicorn thread keeps its connection between requests, for a minute at most: PostgreSQL needs
# room for processes x threads of them, twice that while two releases overlap. Workers do not keep
# any: Celery closes the connection after each task. `?conn_max_age=0` in DATABASE_URL turns it off.
# https://docs.djangoproject.com/en/5.2/ref/databases/#persistent-connections
_database.setdefault("CONN_MAX_AGE", 60)
# A kept connection is tested before its first use in a request, so a restart of PostgreSQL is not
# seen as an error.
_database.setdefault("CONN_HEALTH_CHECKS", True)

if _database["ENGINE"] == "django.db.backends.sqlite3":
    # Web, worker and beat write to one file: wait for the lock instead of failing, take it before
    # reading, and let readers go on meanwhile.
    # https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-transaction-behavior
    _database["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    } | _database.get("OPTIONS", {})
elif _database["ENGINE"] == "django.db.backends.postgresql":
    # A database that swallows packets is an error after 5 seconds, not the kernel's two minutes.
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CONNECT-TIMEOUT
    _database["OPTIONS"] = {"connect_timeout": 5} | _database.get("OPTIONS", {})

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ==================================================================================================
# Static files
# ==================================================================================================

STATIC_URL = "/static/"

# Where `collectstatic` puts them for nginx.
# https://docs.djangoproject.com/en/5.2/ref/settings/#static-root
STATIC_ROOT = env.str("STATIC_ROOT") if ON_HOST else str(BASE_DIR / "staticfiles")

# On a host names carry a hash of the content: nginx lets browsers keep them for ever, and pages of
# an older release still find theirs.
# https://docs.djangoproject.com/en/5.2/ref/contrib/staticfiles/#manifeststaticfilesstorage
_static_storage = "ManifestStaticFilesStorage" if ON_HOST else "StaticFilesStorage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": f"django.contrib.staticfiles.storage.{_static_storage}"},
}

# ==================================================================================================
# Logs: one line an event on standard output, where systemd's journal adds time, unit and process
# ==================================================================================================

# https://docs.djangoproject.com/en/5.2/ref/settings/#logging
_log_format = "{levelname} {name}: {message}"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": _log_format if ON_HOST else "{asctime} " + _log_format, "style": "{"},
    },
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "line",
        },
    },
    "root": {"handlers": ["stdout"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Django's own handlers would print every line a second time.
        "django": {"handlers": [], "level": "INFO"},
    },
}

# ==================================================================================================
# Celery: broker
# ==================================================================================================

# The Redis server: the broker is its database 0.
REDIS_HOST = env.str("REDIS_HOST", default="127.0.0.1")
REDIS_PORT = env.int("REDIS_PORT", default=6379)
REDIS_USERNAME = secret("REDIS_USERNAME", "")
REDIS_PASSWORD = secret("REDIS_PASSWORD", "")

# Through what tasks are sent; `amqp://…` makes it RabbitMQ. Empty is the same as unset, for Celery
# reads the variable too.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-url
CELERY_BROKER_URL = secret("CELERY_BROKER_URL", "")
if not CELERY_BROKER_URL:
    CELERY_BROKER_URL = f"redis://{REDIS_HOST}:{REDIS_PORT}/0"
    # Not in the address: `celery report` and Flower's page of a worker show that, and mask these.
    CELERY_BROKER_USER, CELERY_BROKER_PASSWORD = REDIS_USERNAME or None, REDIS_PASSWORD or None

# How long an answer of Redis, and a connection to it, may take, in seconds. Celery reads the two
# for results; the broker's options below take them over.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-socket-timeout
CELERY_REDIS_SOCKET_TIMEOUT = env.int("CELERY_REDIS_SOCKET_TIMEOUT", default=10)
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = env.int("CELERY_REDIS_SOCKET_CONNECT_TIMEOUT", default=5)
CELERY_REDIS_SOCKET_KEEPALIVE = True

# ==================================================================================================
# Celery: how long a task may take
# ==================================================================================================

# Seconds after which the task's process is killed; its state is FAILURE with TimeLimitExceeded.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-time-limit
CELERY_TASK_TIME_LIMIT = env.int("CELERY_TASK_TIME_LIMIT", default=30 * 60)

# Seconds after which SoftTimeLimitExceeded is raised inside the task, which can still tidy up.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-soft-time-limit
CELERY_TASK_SOFT_TIME_LIMIT = env.int("CELERY_TASK_SOFT_TIME_LIMIT", default=CELERY_TASK_TIME_LIMIT * 9 // 10)

# On SIGQUIT a worker gives running tasks this many seconds before it hands them back to the queue.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#worker-soft-shutdown-timeout
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.int("CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT", default=30)

# On a host a task belongs to its worker as long as that lives (`celeriac.transport`), however long
# it takes. This is the last resort, for workers that have no lease, `celery -A TimeOut worker` on a
# developer's computer: Redis gives a task to another one when it was not acknowledged for this long.
# Derived and never typed, because a task that may still run longer than this would be run twice
# there, again and again. It also bounds countdown: what must happen later belongs in the schedule.
# `app.checks` looks after tasks with limits of their own.
# https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#visibility-timeout
VISIBILITY_TIMEOUT = CELERY_TASK_TIME_LIMIT + CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + 60

if not 0 < CELERY_TASK_SOFT_TIME_LIMIT < CELERY_TASK_TIME_LIMIT < VISIBILITY_TIMEOUT:
    raise ImproperlyConfigured(
        "CELERY_TASK_SOFT_TIME_LIMIT must be above 0 and below CELERY_TASK_TIME_LIMIT, and "
        "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT must not be negative. In seconds they are "
        f"{CELERY_TASK_SOFT_TIME_LIMIT}, {CELERY_TASK_TIME_LIMIT} and "
        f"{CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT}."
    )

# ==================================================================================================
# Celery: a broker that goes away comes back
# ==================================================================================================

# https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.redis.html
_REDIS_TRANSPORT_OPTIONS = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    # Without it a connection that died silently (firewall, frozen host) holds a worker for ever.
    "socket_timeout": CELERY_REDIS_SOCKET_TIMEOUT,
    "socket_connect_timeout": CELERY_REDIS_SOCKET_CONNECT_TIMEOUT,
    "socket_keepalive": True,
    # How often idle connections are tried and tasks of dead workers looked for, in seconds.
    "health_check_interval": 10,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # Ten lists for the ten priorities, and 9 is first, as on RabbitMQ.
    "priority_steps": priorities.REDIS_STEPS,
}
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-transport-options
CELERY_BROKER_TRANSPORT_OPTIONS = (
    _REDIS_TRANSPORT_OPTIONS
    if urlsplit(CELERY_BROKER_URL).scheme in {"redis", "rediss", "sentinel"}
    # RabbitMQ confirms that it has the message, or the publisher gets the error.
    else {"confirm_publish": True}
)

# A worker that starts before its broker waits for it, and one whose broker is away tries for ever
# (the default, 100 times, ends it).
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-connection-max-retries
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None

# Publishing waits out a restart of the broker, about 20 seconds; beat would otherwise skip the run.
# A web request gives up sooner: see `app.views.enqueue_add`.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-publish-retry-policy
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 20,
    "interval_start": 0.2,
    "interval_step": 0.2,
    "interval_max": 1,
}

# Tasks that run while the connection is lost are finished: a cancelled one would begin anew, and
# without a lease only after the visibility timeout.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#worker-cancel-long-running-tasks-on-connection-loss
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

# ==================================================================================================
# Celery: tasks
# ==================================================================================================

# A task is acknowledged when it has ended, and goes back to the queue when its process dies: it is
# run at least once, sometimes twice.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-acks-late
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True

# As many tasks as processes: with late acknowledgement none waits behind a slow one while another
# worker is free.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#worker-prefetch-multiplier
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# Priorities go from 0 to 9, 9 is first: `apply_async(priority=9)`. A RabbitMQ queue is declared with its highest one,
# and for good: another number here needs another queue.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-queue-max-priority
CELERY_TASK_QUEUE_MAX_PRIORITY = priorities.HIGHEST
# Without one a task is in the middle, and not behind all others. A route and not `task_default_priority`, which
# only a task knows that is registered where it is sent: `celery call`, Flower and `send_task` go by name.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-routes
CELERY_TASK_ROUTES = {"*": {"priority": priorities.DEFAULT}}

# JSON only: what a stranger puts into a pickle runs as code in the worker.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#accept-content
CELERY_ACCEPT_CONTENT = env.list("CELERY_ACCEPT_CONTENT", default=["json"])
CELERY_TASK_SERIALIZER = env.str("CELERY_TASK_SERIALIZER", default="json")
CELERY_RESULT_SERIALIZER = env.str("CELERY_RESULT_SERIALIZER", default="json")

# True runs tasks inside the caller, without broker and worker; nothing shows up in Flower then.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-always-eager
CELERY_TASK_ALWAYS_EAGER = env.bool("CELERY_TASK_ALWAYS_EAGER", default=False)
# An exception in such a task reaches the caller.
CELERY_TASK_EAGER_PROPAGATES = env.bool("CELERY_TASK_EAGER_PROPAGATES", default=True)

# The zone of crontab schedules.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#timezone
CELERY_TIMEZONE = env.str("CELERY_TIMEZONE", default=TIME_ZONE)

# Flower, and `celery events`, see only what workers tell.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#worker-send-task-events
CELERY_WORKER_SEND_TASK_EVENTS = True

# The logs above stay as they are set; `--loglevel` still decides how much is written.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#worker-hijack-root-logger
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# ==================================================================================================
# Celery: results
# ==================================================================================================

# `django-db` keeps results in the database, where the admin shows them; `redis` in Redis, several
# times faster; or any URL that Celery takes.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default="django-db")

# Celery reads that variable itself and takes a bare `redis` to be at these. Not set for a URL,
# which has its own. A host has a second server for results, which forgets the oldest when it is
# full; with one server only they are beside the queue, in database 1.
if CELERY_RESULT_BACKEND == "redis":
    CELERY_REDIS_HOST = REDIS_HOST
    CELERY_REDIS_PORT = env.int("REDIS_RESULTS_PORT", default=REDIS_PORT)
    CELERY_REDIS_DB = 1 if CELERY_REDIS_PORT == REDIS_PORT else 0
    CELERY_REDIS_USERNAME, CELERY_REDIS_PASSWORD = REDIS_USERNAME or None, REDIS_PASSWORD or None

# Arguments, name and worker are kept with the result.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-extended
CELERY_RESULT_EXTENDED = env.bool("CELERY_RESULT_EXTENDED", default=True)

# A running task is STARTED, not still PENDING.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-track-started
CELERY_TASK_TRACK_STARTED = env.bool("CELERY_TASK_TRACK_STARTED", default=True)

# Seconds that a result is kept. Redis forgets by itself; in the database beat's daily
# `celery.backend_cleanup` deletes, and on a host each worker, which also bounds their number.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-expires
CELERY_RESULT_EXPIRES = env.int("CELERY_RESULT_EXPIRES", default=7 * 24 * 3600)

# What is known of a task that was sent (its arguments, who sent it, whether it was revoked) is kept as long as its
# result, and for so many tasks at most. The journal, and `app.tasks.prune_runs`, delete the rest.
RUNS_EXPIRE = CELERY_RESULT_EXPIRES
RUNS_MAX = env.int("RUNS_MAX", default=100_000)
CELERIAC_LEDGER_KEEP_SECONDS = RUNS_EXPIRE
CELERIAC_LEDGER_KEEP_ROWS = RUNS_MAX

# ==================================================================================================
# Celery: beat
# ==================================================================================================

# The schedule is in the database, and the entries of the code are its defaults: django-celery-beat's own class,
# `django_celery_beat.schedulers:DatabaseScheduler`, writes them over what was changed in the admin at each start.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#beat-scheduler
CELERY_BEAT_SCHEDULER = env.str("CELERY_BEAT_SCHEDULER", default="celeriac.schedule.scheduler:DatabaseScheduler")

# Each run is written down at once; by default beat forgets up to three minutes of them when it is
# killed.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#beat-sync-every
CELERY_BEAT_SYNC_EVERY = env.int("CELERY_BEAT_SYNC_EVERY", default=1)

# A crontab run that was missed is made up for within so many seconds, not at any time of the next day.
# https://docs.celeryq.dev/en/stable/userguide/configuration.html#beat-cron-starting-deadline
CELERY_BEAT_CRON_STARTING_DEADLINE = env.int("CELERY_BEAT_CRON_STARTING_DEADLINE", default=3600)
