"""From what a trial has shown to choices of the inventory, each with its reason; and what a person has to decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.init.known import BROKER_PORT, MARKS, READY
from cli.init.project import Guess
from cli.init.trial import Trial

_POSTGRESQL = "django.db.backends.postgresql"
# Engines that are PostgreSQL with something more.
_LIKE_POSTGRESQL = ("postgresql", "postgis")
_REDIS = "redis://"
# Apps of projects that have websockets.
_WEBSOCKETS = frozenset({"channels", "daphne"})
# What lets their web processes hear of each other, and what does not.
_LAYER = "channels_redis.core.RedisChannelLayer"
_NO_LAYER = "channels.layers.InMemoryChannelLayer"
# What `check --deploy` asks for and a host behind nginx has, by the finding.
_OF_FINDINGS: Mapping[str, tuple[str, Any]] = {
    "security.W004": ("SECURE_HSTS_SECONDS", "{{ site_hsts_seconds }}"),
    "security.W008": ("SECURE_SSL_REDIRECT", True),
    "security.W010": ("SESSION_COOKIE_SECURE", True),
    "security.W011": ("SESSION_COOKIE_SECURE", True),
    "security.W012": ("SESSION_COOKIE_SECURE", True),
    "security.W015": ("CSRF_COOKIE_SECURE", True),
    "security.W016": ("CSRF_COOKIE_SECURE", True),
}
# Mended by what is laid over the settings anyway.
_MENDED = frozenset({"security.W009", "security.W018", "security.W020"})
# What a project may well decide otherwise: other names below the domain, and the list that browsers keep. Both are
# asked for as soon as browsers are to remember anything.
_HSTS = "security.W004"
_DECIDED = frozenset({"security.W005", "security.W021"})


def of_environment(trial: Trial) -> Iterator[Guess]:
    """Yield what variables that the settings ask for are given."""
    if not trial.environment:
        return
    yield Guess("site_environment", dict(trial.environment), "the settings ask for them")
    if "{{ site_database_password }}" in trial.environment.values():
        yield Guess("site_database_login", "password", "the settings ask for a password of the database")


def of_settings(trial: Trial) -> Iterator[Guess]:
    """Yield what the settings have shown, and what has to be laid over them."""
    settings = trial.settings
    laid = {**_laid(settings), **_laid_for_celery(trial.celery), **_laid_for_findings(trial.findings)}
    if laid:
        yield Guess("site_settings", laid, "the settings do not have them from the environment, or are for developers")
    if ignored := sorted(_DECIDED & {*trial.findings, *(_DECIDED if _HSTS in trial.findings else ())}):
        yield Guess("site_check_ignore", ignored, "what is decided: other names below the domain, browsers' own list")
    if any(_is_redis(cache) for cache in _caches(settings).values()):
        yield Guess("site_redis_cache", True, "CACHES asks for a Redis, and that of the queue is none")
    if "CHANNEL_LAYERS" in laid:
        yield Guess("site_redis_cache", True, "CHANNEL_LAYERS asks for a Redis, and that of the queue is none")
    if str(settings.get("STATIC_URL", "/static/")).strip("/") != "static":
        yield Guess("site_static_url", f"/{settings['STATIC_URL'].strip('/')}/", "STATIC_URL")
    if settings.get("MEDIA_ROOT") and (path := str(settings.get("MEDIA_URL") or "").strip("/")) and ":" not in path:
        yield Guess("site_data_folders", ["media"], "MEDIA_ROOT: uploads outlive a release")
        yield Guess("site_media_url", f"/{path}/", "MEDIA_URL")
    if settings.get("TIME_ZONE", MARKS["TIME_ZONE"]) not in ("UTC", None):
        yield Guess("site_time_zone", settings["TIME_ZONE"], "TIME_ZONE")
    asgi = str(settings.get("ASGI_APPLICATION") or "")
    if asgi and _WEBSOCKETS & set(settings.get("INSTALLED_APPS", ())):
        yield Guess("site_asgi_application", ":".join(asgi.rsplit(".", 1)), "ASGI_APPLICATION, and it has websockets")
    yield from _of_pages(trial.pages)
    yield from _of_celery(trial.celery)


def undecided(trial: Trial, guessed: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person has to look at, a sentence each."""
    for part, why in trial.errors.items():
        yield f"{_PARTS[part]} could not be had: {why}"
    if _NO_LAYER in str(trial.settings.get("CHANNEL_LAYERS")) and not trial.settings.get("has_channels_redis"):
        yield (
            "CHANNEL_LAYERS is in memory, so web processes do not hear of each other. With the package channels-redis "
            "it can be in Redis."
        )
    engine = str(trial.settings.get("DATABASES", {}).get("default", {}).get("ENGINE", ""))
    if engine and not engine.endswith(_LIKE_POSTGRESQL):
        yield f"The database is {engine.rpartition('.')[2]} here, and PostgreSQL on hosts: it begins empty there."
    if "site_health_path" not in guessed and trial.pages:
        yield "No page is found that says whether the site is well. Set site_health_path to one that answers 200."
    if not trial.celery.get("has_schedule", True) and "django_celery_beat" not in trial.settings.get(
        "INSTALLED_APPS", ()
    ):
        yield "Nothing is scheduled. A site without beat has `beat: {}` in hosts.yml."
    rest = sorted(set(trial.findings) - set(_OF_FINDINGS) - _MENDED - _DECIDED)
    if rest:
        yield (
            f"`manage.py check --deploy` will say {', '.join(rest)}, and stop a deploy: mend it in the settings, "
            f"or `site_check_ignore: [{', '.join(rest)}]`."
        )


