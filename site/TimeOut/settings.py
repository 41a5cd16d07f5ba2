"""Settings of the project. Whatever differs between hosts comes from the environment, under the name that it has here.

With none of SECRET_KEY, ALLOWED_HOSTS and STATIC_ROOT in the environment this is a developer's computer: debug pages,
SQLite and Redis on 127.0.0.1. With any of them it is a host, and what a host must decide has no default: one whose
environment file lost its key must stop, not turn on debug pages.

Django's: https://docs.djangoproject.com/en/5.2/ref/settings/
Celery's: https://docs.celeryq.dev/en/stable/userguide/configuration.html, where CELERY_TASK_TIME_LIMIT is
`task_time_limit`. What they are where nothing is said here: `celeriac.defaults` (../runtime).
"""

import os
from pathlib import Path

import environ
from celeriac import defaults
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
ON_HOST = any(name in os.environ for name in ("SECRET_KEY", "ALLOWED_HOSTS", "STATIC_ROOT"))


def secret(name: str, default: str | None = None) -> str:
    """Return a variable as it is written: django-environ takes one that begins with `$` for the name of another."""
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"Set the {name} environment variable")
    return value


# == Who may see what ==============================================================================

# Signs sessions and password-reset links: who knows it can log in as anybody.
SECRET_KEY = secret("SECRET_KEY", None if ON_HOST else "django-insecure-on-a-developers-computer")
# Debug pages show settings and source code to whoever causes an error.
DEBUG = env.bool("DEBUG", default=not ON_HOST)
# Names this site answers to; links could be forged with any other. With DEBUG: this computer.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS") if ON_HOST else []
# Origins, each with its scheme, whose forms may be posted here besides the site's own.
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# nginx ends HTTPS and overwrites this header in every request, so a client cannot pretend. Without nginx it would be
# the client's own word, and is not believed.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ON_HOST else None
# nginx redirects port 80 already; this also covers a request that reaches gunicorn some other way.
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ON_HOST
# How long a browser that came once refuses plain HTTP for this name, in seconds. It cannot be called back, so it is an
# hour; raise it to a year (31536000) once HTTPS is known to stay. A self-signed certificate is never remembered.
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600 if ON_HOST else 0)
# `check --deploy` must be clean, so that a new warning is seen. Decided: W005 and W021 ask to bind every subdomain, and
# to enter the browsers' built-in list; the site owns one name only. W004 says that HSTS is off; who wrote 0 knows.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if ON_HOST and not SECURE_HSTS_SECONDS:
    SILENCED_SYSTEM_CHECKS.append("security.W004")

# A page runs no script and loads no style that is not a file of this site: text that a task returned stays text.
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

_RULES = ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
AUTH_PASSWORD_VALIDATORS = [{"NAME": f"django.contrib.auth.password_validation.{name}Validator"} for name in _RULES]

# == Parts =========================================================================================

INSTALLED_APPS = [
    "app",
    "celeriac.checks",  # stops at a misspelt setting of Celery, and at limits that cannot be
    "celeriac.console",  # pages, API and commands for tasks
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
    "csp",  # checks the policy above
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

# What the pages of the console extend, and where they say Flower is.
CELERIAC_CONSOLE_BASE_TEMPLATE = "app/base.html"
CELERIAC_CONSOLE_FLOWER_URL = env.str("FLOWER_URL", default="/flower/" if ON_HOST else "http://127.0.0.1:5555/")

# == E-mail, language and time, database, files, logs ==============================================

# `smtp+tls://user:password@mail.example.org:587`; signs such as / and @ in the password as %2F and %40. Unless it is
# set, e-mails are written to the log and not sent.
# https://django-environ.readthedocs.io/en/latest/types.html#environ-env-email-url
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
# Seconds after which a mail server that does not answer is an error, and the task is tried again later.
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=10)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="webmaster@localhost")
# Who gets the daily report; without any it is only kept.
DAILY_REPORT_TO = env.list("DAILY_REPORT_TO", default=[])

# A browser gets the language that it asks for, and English when it asks for none of these.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
# The zone of times on pages. Stored times are UTC whatever it is (USE_TZ).
TIME_ZONE = env.str("TIME_ZONE", default="UTC")

# `postgres:///site` is PostgreSQL's local socket and the account's own role: no password to keep.
# https://django-environ.readthedocs.io/en/latest/types.html#environ-env-db-url
_AT_A_DESK = {} if ON_HOST else {"default": f"sqlite:///{BASE_DIR / 'db.sqlite3'}"}
DATABASES = {"default": defaults.database(env.db_url("DATABASE_URL", **_AT_A_DESK))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Where `collectstatic` puts files for nginx. On a host their names carry a hash of the content: browsers keep them for
# ever, and pages of an older release still find theirs.
STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT") if ON_HOST else str(BASE_DIR / "staticfiles")
_STATIC = "ManifestStaticFilesStorage" if ON_HOST else "StaticFilesStorage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": f"django.contrib.staticfiles.storage.{_STATIC}"},
}

LOGGING = defaults.logging(env.str("LOG_LEVEL", default="INFO"), time=not ON_HOST)

# == Celery ========================================================================================

