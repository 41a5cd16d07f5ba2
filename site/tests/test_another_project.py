"""Another project than the site has console, schedule, journal and checks by four apps, and each page by one address.

Its users log in by e-mail, its pages have a template of their own, its policy lets in nothing that is not its own file,
and it sets neither limits of tasks nor options of the broker.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect
from testkit.browser import serious_problems
from testkit.ports import free_port
from testkit.redis import Redis
from testkit.waiting import eventually

from browsing import keep, window
from processes import SITE, Stack, Visitor

PROJECT = SITE / "tests" / "another"
HTMX = "django_htmx.middleware.HtmxMiddleware"
OWN_BACKGROUND = "rgb(250, 240, 230)"
RUN = re.compile("/ops/jobs/[0-9a-f-]{36}/$")
STATE = ".now .state"
PAGES = {"list": "", "graphs": "graphs/", "choose": "start/", "form": "start/people.tasks.greet/"}
# Of the Redis server of these tests.
DATABASE = 9


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Stack]:
    """The project with a worker, beat and its pages, and with somebody who may do everything."""
    folder = tmp_path_factory.mktemp("another")
    redis_server.forget(DATABASE)
    stack = Stack(folder, redis_server, project=PROJECT, variables=environment(folder, redis_server))
    try:
        assert stack.manage("migrate", "-v0").returncode == 0
        made = stack.manage("createsuperuser", "--noinput", "--email=anna@example.org")
        assert made.returncode == 0, made.stderr
        port = free_port()
        stack.url = f"http://localhost:{port}"
        stack.spawn("worker", "celery", "-A", "another", "worker", "--loglevel=info", "--concurrency=2")
        stack.spawn("beat", "celery", "-A", "another", "beat")
        stack.spawn("pages", "python3", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
        eventually(lambda: " ready." in stack.log("worker"), what="the worker is ready")
        eventually(lambda: answers(f"{stack.url}/back-office/login/"), what="the pages are there")
        yield stack
    finally:
        stack.stop()


def environment(folder: Path, redis: Redis) -> dict[str, str]:
    """Return what the project is told: where its database and its broker are."""
    return {
        "DATABASE": str(folder / "db.sqlite3"),
        "BROKER_URL": redis.database(DATABASE),
        "DJANGO_SUPERUSER_PASSWORD": "correct horse",
    }


def answers(url: str) -> bool:
    """Return whether there is a page."""
    try:
        with urlopen(url, timeout=30) as page:
            return bool(page.status == 200)
    except URLError:
        return False


@pytest.fixture
def page(browser: Browser, another: Stack) -> Iterator[Page]:
    """A window of somebody who has logged in with an e-mail address."""
    with window(browser, another.url) as page:
        page.goto("/ops/jobs/")
        page.get_by_label("Email").fill("anna@example.org")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/ops/jobs/")
        yield page


def start(page: Page, **fields: str) -> str:
    """Start a greeting by its form; return the address of the run."""
    page.goto("/ops/jobs/start/people.tasks.greet/")
    for name, value in fields.items():
        page.locator(f"#id_{name}" if name == "countdown" else f"#id_arg-{name}").fill(value)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(RUN)
    return page.url


def test_its_own_checks_find_nothing(another: Stack) -> None:
    done = another.manage("check")
    assert (done.returncode, "no issues" in done.stdout + done.stderr) == (0, True), done.stderr
    ours = "celeriac_console", "celeriac_ledger", "celeriac_schedule"
    assert another.manage("makemigrations", "--check", "--dry-run", *ours).returncode == 0


def test_it_says_whether_its_database_and_its_broker_are_there(another: Stack) -> None:
    assert Visitor(another.url).ask("/up/").json == {"database": "ok", "broker": "ok"}


def test_a_task_goes_from_start_to_its_result_while_one_watches(page: Page) -> None:
    start(page, name="Ben", times="2")
    expect(page.locator(STATE)).to_contain_text("SUCCESS")
    expect(page.locator("#run")).to_contain_text("hello Ben hello Ben")
    expect(page.locator("#run")).to_contain_text("anna@example.org")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(RUN)
    expect(page.locator(STATE)).to_contain_text("SUCCESS")


def test_a_task_that_runs_is_terminated_and_one_that_waits_is_revoked(page: Page) -> None:
    start(page, name="Ben", pause="600")
    expect(page.locator(STATE)).to_contain_text("STARTED")
    page.locator("#terminate").click()
    page.get_by_role("button", name="Terminate").click()
    expect(page.locator(STATE)).to_contain_text("REVOKED")
    waits = start(page, name="Ben", countdown="60")
    page.locator("#revoke").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(STATE)).to_contain_text("REVOKED")
    page.goto("/ops/jobs/?state=REVOKED")
    expect(page.locator("#runs")).to_contain_text("people.tasks.greet")
    assert page.locator(f"a[href='{urlsplit(waits).path}']").count() == 1


def test_the_pages_look_like_the_project_around_the_console(page: Page) -> None:
    for name, path in {
        "list": "",
        "graphs": "graphs/",
        "choose": "start/",
        "start": "start/people.tasks.greet/",
    }.items():
        page.goto(f"/ops/jobs/{path}")
        keep(page, f"another-{name}")
        assert page.title().endswith(" at Another")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == OWN_BACKGROUND
        assert page.evaluate("getComputedStyle(document.body).marginLeft") == "48px"
        assert page.evaluate("getComputedStyle(document.querySelector('#house')).color") == "rgb(120, 0, 60)"
        # The console has its own looks within.
        assert page.evaluate("getComputedStyle(document.querySelector('.celeriac .card')).borderTopLeftRadius") != "0px"
        assert serious_problems(page) == []


def test_the_schedule_of_the_code_is_in_the_admin_and_runs_now(page: Page, another: Stack) -> None:
    eventually(lambda: another.query("select 1 from django_celery_beat_periodictask where name = 'greet-everybody'"))
    page.goto("/back-office/django_celery_beat/periodictask/")
    row = page.locator("tr", has_text="greet-everybody")
    expect(row).to_contain_text("the code")
    row.locator("input[type=checkbox]").check()
    page.locator("select[name=action]").select_option("run_tasks")
    page.locator("button[name=index]").click()
    sent = "select sent_by, ended_at is not null from celeriac_ledger_dispatch where args like '%everybody%'"
    eventually(lambda: ("anna@example.org", 1) in another.query(sent), what="the entry has run")


@pytest.mark.parametrize(
    ("setting", "name", "what"),
    [
        ("INSTALLED_APPS", "celeriac.ledger", "celeriac.console needs 'celeriac.ledger' in INSTALLED_APPS"),
        ("INSTALLED_APPS", "celeriac.ledger", "celeriac.schedule needs 'celeriac.ledger' in INSTALLED_APPS"),
        ("INSTALLED_APPS", "django_celery_beat", "celeriac.schedule needs 'django_celery_beat' in INSTALLED_APPS"),
        ("INSTALLED_APPS", "django_celery_results", "needs 'django_celery_results' in INSTALLED_APPS"),
        ("INSTALLED_APPS", "django_htmx", "needs 'django_htmx' in INSTALLED_APPS"),
        ("MIDDLEWARE", HTMX, "needs 'django_htmx.middleware.HtmxMiddleware' in MIDDLEWARE"),
    ],
)
def test_what_is_missing_in_the_settings_is_named(
    another: Stack, tmp_path: Path, setting: str, name: str, what: str
) -> None:
    (tmp_path / "without.py").write_text(f"from another.settings import *\n{setting}.remove({name!r})\n")
    variables = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "without"}
    changed = Stack(another.folder, another.redis, project=PROJECT, variables={**another.variables, **variables})
    done = changed.manage("check")
    assert done.returncode == 1
    assert what in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_package_a_check_says_which(another: Stack, tmp_path: Path) -> None:
    """And the rest of the project can be looked at."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = classmethod(\n"
        "    lambda cls, name, *rest: None if name.partition('.')[0] == 'ninja' else find(name, *rest))\n"
    )
    (tmp_path / "without.py").write_text("from another.settings import *\nINSTALLED_APPS.remove('ninja')\n")
    variables = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "without"}
    done = Stack(another.folder, another.redis, project=PROJECT, variables={**another.variables, **variables}).manage(
        "check"
    )
    assert done.returncode == 1
    assert "celeriac.console needs the package django-ninja" in done.stderr
    assert "Traceback" not in done.stderr