_PARTS = {
    "settings": "The settings",
    "apps": "INSTALLED_APPS",
    "celery": "The app of Celery",
    "pages": "The addresses of pages",
    "findings": "What `check --deploy` says",
}


def _laid(settings: Mapping[str, Any]) -> dict[str, Any]:
    laid: dict[str, Any] = {}
    if not settings:
        return laid
    if settings.get("SECRET_KEY") != MARKS["SECRET_KEY"]:
        laid["SECRET_KEY"] = "{{ site_secret_key }}"
    if settings.get("DEBUG"):
        laid["DEBUG"] = False
    if not {"*", MARKS["ALLOWED_HOSTS"]} & set(settings.get("ALLOWED_HOSTS") or ()):
        laid["ALLOWED_HOSTS"] = ["{{ site_domain }}", "127.0.0.1"]
    databases = dict(settings.get("DATABASES") or {})
    default = dict(databases.get("default") or {})
    if not _is_ours(default):
        engine = str(default.get("ENGINE", ""))
        ours = engine if engine.endswith(_LIKE_POSTGRESQL) else _POSTGRESQL
        laid["DATABASES"] = {"default": {"ENGINE": ours, "NAME": "{{ site_database }}"}}
    caches = _caches(settings)
    if any(_is_redis(cache) for cache in caches.values()):
        laid["CACHES"] = {
            name: {**cache, "LOCATION": "{{ site_results_url }}"} if _is_redis(cache) else cache
            for name, cache in caches.items()
        }
    if layers := _layers(settings):
        laid["CHANNEL_LAYERS"] = layers
    return laid


def _layers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers of Channels, each in the Redis of results; nothing where that is so, or cannot be."""
    layers: dict[str, dict[str, Any]] = dict(settings.get("CHANNEL_LAYERS") or {})
    if READY["{{ site_results_url }}"] in str(layers) or not settings.get("has_channels_redis"):
        return {}
    moved = {
        name: layer for name, layer in layers.items() if "Redis" in str(layer) or layer.get("BACKEND") == _NO_LAYER
    }
    of_redis = {"BACKEND": _LAYER, "CONFIG": {"hosts": ["{{ site_results_url }}"]}}
    return {**layers, **dict.fromkeys(moved, of_redis)} if moved else {}


def _is_ours(database: Mapping[str, Any]) -> bool:
    """Say whether the settings have the database from the environment."""
    engine, mark = str(database.get("ENGINE", "")), READY["{{ site_database }}"]
    return engine.endswith(_LIKE_POSTGRESQL) and database.get("NAME") == mark


def _caches(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(settings.get("CACHES") or {})


def _is_redis(cache: Mapping[str, Any]) -> bool:
    return "redis" in f"{cache.get('BACKEND')}".lower() and _results_are_not(cache)


def _results_are_not(cache: Mapping[str, Any]) -> bool:
    return READY["{{ site_results_url }}"] not in str(cache.get("LOCATION"))


def _laid_for_celery(celery: Mapping[str, Any]) -> dict[str, Any]:
    if not celery or BROKER_PORT in celery["broker"]:
        return {}
    prefix = f"{celery['namespace']}_" if celery["namespace"] else ""
    return {f"{prefix}BROKER_URL": "{{ site_broker_url }}"}


def _laid_for_findings(findings: list[str]) -> dict[str, Any]:
    return dict(_OF_FINDINGS[name] for name in findings if name in _OF_FINDINGS)


def _of_pages(pages: Mapping[str, Any]) -> Iterator[Guess]:
    if not pages:
        return
    if pages["health"]:
        yield Guess("site_health_path", pages["health"][0], "the project has such a page")
    elif pages["pages"]:
        # Others may send a stranger to it.
        path = next((path for path in pages["pages"] if path.endswith("/login/")), pages["pages"][0])
        yield Guess("site_health_path", path, "no page says whether it is well; this one has to answer 200")
    if "/" not in pages["pages"]:
        yield Guess("site_warm_paths", pages["pages"][:1], "there is no page `/`")
    if pages["admin_login"] != "/admin/login/":
        logins = [path for path in (pages["admin_login"], *pages["pages"]) if path.endswith("/login/")]
        yield Guess("site_login_paths", logins, "where log-ins are slowed down")


def _of_celery(celery: Mapping[str, Any]) -> Iterator[Guess]:
    if not celery:
        return
    if celery["results"].startswith(_REDIS):
        yield Guess("site_result_backend", "redis", "the project keeps results in Redis")
    if celery["queues"] != ["celery"]:
        yield Guess("celery_worker_queues", celery["queues"], "queues that its tasks are sent to")
