"""The deployed project is found whatever its layout, and what is wrong is said."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import ImproperlyConfigured

from celeriac import project as deployed

APP = "from celery import Celery\n{name} = Celery('theirs')\n"


@pytest.fixture
def package(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package ``theirs``, in a directory on the path."""
    (scratch / "theirs").mkdir()
    (scratch / "theirs" / "__init__.py").touch()
    monkeypatch.syspath_prepend(scratch)
    monkeypatch.chdir(scratch)
    yield scratch / "theirs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "file", "source"),
    [
        ("theirs", "celery.py", APP.format(name="app")),
        ("theirs", "__init__.py", APP.format(name="celery_app")),
        ("theirs.celery", "celery.py", APP.format(name="app")),
        ("theirs.settings", "settings.py", APP.format(name="app")),
        ("theirs.queue:of_theirs", "queue.py", APP.format(name="of_theirs")),
        ("theirs.queue.of_theirs", "queue.py", APP.format(name="of_theirs")),
    ],
)
def test_the_app_is_found_as_celery_finds_it(
    package: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, source: str
) -> None:
    (package / file).write_text(source)
    monkeypatch.setenv("CELERIAC_CELERY_APP", name)
    assert deployed.celery_app().main == "theirs"


def test_a_missing_variable_is_named_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_CELERY_APP", raising=False)
    with pytest.raises(ImproperlyConfigured, match=r"CELERIAC_CELERY_APP is not set.*TimeOut"):
        deployed.celery_app()
    monkeypatch.delenv("CELERIAC_WSGI_APPLICATION", raising=False)
    with pytest.raises(ImproperlyConfigured, match="CELERIAC_WSGI_APPLICATION is not set"):
        deployed.wsgi_application()


@pytest.mark.parametrize("name", ["nowhere", "theirs.nowhere", "theirs", "theirs:app", "theirs:x"])
def test_a_name_of_nothing_is_repeated_in_the_error(package: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (package / "__init__.py").write_text("x = 1\n")
    monkeypatch.setenv("CELERIAC_CELERY_APP", name)
    with pytest.raises(ImproperlyConfigured, match=f"CELERIAC_CELERY_APP={name}"):
        deployed.celery_app()
    monkeypatch.setenv("CELERIAC_WSGI_APPLICATION", name)
    with pytest.raises(ImproperlyConfigured, match=f"CELERIAC_WSGI_APPLICATION={name}"):
        deployed.wsgi_application()


def test_a_broken_import_in_the_project_comes_out_as_it_is(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "celery.py").write_text("import a_missing_library\n")
    (package / "wsgi.py").write_text("import a_missing_library\n")
    monkeypatch.setenv("CELERIAC_CELERY_APP", "theirs")
    with pytest.raises(ModuleNotFoundError, match="a_missing_library"):
        deployed.celery_app()
    monkeypatch.setenv("CELERIAC_WSGI_APPLICATION", "theirs.wsgi")
    with pytest.raises(ModuleNotFoundError, match="a_missing_library"):
        deployed.wsgi_application()
