"""The console, inside this process: who may, what is refused, and what the pages say."""

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from celeriac import registry
from celeriac.console import runs, states
from celeriac.ledger.models import Dispatch
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django_celery_results.models import TaskResult

from people import member

pytestmark = pytest.mark.django_db

PAGES = ["/tasks/", "/tasks/graphs/", "/tasks/emails/", "/tasks/start/", "/tasks/start/app.tasks.add/"]
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser in which a member of staff is logged in."""
    client.force_login(member("anna"))
    client.defaults["HTTP_ACCEPT"] = HTML
    return client


def a_run(state: str = "SUCCESS", **dispatch: Any) -> str:
    """Put a run of `add` into the database; return its id."""
    run_id = str(uuid4())
    values = {"name": "app.tasks.add", "args": "[2, 3]", "kwargs": "{}", **dispatch}
    Dispatch.objects.create(task_id=run_id, **values)
    if state != "PENDING":
        error = {"exc_type": "TimeLimitExceeded", "exc_message": [2], "exc_module": "billiard.exceptions"}
        TaskResult.objects.create(
            task_id=run_id,
            task_name=values["name"],
            status=state,
            worker="celery@here",
            content_type="application/json",
            content_encoding="utf-8",
            result=json.dumps(5 if state == "SUCCESS" else error if state in {"FAILURE", "RETRY"} else None),
        )
    return run_id


def text(answer: Any) -> str:
    """Return what a page says, without tags."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.content.decode())))


# ==================================================================================================
# Who may
# ==================================================================================================


@pytest.mark.parametrize("page", [*PAGES, "/tasks/some-id/", "/tasks/some-id/revoke/", "/tasks/some-id/terminate/"])
def test_a_stranger_is_sent_to_the_log_in_page_and_back(client: Client, page: str) -> None:
    """Nor does a user who is not staff see more."""
    answer = client.get(page, headers={"accept": HTML})
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={page}")
    client.force_login(User.objects.create_user("visitor"))
    assert client.get(page, headers={"accept": HTML}).status_code == 302


ACTIONS = ["revoke", "terminate", "rerun", "release"]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_stranger_changes_nothing(client: Client, action: str) -> None:
    """A POST leads to the log-in page, too, and does nothing."""
    run_id = a_run("PENDING")
    assert client.post(f"/tasks/{run_id}/{action}/")["Location"].startswith("/admin/login/")
    assert runs.find(run_id).state == "PENDING"
    assert Dispatch.objects.count() == 1
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("path", [*(f"/tasks/ID/{action}/" for action in ACTIONS), "/tasks/emails/"])
def test_a_form_on_another_site_changes_nothing(path: str) -> None:
    """The log-in alone is not enough, the CSRF token is asked for."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(member("anna"))
    assert client.post(path.replace("ID", a_run())).status_code == 403
    assert client.post("/tasks/start/app.tasks.add/", {"arg-x": "1", "arg-y": "2"}).status_code == 403
    assert Dispatch.objects.count() == 1  # the run of this test


def test_a_page_that_stays_live_is_loaded_again_when_its_log_in_ends(client: Client) -> None:
    """The log-in form would otherwise be put into the middle of it."""
    answer = client.get("/tasks/", headers={"hx-request": "true"})
    assert (answer.status_code, answer["HX-Refresh"], answer.content) == (200, "true", b"")


def test_the_home_page_tells_a_stranger_no_arguments_and_no_results(client: Client, staff: Client) -> None:
    """Only that a task runs, and not under which id."""
    run_id = a_run("STARTED", args='["secret-argument", 3]')
    done = a_run("SUCCESS", args='["secret-argument", 3]')
    page = Client().get("/").content.decode()
    assert "Running now" in page
    assert "add" in text(Client().get("/"))
    for hidden in ("secret-argument", run_id, done, 'hx-get="'):
        assert hidden not in page
    assert run_id in staff.get("/").content.decode()


# ==================================================================================================
# What may run in a page
# ==================================================================================================


@pytest.mark.parametrize("page", ["/", *PAGES])
def test_a_page_runs_no_script_that_is_not_a_file_of_the_site(staff: Client, page: str) -> None:
    """Its policy says so to the browser, and it needs no exception from it."""
    answer = staff.get(page)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    html = answer.content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=\"/static/)", html)


def test_signs_that_are_none_are_shown_as_python_writes_them(staff: Client) -> None:
    """A file name that is no UTF-8 has them: in arguments, results and errors, on the page and in the list."""
    run_id = a_run("FAILURE", args=json.dumps(["caf\udce9", 3]))
    error = {"exc_type": "ValueError", "exc_message": ["caf\udce9 \0"], "exc_module": "builtins"}
    TaskResult.objects.filter(task_id=run_id).update(result=json.dumps(error))
    other = a_run("SUCCESS")
    TaskResult.objects.filter(task_id=other).update(result=json.dumps("caf\udce9"))
    for path in ("/", "/tasks/", f"/tasks/{run_id}/", f"/tasks/{other}/"):
        answer = staff.get(path)
        assert answer.status_code == 200
        assert path == "/" or r"caf\udce9" in answer.content.decode()


def test_what_a_task_was_given_stays_text(staff: Client) -> None:
    """In the list and on its page."""
    run_id = a_run(args=json.dumps(["<script>alert(1)</script>", 3]))
    for page in ("/tasks/", f"/tasks/{run_id}/"):
        assert "<script>alert" not in staff.get(page).content.decode()
        assert "<script>alert(1)</script>" in unescape(staff.get(page).content.decode())


# ==================================================================================================
# Starting
# ==================================================================================================


def test_every_registered_task_can_be_chosen_and_has_a_form(staff: Client) -> None:
    """With a field for each parameter."""
    chosen = staff.get("/tasks/start/").content.decode()
    for task in registry.registered():
        assert f'href="/tasks/start/{task.name}/"' in chosen
        form = staff.get(f"/tasks/start/{task.name}/").content.decode()
        assert re.findall(r'name="arg-(\w+)"', form) == [parameter.name for parameter in task.parameters]


def test_a_task_that_is_not_registered_has_no_form(staff: Client) -> None:
    """Nor have Celery's own."""
    assert staff.get("/tasks/start/app.tasks.nothing/").status_code == 404
    assert staff.get("/tasks/start/celery.backend_cleanup/").status_code == 404


