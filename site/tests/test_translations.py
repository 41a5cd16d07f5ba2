"""English and Russian, chosen by the browser; hosts have no gettext, so the compiled file is kept too."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from celeriac import registry
from celeriac.console import graphs, states
from django.test import Client
from django.utils import translation

from processes import SITE, run

RUNTIME = SITE.parent / "runtime" / "celeriac"
# Each app with a catalogue of its own, and what else is translated by it.
APPS = {
    "app": (SITE / "app",),
    "console": (RUNTIME / "console", RUNTIME / "registry.py"),
    "schedule": (RUNTIME / "schedule",),
}
each_app = pytest.mark.parametrize("name", APPS)
RUSSIAN = Path("locale/ru/LC_MESSAGES")


@pytest.fixture(autouse=True)
def tools() -> None:
    """What extracts and compiles texts."""
    if shutil.which("msgfmt") is None:
        pytest.fail("gettext is not installed: apt install gettext")


def entries(catalogue: Path, *options: str) -> str:
    """Return the texts of a catalogue that are as the options say, without its head."""
    command = ["msgattrib", "--no-wrap", "--no-location", *options, str(catalogue)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n\n".join(text.split("\n\n")[1:])


def originals(catalogue: Path) -> set[str]:
    """Return the English texts of a catalogue."""
    return set(re.findall(r'^msgid(?:_plural)? ("(?:.|\n(?="))*")$', entries(catalogue), re.MULTILINE))


@each_app
def test_every_text_is_translated(name: str, tmp_path: Path) -> None:
    """Of the code and the templates as they are now, and no text is kept that is gone."""
    app, *others = APPS[name]
    copy = tmp_path / "app"
    shutil.copytree(app, copy, ignore=shutil.ignore_patterns("__pycache__", "locale"))
    for other in others:
        shutil.copy(other, copy)
    (copy / "locale").mkdir()
    extracted = run(
        *("sh", "-c", f"cd {copy} && python3 {SITE}/manage.py makemessages --locale=ru --no-location --verbosity=0"),
        DATABASE_URL="sqlite://:memory:",
    )
    assert extracted.returncode == 0, extracted.stderr
    fresh = originals(copy / RUSSIAN / "django.po")
    assert len(fresh) > (100 if name == "console" else 5)
    kept = app / RUSSIAN / "django.po"
    assert originals(kept) == fresh
    assert entries(kept, "--untranslated") == ""
    assert entries(kept, "--only-fuzzy") == ""
    assert entries(kept, "--only-obsolete") == ""


@each_app
def test_the_compiled_file_is_that_of_the_texts(name: str, tmp_path: Path) -> None:
    """`django-admin compilemessages` was run after the last change."""
    kept = APPS[name][0] / RUSSIAN
    compiled = tmp_path / "django.mo"
    check = ["msgfmt", "--check-format", "--output-file", str(compiled), str(kept / "django.po")]
    assert subprocess.run(check, capture_output=True, text=True, check=False).stderr == ""
    assert compiled.read_bytes() == (kept / "django.mo").read_bytes()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wanted", "language", "text"),
    [
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru", "Выполняется сейчас"),
        ("en-GB", "en", "Running now"),
        ("fi", "en", "Running now"),
    ],
)
def test_the_browser_chooses_the_language(client: Client, wanted: str, language: str, text: str) -> None:
    """And is told which one it got; caches keep them apart."""
    answer = client.get("/", headers={"accept-language": wanted})
    page = answer.content.decode()
    assert text in page
    assert f'<html lang="{language}">' in page
    assert "Accept-Language" in answer["Vary"]


def test_the_states_are_explained_in_russian() -> None:
    """Their names stay Celery's."""
    with translation.override("ru"):
        for state in states.STATES.values():
            assert re.search("[\u0430-\u044f]{3}", str(state.meaning))  # Cyrillic letters


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("post_counter_update", "принимает не более 1 позиционного аргумента, передано: 4"),
        ("add", "принимает не более 2 позиционных аргументов, передано: 4"),
    ],
)
def test_a_number_in_a_refusal_has_its_word_in_the_right_form(task: str, text: str) -> None:
    """One word after 1, another after 2."""
    with translation.override("ru"), pytest.raises(registry.BadArgumentsError, match=text):
        registry.check(f"app.tasks.{task}", [1, 2, 3, 4], {})


@pytest.mark.django_db
def test_a_drawing_is_the_same_where_numbers_have_a_comma() -> None:
    """SVG does not know 1,5."""
    with translation.override("en"):
        english = [series.path for graph in graphs.last_day() for series in graph.series]
    with translation.override("ru"):
        assert [series.path for graph in graphs.last_day() for series in graph.series] == english