# The Redis server: the broker is its database 0.
REDIS_HOST = env.str("REDIS_HOST", default="127.0.0.1")
REDIS_PORT = env.int("REDIS_PORT", default=6379)
REDIS_USERNAME = secret("REDIS_USERNAME", "")
REDIS_PASSWORD = secret("REDIS_PASSWORD", "")
# Through what tasks are sent; `amqp://…` makes it RabbitMQ. Empty is the same as unset, for Celery reads it, too.
CELERY_BROKER_URL = secret("CELERY_BROKER_URL", "")
if not CELERY_BROKER_URL:
    CELERY_BROKER_URL = f"redis://{REDIS_HOST}:{REDIS_PORT}/0"
    # Not in the address: `celery report` and Flower's page of a worker show that, and mask these.
    CELERY_BROKER_USER, CELERY_BROKER_PASSWORD = REDIS_USERNAME or None, REDIS_PASSWORD or None
# How long an answer of Redis, and a connection to it, may take, in seconds: as the broker, and for results.
CELERY_REDIS_SOCKET_TIMEOUT = env.int("CELERY_REDIS_SOCKET_TIMEOUT", default=10)
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = env.int("CELERY_REDIS_SOCKET_CONNECT_TIMEOUT", default=5)

# `django-db` keeps results in the database, where the admin shows them; `redis` in Redis, several times faster; or any
# URL that Celery takes. On a host `site_result_backend` of the inventory is stronger.
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default="django-db")
# Celery takes a bare `redis` to be at these, beside the queue; a URL has its own.
if CELERY_RESULT_BACKEND == "redis":
    CELERY_REDIS_HOST, CELERY_REDIS_PORT, CELERY_REDIS_DB = REDIS_HOST, REDIS_PORT, 1
    CELERY_REDIS_USERNAME, CELERY_REDIS_PASSWORD = REDIS_USERNAME or None, REDIS_PASSWORD or None
# Arguments, name and worker are kept with the result.
CELERY_RESULT_EXTENDED = env.bool("CELERY_RESULT_EXTENDED", default=True)
# A running task is STARTED, not still PENDING.
CELERY_TASK_TRACK_STARTED = env.bool("CELERY_TASK_TRACK_STARTED", default=True)
# Seconds that a result is kept; Redis, beat's daily `celery.backend_cleanup` and each worker of a host delete it. What
# is known of a task that was sent is kept as long, and for so many tasks at most: the task `celeriac.prune`.
CELERY_RESULT_EXPIRES = CELERIAC_LEDGER_KEEP_SECONDS = env.int("CELERY_RESULT_EXPIRES", default=7 * 24 * 3600)
CELERIAC_LEDGER_KEEP_ROWS = env.int("RUNS_MAX", default=100_000)

# A host has limits in its inventory (`site_task_time_limit_seconds`, …), for a project that says nothing of them.
if not ON_HOST or os.environ.keys() & {"CELERY_TASK_TIME_LIMIT", "CELERY_TASK_SOFT_TIME_LIMIT"}:
    # Seconds after which the task's process is killed: FAILURE with TimeLimitExceeded.
    CELERY_TASK_TIME_LIMIT = env.int("CELERY_TASK_TIME_LIMIT", default=30 * 60)
    # Seconds after which SoftTimeLimitExceeded is raised inside the task, which can still tidy up.
    CELERY_TASK_SOFT_TIME_LIMIT = env.int("CELERY_TASK_SOFT_TIME_LIMIT", default=CELERY_TASK_TIME_LIMIT * 9 // 10)
if not ON_HOST or "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT" in os.environ:
    # On SIGQUIT a worker gives running tasks this many seconds before it hands them back to the queue.
    CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.int("CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT", default=30)

# JSON only: what a stranger puts into a pickle runs as code in the worker.
CELERY_ACCEPT_CONTENT = env.list("CELERY_ACCEPT_CONTENT", default=["json"])
CELERY_TASK_SERIALIZER = env.str("CELERY_TASK_SERIALIZER", default="json")
CELERY_RESULT_SERIALIZER = env.str("CELERY_RESULT_SERIALIZER", default="json")
# True runs tasks inside the caller, without broker and worker; nothing shows up in Flower then.
CELERY_TASK_ALWAYS_EAGER = env.bool("CELERY_TASK_ALWAYS_EAGER", default=False)
# An exception in such a task reaches the caller.
CELERY_TASK_EAGER_PROPAGATES = env.bool("CELERY_TASK_EAGER_PROPAGATES", default=True)

# The zone of crontab schedules.
CELERY_TIMEZONE = env.str("CELERY_TIMEZONE", default=TIME_ZONE)
# The schedule is in the database, and the entries of the code are its defaults: django-celery-beat's own class,
# `django_celery_beat.schedulers:DatabaseScheduler`, writes them over what was changed in the admin at each start.
CELERY_BEAT_SCHEDULER = env.str("CELERY_BEAT_SCHEDULER", default="celeriac.schedule.scheduler:DatabaseScheduler")
# Each run is written down at once; by default beat forgets up to three minutes of them when it is killed.
CELERY_BEAT_SYNC_EVERY = env.int("CELERY_BEAT_SYNC_EVERY", default=1)
# A crontab run that was missed is made up for within so many seconds, not at any time of the next day.
CELERY_BEAT_CRON_STARTING_DEADLINE = env.int("CELERY_BEAT_CRON_STARTING_DEADLINE", default=3600)
