"""`celeriac init`: what it reads in a project, what it makes of it, and that it says what it does not know."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.uv import UvError

from cli.init import trial as trials
from cli.init.choices import of_environment, of_settings, undecided
from cli.init.known import MARKS, READY, known, marked
from cli.init.project import Guess, Project, UnclearError
from cli.init.trial import Trial, TrialError, try_out
from cli.init.writing import choices_file, hosts_file

REPOSITORY = Path(__file__).resolve().parents[3]

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "{}")\n'
WSGI = MANAGE + "application = get_wsgi_application()\n"
CELERY = 'import celery\nfrom celery import Celery\n{} = Celery("x")\n'
# What a host has and the settings of a beginner do not.
BEGINNERS = {
    "SECRET_KEY": "django-insecure-1",
    "DEBUG": True,
    "ALLOWED_HOSTS": [],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x/db.sqlite3"}},
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    "INSTALLED_APPS": ["django.contrib.admin"],
    "STATIC_URL": "static/",
    "MEDIA_URL": "",
    "TIME_ZONE": "UTC",
}
NO_BROKER = {"namespace": "CELERY", "broker": "", "results": "", "queues": ["celery"], "has_schedule": True}
PAGES = {"health": [], "pages": ["/", "/admin/login/"], "admin_login": "/admin/login/"}
DATABASE = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": READY["{{ site_database }}"]}}
TWELVE_FACTORS = BEGINNERS | {
    "SECRET_KEY": MARKS["SECRET_KEY"],
    "DEBUG": False,
    "ALLOWED_HOSTS": [MARKS["ALLOWED_HOSTS"]],
    "DATABASES": DATABASE,
}


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# Files of a project, and what they say.
SHAPES = {
    "made by startproject": (
        {
            "manage.py": MANAGE.format("mysite.settings"),
            "mysite/__init__.py": "",
            "mysite/wsgi.py": WSGI.format("mysite.settings"),
            "mysite/celery.py": CELERY.format("app"),
            "requirements.txt": "django",
        },
        {"site_settings_module": "mysite.settings", "site_celery_app": "mysite"},
    ),
    "a wheel with manage.py in its package": (
        {
            "mysite/__init__.py": "",
            "mysite/manage.py": MANAGE.format("mysite.settings"),
            "mysite/wsgi.py": WSGI.format("mysite.settings"),
            "mysite/celery.py": CELERY.format("app"),
            "mysite/run/__init__.py": "",
        },
        {
            "site_settings_module": "mysite.settings",
            "site_celery_app": "mysite",
            "site_wsgi_application": "mysite.wsgi:application",
        },
    ),
    "in a folder, settings by place": (
        {
            "src/manage.py": MANAGE.format("config.settings.local"),
            "src/config/wsgi.py": WSGI.format("config.settings.local"),
            "src/config/settings/production.py": "",
            "src/config/celery_app.py": CELERY.format("celery"),
            "requirements/production.txt": "django",
        },
        {
            "site_source_folder": "src",
            "site_lock": "requirements/production.txt",
            "site_settings_module": "config.settings.production",
            "site_celery_app": "config.celery_app",
            "site_wsgi_application": "config.wsgi:application",
        },
    ),
    "tools only in pyproject.toml, an app by another name": (
        {
            "manage.py": MANAGE.format("a.settings"),
            "a/wsgi.py": WSGI.format("a.settings"),
            "a/tasks/queue.py": CELERY.format("main: Celery"),
            "pyproject.toml": "[tool.ruff]\n",
            "requirements-prod.txt": "django",
        },
        {"site_lock": "requirements-prod.txt", "site_celery_app": "a.tasks.queue:main"},
    ),
    "a package without manage.py": (
        {
            "src/pkg/__init__.py": "",
            "src/pkg/server/__init__.py": "",
            "src/pkg/server/wsgi.py": WSGI.format("pkg.settings"),
            "pyproject.toml": "[project]\nname = 'pkg'\n",
        },
        {"site_source_folder": "src", "site_wsgi_application": "pkg.server.wsgi:application"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_files_of_a_project_say_what_it_is(tmp_path: Path, shape: str) -> None:
    files, right = SHAPES[shape]
    found = {guess.name: guess.value for guess in Project(project(tmp_path, files)).guesses()}
    assert found | right == found
    assert ("site_lock" in found) == ("site_lock" in right)


def test_nothing_of_a_project_is_run_to_read_it(tmp_path: Path) -> None:
    project(tmp_path, {"manage.py": "raise SystemExit('run')\n", "a/wsgi.py": "1/0\n" + WSGI.format("a.settings")})
    assert [guess.value for guess in Project(tmp_path).guesses()] == ["a.settings", "a.wsgi:application"]


def test_two_projects_in_one_folder_are_not_chosen_from(tmp_path: Path) -> None:
    project(tmp_path, {"one/manage.py": MANAGE.format("one.settings"), "two/manage.py": MANAGE.format("two.settings")})
    with pytest.raises(UnclearError, match="--set site_source_folder=one"):
        Project(tmp_path)
    assert [guess.value for guess in Project(tmp_path, "two").guesses()] == ["two", "two.settings"]


def choices(trial: Trial) -> dict[str, object]:
    return {guess.name: guess.value for guess in [*of_environment(trial), *of_settings(trial)]}


def test_settings_of_a_beginner_have_laid_over_them_what_a_host_needs() -> None:
    found = choices(Trial({}, [], BEGINNERS, NO_BROKER, PAGES, ["security.W004", "security.W018"]))
    assert found["site_settings"] == {
        "SECRET_KEY": "{{ site_secret_key }}",
        "DEBUG": False,
        "ALLOWED_HOSTS": ["{{ site_domain }}", "127.0.0.1"],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "{{ site_database }}"}},
        "CELERY_BROKER_URL": "{{ site_broker_url }}",
        "SECURE_HSTS_SECONDS": "{{ site_hsts_seconds }}",
    }
    # `/` may send a stranger elsewhere.
    assert found["site_health_path"] == "/admin/login/"
    # Asked for only when the one above is set.
    assert found["site_check_ignore"] == ["security.W005", "security.W021"]


def test_settings_that_read_the_environment_are_left_alone() -> None:
    celery = NO_BROKER | {"broker": READY["{{ site_broker_url }}"]}
    found = choices(Trial({}, [], TWELVE_FACTORS, celery, PAGES | {"health": ["/healthz/"]}))
    assert found == {"site_health_path": "/healthz/"}


def test_what_a_project_has_becomes_a_choice() -> None:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://localhost/1", "TIMEOUT": 7}
    settings = TWELVE_FACTORS | {
        "CACHES": {"default": cache},
        "STATIC_URL": "/assets/",
        "MEDIA_ROOT": "/x/media",
        "MEDIA_URL": "/files/",
        "TIME_ZONE": "Europe/Berlin",
        "ASGI_APPLICATION": "config.asgi.application",
        "INSTALLED_APPS": ["channels"],
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        "has_channels_redis": True,
    }
    celery = NO_BROKER | {"namespace": "", "results": "redis://localhost/2", "queues": ["celery", "mail"]}
    pages = PAGES | {"pages": ["/accounts/login/"], "admin_login": "/secret/login/"}
    found = choices(Trial({}, [], settings, celery, pages))
    laid = found.pop("site_settings")
    assert laid == {
        "CACHES": {"default": cache | {"LOCATION": "{{ site_results_url }}"}},
        "CHANNEL_LAYERS": {
            "default": {
                "BACKEND": "channels_redis.core.RedisChannelLayer",
                "CONFIG": {"hosts": ["{{ site_results_url }}"]},
            }
        },
        "BROKER_URL": "{{ site_broker_url }}",
    }
    assert found == {
        "site_redis_cache": True,
        "site_static_url": "/assets/",
        "site_data_folders": ["media"],
        "site_media_url": "/files/",
        "site_time_zone": "Europe/Berlin",
        "site_asgi_application": "config.asgi:application",
        "site_health_path": "/accounts/login/",
        "site_warm_paths": ["/accounts/login/"],
        "site_login_paths": ["/secret/login/", "/accounts/login/"],
        "site_result_backend": "redis",
        "celery_worker_queues": ["celery", "mail"],
    }


@pytest.mark.parametrize(
    "name, value",
    {
        "DJANGO_SECRET_KEY": "{{ site_secret_key }}",
        "POSTGRES_DB": "{{ site_database }}",
        "DB_PASSWORD": "{{ site_database_password }}",
        "CELERY_BROKER_URL": "{{ site_broker_url }}",
        "APP_REDIS_URL": "{{ site_broker_url }}",
        "STRIPE_SECRET_KEY": "",
        "OPENAI_API_KEY": "",
    }.items(),
)
def test_a_variable_is_given_only_what_its_name_surely_means(name: str, value: str) -> None:
    assert known(name) == value
    assert "{{" not in marked(value)


def test_a_password_of_the_database_is_one_that_lets_in() -> None:
    found = choices(Trial({"DB_PASSWORD": "{{ site_database_password }}"}, []))
    assert found["site_database_login"] == "password"


def test_what_nobody_can_guess_is_said() -> None:
    settings = BEGINNERS | {"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}}
    trial = Trial(
        {}, [], settings, NO_BROKER, PAGES, ["security.W022", "staticfiles.W004"], {"pages": "ImportError: x"}
    )
    told = " ".join(undecided(trial, {}))
    for word in ("sqlite3", "security.W022, staticfiles.W004", "ImportError: x", "site_health_path", "channels-redis"):
        assert word in told


def test_the_files_are_those_of_a_person() -> None:
    values = {
        "site_domain": "www.mysite.org",
        "site_settings": {"A": "{{ site_domain }}", "B": {"c": [1, "1", True, None]}, "D": 'it\'s "x": #1'},
        "site_environment": {"E": "yes"},
    }
    text = choices_file([Guess(name, value, "so") for name, value in values.items()], ["UNKNOWN"])
    assert yaml.safe_load(text) == values | {"site_environment": {"E": "yes", "UNKNOWN": None}}
    hosts = hosts_file("host1", "203.0.113.7", "admin")
    assert yaml.safe_load(hosts)["all"]["hosts"] == {"host1": {"ansible_host": "203.0.113.7", "ansible_user": "admin"}}
    for each in (text, hosts):
        subprocess.run(["yamllint", "--strict", "-"], cwd=REPOSITORY, input=each, text=True, check=True)


def test_a_project_has_an_inventory_that_passes_preflight(tmp_path: Path) -> None:
    into = tmp_path / "inventory"
    words = ["init", "site", "--host", "local", "--domain", "www.mysite.org", "--to", str(into)]
    done = celeriac(*words, "--set", "site_time_zone=Europe/Berlin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Next: celeriac -i {into} converge" in done.stdout
    found = yaml.safe_load((into / "group_vars/all/site.yml").read_text())
    # It reads the environment: nothing is laid over it.
    assert found == {
        "site_domain": "www.mysite.org",
        "site_source": str(REPOSITORY / "site"),
        "site_time_zone": "Europe/Berlin",
        "site_settings_module": "TimeOut.settings",
        "site_celery_app": "TimeOut",
        "site_wsgi_application": "TimeOut.wsgi:application",
        "site_health_path": "/health/",
    }
    again = celeriac(*words)
    assert again.returncode != 0 and "is there already" in again.stderr


def test_a_variable_that_is_missing_is_named_with_all_others(tmp_path: Path) -> None:
    source = project(
        tmp_path / "mysite",
        {
            "manage.py": MANAGE.format("settings"),
            "settings.py": "import os\nA = os.environ['STRIPE_KEY']\nB = int(os.environ['SMTP_PORT'])\n",
            "celery_app.py": CELERY.format("app"),
            "wsgi.py": "application = None\n",
            "requirements.txt": (REPOSITORY / "site/requirements.txt").read_text(),
        },
    )
    into = tmp_path / "inventory"
    done = celeriac("init", str(source), "--host", "local", "--domain", "www.mysite.org", "--to", str(into))
    assert "STRIPE_KEY, SMTP_PORT" in done.stdout, done.stdout + done.stderr
    assert yaml.safe_load((into / "group_vars/all/site.yml").read_text())["site_environment"] == {
        "STRIPE_KEY": None,
        "SMTP_PORT": None,
    }


def test_without_an_inventory_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = celeriac("-i", "nothere", "status", cwd=tmp_path)
    assert done.returncode == 2
    assert "There is no inventory nothere. Here are: cluster, demo, " in done.stderr


def test_an_inventory_is_found_where_one_is(tmp_path: Path) -> None:
    project(tmp_path, {"hosts.yml": hosts_file("host1", "local", ""), "group_vars/all/site.yml": "site_domain: a.test"})
    (tmp_path / ".deeper").mkdir()
    done = celeriac("open", "/admin/", cwd=tmp_path / ".deeper")
    assert done.stdout == "https://a.test/admin/\n", done.stderr


def test_a_shell_completes_words_and_inventories() -> None:
    script = celeriac("completion", "bash").stdout
    assert "complete -o nosort -F" in script
    asked = {"_CELERIAC_COMPLETE": "bash_complete", "COMP_WORDS": "celeriac rol", "COMP_CWORD": "1"}
    assert celeriac(environment=asked).stdout == "plain,rollback\n"


def celeriac(
    *words: str, cwd: Path = REPOSITORY, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `bin/celeriac` without a terminal."""
    return subprocess.run(
        [str(REPOSITORY / "bin/celeriac"), *words],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_packages_that_cannot_be_had_are_an_error_with_a_newer_python_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def uv(_wanted: Wanted, _folder: Path, *words: str | Path) -> str:
        asked.append(str(words[2]) if words[0] == "venv" else "packages")
        if asked[-1] != "packages":
            return ""
        older = "the current Python version (3.11.2) does not satisfy Python>=3.13"
        raise UvError(older if len(asked) == 2 else "there is no such wheel")

    monkeypatch.setattr(trials, "uv", uv)
    with pytest.raises(TrialError, match="there is no such wheel"):
        try_out(Wanted(tmp_path, python="3.11"), tmp_path / "lock", tmp_path, "mysite.settings", "", {})
    assert asked == ["3.11", "packages", ">=3.13", "packages"]
