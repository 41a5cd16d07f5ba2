"""Behind nginx, with a host's environment."""

import json
from pathlib import Path
from typing import Any

import pytest

from processes import host_environment, run

ASK = """
import json
from django.test import Client
answers = {}
for proto in ("https", "http"):
    answer = Client().get(
        "/admin/login/", HTTP_HOST="site.example.org", HTTP_X_FORWARDED_PROTO=proto
    )
    answers[proto] = {
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "secure": {name: bool(cookie["secure"]) for name, cookie in answer.cookies.items()},
        "page": answer.content.decode(),
    }
answers["stranger"] = Client().get("/", HTTP_HOST="evil.example", secure=True).status_code
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def static_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collected static files of a release."""
    folder = tmp_path_factory.mktemp("static")
    result = run("python3", "manage.py", "collectstatic", "--noinput", **host_environment(folder))
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def answers(static_root: Path) -> dict[str, Any]:
    """What the log-in page answers on a host."""
    result = run("python3", "manage.py", "shell", "-v0", "-c", ASK, **host_environment(static_root))
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def test_what_came_over_https_to_nginx_is_answered(answers: dict[str, Any]) -> None:
    """With HSTS, and with cookies that never travel in the clear."""
    answer = answers["https"]
    assert answer["status"] == 200
    assert answer["headers"]["Strict-Transport-Security"] == "max-age=3600"
    assert answer["secure"] == {"csrftoken": True}


def test_what_came_over_http_is_sent_to_https(answers: dict[str, Any]) -> None:
    """Should a request get past nginx's own redirect."""
    answer = answers["http"]
    assert answer["status"] == 301
    assert answer["headers"]["Location"] == "https://site.example.org/admin/login/"


def test_a_name_that_is_not_ours_is_refused(answers: dict[str, Any]) -> None:
    """No link can be forged by a Host header."""
    assert answers["stranger"] == 400


def test_static_files_have_their_hash_in_the_name(answers: dict[str, Any], static_root: Path) -> None:
    """So that browsers may keep them for ever and an older release still finds its own."""
    manifest = json.loads((static_root / "staticfiles.json").read_text())["paths"]
    assert f"/static/{manifest['admin/css/base.css']}" in answers["https"]["page"]
    assert manifest["app/site.css"] != "app/site.css"
    assert (static_root / manifest["app/site.css"]).is_file()


def test_a_host_logs_one_line_an_event_without_the_time(tmp_path: Path) -> None:
    """The journal adds time, unit and process; the lines come on standard output."""
    code = "import logging; logging.getLogger('app.x').info('hello'); " + (
        "logging.getLogger('django.request').error('oh')"
    )
    shell = ("python3", "manage.py", "shell", "-v0", "-c", code)
    result = run(*shell, **host_environment(tmp_path))
    assert result.stdout.splitlines() == ["INFO app.x: hello", "ERROR django.request: oh"]
    # A developer's terminal has no journal, so there each line, still only one, has its time.
    developer = run(*shell)
    lines = developer.stdout.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == result.stdout.splitlines()
    assert result.stderr == developer.stderr == ""