@pytest.mark.parametrize(
    ("task", "form", "field"),
    [
        ("add", {}, "x"),
        ("add", {"arg-x": "1", "arg-y": "two"}, "y"),
        ("add", {"arg-x": "1", "arg-y": '"2"'}, "y"),
        ("add", {"arg-x": "true", "arg-y": "2"}, "x"),
        ("add", {"arg-x": "NaN", "arg-y": "2"}, "x"),
        ("add", {"arg-x": "1e999", "arg-y": "2"}, "x"),
        ("add", {"arg-x": "[" * 100_000, "arg-y": "2"}, "x"),
        ("add", {"arg-x": "9" * 5000, "arg-y": "2"}, "x"),
        ("post_counter_update", {"arg-pk": "1.5"}, "pk"),
        ("post_counter_update", {"arg-pk": "9" * 5000}, "pk"),
        ("exceeds_time_limit", {"arg-seconds": "nan"}, "seconds"),
        ("add", {"arg-x": "1", "arg-y": "2", "priority": "10"}, "priority"),
        ("add", {"arg-x": "1", "arg-y": "2", "countdown": "-1"}, "countdown"),
        ("add", {"arg-x": "1", "arg-y": "2", "countdown": "inf"}, "countdown"),
        ("add", {"arg-x": "1", "arg-y": "2", "countdown": "99999999"}, "countdown"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason_at_the_field(
    staff: Client, broker: None, task: str, form: dict[str, str], field: str
) -> None:
    """Before anything is sent."""
    answer = staff.post(f"/tasks/start/app.tasks.{task}/", form)
    assert answer.status_code == 400
    names = {field, f"arg-{field}"}
    assert {name for name, errors in answer.context["form"].errors.items() if errors} & names
    assert 'class="errorlist"' in answer.content.decode()
    assert not Dispatch.objects.exists()


RUSSIAN = {"accept-language": "ru"}


def test_a_refusal_is_in_the_language_of_the_page(staff: Client, broker: None) -> None:
    """The reasons of the catalogue and of the runs, too: at a field, above the form, under the button, in a message."""
    start = "/tasks/start/app.tasks.add/"
    assert "Введите число" in text(staff.post(start, {"arg-x": "1", "arg-y": '"2"'}, headers=RUSSIAN))
    numbers = {"arg-addresses": "[1]"}
    assert "каждый элемент которого — текст" in text(
        staff.post("/tasks/start/app.tasks.send_emails/", numbers, headers=RUSSIAN)
    )
    late = {"arg-x": "1", "arg-y": "2", "countdown": "99999999"}
    assert "более поздний запуск задаётся в расписании" in text(staff.post(start, late, headers=RUSSIAN))
    refused = staff.post("/tasks/emails/", {"addresses": "nobody"}, headers=RUSSIAN)
    assert "не похоже на адрес: nobody" in text(refused)
    for reason, sent in (
        ("Её аргументы не были сохранены.", {"args": None, "kwargs": None}),
        ("Её аргументы больше не подходят к задаче: y: обязательный параметр", {"args": "[2]"}),
        ("Задачи app.tasks.gone больше нет.", {"name": "app.tasks.gone"}),
    ):
        run_id = a_run(**sent)
        assert reason in text(staff.get(f"/tasks/{run_id}/", headers=RUSSIAN))
        answer = staff.post(f"/tasks/{run_id}/rerun/", follow=True, headers=RUSSIAN)
        assert f"Повторить запуск нельзя: {reason}" in text(answer)


@pytest.fixture
def started(staff: Client, broker: None) -> Callable[..., Dispatch]:
    """Start a task by its form; return what was sent."""

    def start(task: str, **form: str) -> Dispatch:
        answer = staff.post(f"/tasks/start/app.tasks.{task}/", form)
        assert answer.status_code == 302, text(answer)
        sent = Dispatch.objects.get()
        assert answer["Location"] == f"/tasks/{sent.task_id}/"
        return sent

    return start


@pytest.mark.parametrize(
    ("task", "form", "kwargs"),
    [
        ("add", {"arg-x": "2", "arg-y": "2.5"}, {"x": 2, "y": 2.5}),
        ("post_counter_update", {"arg-pk": ""}, {}),
        ("post_counter_update", {"arg-pk": "7"}, {"pk": 7}),
        ("exceeds_time_limit", {"arg-seconds": "0.5"}, {"seconds": 0.5}),
        ("simple_function", {"arg-text": "  as typed ", "arg-fail": "on"}, {"text": "  as typed ", "fail": True}),
        ("simple_function", {"arg-text": "hello"}, {}),
        ("simple_function", {"arg-text": ""}, {"text": ""}),
        ("send_emails", {"arg-addresses": '["ä@example.org"]'}, {"addresses": ["ä@example.org"]}),
    ],
)
def test_what_the_form_says_is_what_is_sent(
    started: Callable[..., Dispatch], task: str, form: dict[str, str], kwargs: dict[str, Any]
) -> None:
    """No more: what is left as it is, is left to the task."""
    sent = started(task, **form)
    assert (json.loads(sent.args or ""), json.loads(sent.kwargs or "")) == ([], kwargs)
    assert sent.sent_by == "anna"


def test_priority_and_countdown_are_those_of_the_form(started: Callable[..., Dispatch]) -> None:
    """And not those of a task that happens to have such parameters."""
    sent = started("add", **{"arg-x": "1", "arg-y": "2", "priority": "9", "countdown": "60"})
    assert sent.priority == 9
    assert sent.eta is not None
    assert 55 < (sent.eta - sent.sent_at).total_seconds() < 65


@pytest.mark.parametrize(
    ("form", "call"),
    [
        ({"arg-first": "a"}, ([], {"first": "a"})),
        ({"arg-first": "a", "arg-rest": "[1, null]", "arg-named": '{"k": 2}'}, (["a", 0, 1, None], {"k": 2})),
        ({"arg-first": "a", "arg-rest": "[]", "arg-flag": "true"}, ([], {"first": "a", "flag": True})),
    ],
)
def test_values_of_variadic_parameters_come_after_the_named_ones(form: dict[str, str], call: Any) -> None:
    """`def task(first, second=0, *rest, flag=None, **named)`."""
    from celeriac.console.forms import StartForm
    from celeriac.registry import Parameter, Registered

    task = Registered(
        "t",
        "",
        (
            Parameter("first", "str", True),
            Parameter("second", "int", False, 0),
            Parameter("rest", "json", False, variadic="*"),
            Parameter("flag", "json", False),
            Parameter("named", "json", False, variadic="**"),
        ),
        True,
    )
    start = StartForm(task, form)
    assert start.is_valid(), start.errors
    assert start.call() == call
    assert not StartForm(task, {"arg-first": "a", "arg-rest": "1"}).is_valid()
    assert not StartForm(task, {"arg-first": "a", "arg-named": "[]"}).is_valid()


def test_without_a_broker_the_form_comes_back_and_says_so(staff: Client) -> None:
    """503, with what was typed still in it."""
    answer = staff.post("/tasks/start/app.tasks.add/", {"arg-x": "12345", "arg-y": "2"})
    assert answer.status_code == 503
    assert "The broker is unavailable" in text(answer)
    assert 'value="12345"' in answer.content.decode()
    assert staff.post("/tasks/emails/", {"addresses": "a@example.org"}).status_code == 503
    assert not LogEntry.objects.exists()


def test_ten_emails_are_one_run_and_bad_addresses_none(staff: Client, broker: None) -> None:
    """The form offers ten; the answer leads to the page of the run."""
    offered = staff.get("/tasks/emails/").context["form"]["addresses"].value()
    assert len(offered.splitlines()) == 10
    refused = staff.post("/tasks/emails/", {"addresses": "a@example.org\nnobody"})
    assert refused.status_code == 400
    assert "nobody" in " ".join(refused.context["form"].errors["addresses"])
    assert staff.post("/tasks/emails/", {"addresses": ""}).status_code == 400
    assert not Dispatch.objects.exists()
    answer = staff.post("/tasks/emails/", {"addresses": offered})
    sent = Dispatch.objects.get()
    assert answer["Location"] == f"/tasks/{sent.task_id}/"
    assert (sent.name, len(json.loads(sent.args or "")[0])) == ("app.tasks.send_emails", 10)


# ==================================================================================================
# Watching
# ==================================================================================================


def rows(answer: Any) -> list[str]:
    """Return the ids of the runs in a list."""
    return re.findall(r'id="run-([^"]+)"', answer.content.decode())


def test_the_list_is_filtered_by_state_and_task(staff: Client) -> None:
    """And keeps the filter when one goes on to the next page."""
    failed, done = a_run("FAILURE"), a_run()
    other = a_run(name="app.tasks.post_counter_update", args="[]")
    assert rows(staff.get("/tasks/")) == [other, done, failed]
    assert rows(staff.get("/tasks/?state=FAILURE")) == [failed]
    assert rows(staff.get("/tasks/?name=app.tasks.add")) == [done, failed]
    assert rows(staff.get("/tasks/?state=SUCCESS&name=app.tasks.add")) == [done]
    assert "No tasks match" in text(staff.get("/tasks/?state=REVOKED"))


def test_pages_lead_to_older_runs_and_back(staff: Client) -> None:
    """By links, each run once."""
    for _ in range(30):
        a_run("SUCCESS")
    first = staff.get("/tasks/?state=SUCCESS")
    older = unescape(re.findall(r'rel="next" href="([^"]+)"', first.content.decode())[0])
    second = staff.get(f"/tasks/{older}")
    assert "state=SUCCESS" in older
    assert len({*rows(first), *rows(second)}) == 30
    newer = unescape(re.findall(r'rel="prev" href="([^"]+)"', second.content.decode())[0])
    assert rows(staff.get(f"/tasks/{newer}")) == rows(first)
    # Only the first page moves: under a reader of an older one nothing is taken away.
    assert "hx-get" in first.content.decode()
    assert "hx-get" not in second.content.decode()


@pytest.mark.parametrize("query", ["cursor=nonsense", "cursor=older-999999999999999999999", "state=%00", "name=%00%ff"])
def test_a_query_that_makes_no_sense_is_a_page(staff: Client, query: str) -> None:
    """And never an error of the server."""
    assert staff.get(f"/tasks/?{query}").status_code == 200


@pytest.mark.parametrize("size", [1, 60])
def test_the_list_takes_seven_queries_however_many_runs(
    staff: Client, django_assert_max_num_queries: Any, size: int
) -> None:
    """Two of them for session and user."""
    for number in range(size):
        a_run(["SUCCESS", "FAILURE", "PENDING", "STARTED"][number % 4])
    with django_assert_max_num_queries(7):
        staff.get("/tasks/")
    with django_assert_max_num_queries(7):
        staff.get("/tasks/?state=FAILURE&name=app.tasks.add")


def test_the_page_of_a_run_takes_eight_queries_at_most(staff: Client, django_assert_max_num_queries: Any) -> None:
    """However often it was run again."""
    run_id = a_run()
    for _ in range(20):
        a_run(parent=run_id)
    with django_assert_max_num_queries(8):
        staff.get(f"/tasks/{run_id}/")


def test_what_has_not_changed_is_not_sent_again(staff: Client) -> None:
    """204, so that nothing is taken from under the reader; and all of it once something happened."""
    run_id = a_run("STARTED")
    for path in ("/tasks/", f"/tasks/{run_id}/", "/"):
        page = staff.get(path).content.decode()
        (live,) = re.findall(r'hx-get="([^"]+)"', page)
        htmx = {"hx-request": "true"}
        assert staff.get(unescape(live), headers=htmx).status_code == 204
        TaskResult.objects.filter(task_id=run_id).update(status="SUCCESS", result="5")
        changed = staff.get(unescape(live), headers=htmx)
        assert changed.status_code == 200
        assert "<html" not in changed.content.decode()
        TaskResult.objects.filter(task_id=run_id).update(status="STARTED")


def test_a_run_that_is_over_is_not_asked_for_again(staff: Client) -> None:
    """Its page stays as it is."""
    assert "hx-get" in staff.get(f"/tasks/{a_run('STARTED')}/").content.decode()
    assert "hx-get" not in staff.get(f"/tasks/{a_run('SUCCESS')}/").content.decode()


@pytest.mark.parametrize("name", states.STATES)
def test_every_state_is_named_and_explained(staff: Client, name: str) -> None:
    """On the page of a run, and under the list."""
    meaning = str(states.of(name).meaning)
    page = text(staff.get(f"/tasks/{a_run(name)}/"))
    assert name in page
    assert meaning in page
    assert meaning in text(staff.get("/tasks/"))


def test_the_states_are_those_that_celery_has() -> None:
    """All but REJECTED and IGNORED, which are no states of a stored result."""
    from celery import states as celery_states

    assert set(states.STATES) == set(celery_states.ALL_STATES)
    assert states.of("HALFWAY").name == "HALFWAY"


def test_a_time_out_is_shown_as_what_it_is(staff: Client) -> None:
    """FAILURE with TimeLimitExceeded; a state TIMEOUT does not exist."""
    page = text(staff.get(f"/tasks/{a_run('FAILURE')}/"))
    assert "TimeLimitExceeded" in page
    assert "There is no state TIMEOUT" in page


def test_a_time_out_is_in_the_language_of_the_page_and_in_english_to_a_program(staff: Client) -> None:
    """A program may look for the words."""
    path = f"/tasks/{a_run('FAILURE')}/"
    assert "TimeLimitExceeded: задача выполнялась дольше" in text(staff.get(path, headers=RUSSIAN))
    asked = staff.get(path, headers={**RUSSIAN, "accept": "application/json"})
    assert asked.json()["error"].startswith("TimeLimitExceeded: it ran longer than")


def test_the_page_of_an_unknown_run_says_so(staff: Client) -> None:
    """A program gets what Celery says: PENDING."""
    path = f"/tasks/{uuid4()}/"
    answer = staff.get(path)
    assert answer.status_code == 404
    assert "nothing is known any more" in text(answer)
    assert staff.get(path, headers={"accept": "application/json"}).json()["state"] == "PENDING"
    assert staff.get("/tasks/%00/").status_code == 404


def test_a_run_may_have_any_id(staff: Client) -> None:
    """Celery takes whatever the sender calls it."""
    Dispatch.objects.create(task_id="daily/2026 ä?", name="app.tasks.add", args="[1, 2]", kwargs="{}")
    (link,) = re.findall(r'id="run-[^"]+" href="([^"]+)"', staff.get("/tasks/").content.decode())
    assert "daily/2026 ä?" in text(staff.get(link))


def test_a_browser_gets_a_page_and_a_program_json(staff: Client) -> None:
    """By what each says that it takes."""
    path = f"/tasks/{a_run()}/"
    assert staff.get(path)["Content-Type"].startswith("text/html")
    assert staff.get(path, headers={"accept": "*/*"}).json()["result"] == 5
    assert staff.get(path, headers={"accept": "application/json"}).json()["result"] == 5


# ==================================================================================================
# Calling back, running again
# ==================================================================================================


@pytest.mark.parametrize("action", ["revoke", "terminate"])
def test_a_button_that_destroys_asks_first(staff: Client, action: str) -> None:
    """The question changes nothing; it is a form, with the token, that does."""
    run_id = a_run("STARTED")
    page = staff.get(f"/tasks/{run_id}/").content.decode()
    assert f'href="/tasks/{run_id}/{action}/"' in page
    question = staff.get(f"/tasks/{run_id}/{action}/").content.decode()
    assert 'method="post"' in question
    assert "csrfmiddlewaretoken" in question
    assert "cannot be taken back" in question
    assert runs.find(run_id).state == "STARTED"
    assert not LogEntry.objects.exists()


def test_a_revoke_is_done_and_written_into_the_admins_log(staff: Client, broker: None) -> None:
    """With who did it; the page of the run shows that, too."""
    run_id = a_run("PENDING")
    answer = staff.post(f"/tasks/{run_id}/revoke/", follow=True)
    assert "it will not start" in text(answer)
    assert runs.find(run_id).state == "REVOKED"
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_repr) == ("anna", f"app.tasks.add[{run_id}]")
    assert entry.change_message == "Revoked."
    assert entry.object_id == str(Dispatch.objects.get(task_id=run_id).pk)
    assert "anna: Revoked." in text(staff.get(f"/tasks/{run_id}/"))


def test_what_has_ended_can_only_be_run_again(staff: Client) -> None:
    """And says why. Who had the question open already gets the answer, and nothing is written down as done."""
    run_id = a_run()
    page = text(staff.get(f"/tasks/{run_id}/"))
    assert "nothing left to revoke" in page
    assert "Terminate at once" not in page
    assert "Run again with the same arguments" in page
    assert "It had ended before" in text(staff.post(f"/tasks/{run_id}/terminate/", follow=True))
    assert not LogEntry.objects.exists()


def test_a_rerun_has_equal_arguments_and_knows_its_parent(staff: Client, broker: None) -> None:
    """And is named on the page of the run that it repeats."""
    run_id = a_run()
    answer = staff.post(f"/tasks/{run_id}/rerun/")
    new = Dispatch.objects.get(parent=run_id)
    assert answer["Location"] == f"/tasks/{new.task_id}/"
    assert json.loads(new.args or "") == [2, 3]
    assert f'href="/tasks/{run_id}/"' in staff.get(f"/tasks/{new.task_id}/").content.decode()
    assert f'href="/tasks/{new.task_id}/"' in staff.get(f"/tasks/{run_id}/").content.decode()
    assert LogEntry.objects.get().change_message == "Started again with the same arguments."


def test_what_cannot_be_run_again_says_why(staff: Client, broker: None) -> None:
    """The button is disabled; who sends the form all the same gets the reason, and nothing is sent."""
    run_id = a_run(args=None, kwargs=None)
    page = staff.get(f"/tasks/{run_id}/")
    assert re.search(r"<button disabled[^>]*>Run again", page.content.decode())
    assert runs.find(run_id).not_rerunnable in text(page)
    answer = staff.post(f"/tasks/{run_id}/rerun/", follow=True)
    assert "It cannot be run again" in text(answer)
    assert Dispatch.objects.count() == 1
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["rerun", "release"])
def test_what_runs_a_task_again_is_no_link(staff: Client, action: str) -> None:
    """A crawler or a prefetching browser starts nothing."""
    assert staff.get(f"/tasks/{a_run()}/{action}/").status_code == 405


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_run_cannot_be_acted_on(staff: Client, broker: None, action: str) -> None:
    """404, and no error of the server."""
    assert staff.post(f"/tasks/nothing/{action}/", follow=True).status_code == 404
    assert not LogEntry.objects.exists()
