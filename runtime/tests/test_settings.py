"""What is laid over the settings of a project holds for all of it, and nothing else is changed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_release import lines, prepare, refused

HARD_CODED = """
STATIC_ROOT = str(BASE_DIR / "collected")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
"""


def add(project: Path, text: str, file: str = "settings.py") -> None:
    """Add lines to a module of the project."""
    with (project / "demo" / file).open("a") as module:
        module.write(text)


def seen(environment: dict[str, str], code: str) -> Any:
    """Return what an expression is to a process of the project, as JSON has it."""
    script = f"import json, os, subprocess, sys\nfrom django.conf import settings\nprint(json.dumps({code}))"
    command = [sys.executable, "-c", script]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def test_static_files_of_a_project_with_a_folder_of_its_own_are_in_the_release(
    on_host: dict[str, str], project: Path
) -> None:
    add(project, HARD_CODED)
    result = prepare(on_host, "static")
    assert result.returncode == 0, result.stderr
    collected = {path.name for path in Path(on_host["STATIC_ROOT"]).rglob("*")}
    assert {"site.css", "staticfiles.json"} < collected
    assert any(name.startswith("site.") and name.count(".") == 2 for name in collected), collected
    assert not (project / "collected").exists()


def test_code_that_imports_the_settings_itself_sees_the_same(on_host: dict[str, str], project: Path) -> None:
    add(project, HARD_CODED)
    chosen = {**on_host, "CELERIAC_SETTINGS": json.dumps({"LANGUAGE_CODE": "de", "OF_THE_PROJECT": {"a": [1, None]}})}
    names = "('STATIC_ROOT', 'LANGUAGE_CODE', 'OF_THE_PROJECT')"
    by_django = seen(chosen, f"[getattr(settings, name) for name in {names}]")
    module = "__import__('demo.settings').settings"
    itself = seen(chosen, f"[settings.DEBUG] + [getattr({module}, name) for name in {names}]")
    assert by_django == [on_host["STATIC_ROOT"], "de", {"a": [1, None]}]
    assert itself[1:] == by_django


def test_a_path_of_the_project_stays_one(on_host: dict[str, str], project: Path) -> None:
    """It has code that writes `settings.STATIC_ROOT / "manifest.json"`."""
    add(project, '\nSTATIC_ROOT, MEDIA_ROOT, TEXT = BASE_DIR / "static", BASE_DIR / "media", "/x"\n')
    chosen = {**on_host, "CELERIAC_SETTINGS": json.dumps({"MEDIA_ROOT": "/srv/media", "TEXT": "/srv/text"})}
    code = "[str(settings.STATIC_ROOT / 'a'), str(settings.MEDIA_ROOT / 'a'), settings.TEXT]"
    assert seen(chosen, code) == [f"{on_host['STATIC_ROOT']}/a", "/srv/media/a", "/srv/text"]


@pytest.mark.parametrize(
    ("own", "key", "fallbacks"),
    [
        ("", "of the inventory", ["the one before"]),
        ("\nSECRET_KEY_FALLBACKS = ['its own']\n", "of the inventory", ["its own", "the one before"]),
        ("\nSECRET_KEY = 'of the project'\n", "of the inventory", []),
    ],
)
def test_what_was_signed_with_the_key_before_holds(
    on_host: dict[str, str], project: Path, own: str, key: str, fallbacks: list[str]
) -> None:
    add(project, "\nSECRET_KEY = os.environ['SECRET_KEY']\n" + own)
    keys = {"SECRET_KEY": key, "CELERIAC_SECRET_KEY_BEFORE": "the one before"}
    assert seen({**on_host, **keys}, "settings.SECRET_KEY_FALLBACKS") == fallbacks
    assert seen({**on_host, **keys, "CELERIAC_SECRET_KEY_BEFORE": ""}, "settings.SECRET_KEY_FALLBACKS") in (
        [],
        ["its own"],
    )


def test_settings_have_the_name_of_the_project(on_host: dict[str, str], project: Path) -> None:
    add(project, "\nAS_LOADED = os.environ['DJANGO_SETTINGS_MODULE']\n")
    assert seen(on_host, "[settings.SETTINGS_MODULE, settings.AS_LOADED]") == ["demo.settings"] * 2


def test_what_a_process_starts_has_the_same_settings(on_host: dict[str, str]) -> None:
    code = "from django.conf import settings; print(settings.LANGUAGE_CODE)"
    child = f"settings.LANGUAGE_CODE + subprocess.check_output([sys.executable, '-c', {code!r}], text=True).strip()"
    assert seen({**on_host, "CELERIAC_SETTINGS": '{"LANGUAGE_CODE": "de"}'}, child) == "dede"


@pytest.mark.parametrize(("file", "found"), [("wsgi.py", "wsgi_application"), ("celery.py", "celery_app")])
def test_a_project_that_names_its_settings_again_has_them_laid_over(
    on_host: dict[str, str], project: Path, file: str, found: str
) -> None:
    text = (project / "demo" / file).read_text()
    (project / "demo" / file).write_text(f"import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'demo.settings'\n{text}")
    add(project, HARD_CODED)
    code = f"[__import__('celeriac.project').project.{found}() and None, settings.STATIC_ROOT]"
    assert seen(on_host, code) == [None, on_host["STATIC_ROOT"]]


@pytest.mark.parametrize(
    ("own", "header"),
    [("", ["HTTP_X_FORWARDED_PROTO", "https"]), ("None", None), ("('HTTP_X_PROTO', 'on')", ["HTTP_X_PROTO", "on"])],
)
def test_a_request_over_https_is_known_as_one_unless_the_project_decides(
    on_host: dict[str, str], project: Path, own: str, header: list[str] | None
) -> None:
    add(project, f"\nSECURE_PROXY_SSL_HEADER = {own}\n" if own else "")
    assert seen(on_host, "settings.SECURE_PROXY_SSL_HEADER") == header


def test_an_error_in_the_settings_of_the_project_is_shown_where_it_is(on_host: dict[str, str], project: Path) -> None:
    add(project, "\nimport a_missing_library\n")
    result = prepare(on_host, "check")
    assert refused(result, "set-up", "a_missing_library")
    assert f'File "{project}/demo/settings.py"' in result.stderr


def test_settings_that_are_not_named_or_not_there_are_missed_by_name(on_host: dict[str, str]) -> None:
    assert refused(prepare(on_host, "check", CELERIAC_SETTINGS_MODULE=""), "set-up", "CELERIAC_SETTINGS_MODULE is not")
    assert refused(prepare(on_host, "check", CELERIAC_SETTINGS_MODULE="demo.none"), "set-up", "'demo.none'")


def test_a_storage_that_fills_another_folder_is_refused(on_host: dict[str, str], project: Path) -> None:
    """Nginx would serve none of its files, and nobody would say so."""
    add(project, HARD_CODED + 'STORAGES["staticfiles"]["OPTIONS"] = {"location": STATIC_ROOT}\n')
    assert refused(prepare(on_host, "static"), "static", f"writes to {project}/collected")


@pytest.mark.parametrize(
    ("url", "passes"), [("/assets/", False), ("static/", True), ("https://cdn.mysite.test/static/", True)]
)
def test_an_address_that_nginx_does_not_serve_is_refused(
    on_host: dict[str, str], project: Path, url: str, passes: bool
) -> None:
    add(project, f"\nSTATIC_URL = {url!r}\n")
    result = prepare(on_host, "check", CELERIAC_STATIC_URL="/static/", CELERIAC_CHECK_FAIL_LEVEL="ERROR")
    if passes:
        assert result.returncode == 0, result.stderr
        assert set(lines(result)) == {"set-up", "check"}
    else:
        assert refused(result, "check", "site_static_url: /assets/")
