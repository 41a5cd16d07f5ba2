"""Pages and addresses, inside this process; no broker is there."""

import json
from typing import Any
from uuid import uuid4

import pytest
from celeriac.ledger.models import Dispatch
from django.contrib.admin import site as admin_site
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from app.admin import PostAdmin
from app.models import Post
from people import member

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser in which a member of staff is logged in."""
    client.force_login(member("anna"))
    return client


def test_the_home_page_shows_posts_with_their_counters(client: Client) -> None:
    """Including the first one, which comes with the tables."""
    Post.objects.filter(pk=1).update(view_count=12345)
    Post.objects.create(title="<Second>", text="two\nlines")
    page = client.get("/").content.decode()
    assert "The first post" in page
    assert "12,345</strong> views" in page
    assert "&lt;Second&gt;" in page
    assert "0</strong> views" in page


def test_the_home_page_links_to_the_admin_and_to_flower(client: Client) -> None:
    """Those are where the work is watched."""
    page = client.get("/").content.decode()
    assert 'href="/admin/"' in page
    assert 'href="http://127.0.0.1:5555/"' in page


def test_the_home_page_without_posts_says_how_to_write_one(client: Client) -> None:
    """Nobody is left before an empty page."""
    Post.objects.all().delete()
    assert 'href="/admin/app/post/add/"' in client.get("/").content.decode()


def test_the_home_page_takes_four_queries_at_most_however_many_posts(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    """Posts, what runs, its results, the schedule: each is read at once."""
    Post.objects.bulk_create(Post(title=f"Post {n}") for n in range(50))
    for number in range(50):
        Dispatch.objects.create(task_id=f"run-{number}", name="app.tasks.add")
        TaskResult.objects.create(task_id=f"run-{number}", status="STARTED")
        interval = IntervalSchedule.objects.create(every=number + 1, period="minutes")
        PeriodicTask.objects.create(name=f"entry {number}", task="app.tasks.add", interval=interval)
    with django_assert_max_num_queries(4):
        client.get("/")


def test_the_first_post_leaves_room_for_the_next() -> None:
    """Its number 1 was given by the database."""
    assert Post.objects.get().pk == 1
    assert Post.objects.create(title="Next").pk == 2


@pytest.mark.parametrize("path", ["/admin/app/post/", "/admin/django_celery_beat/periodictask/"])
def test_the_admin_shows_posts_schedules_and_results(admin_client: Client, path: str) -> None:
    """All three are registered there."""
    assert admin_client.get(path).status_code == 200
    assert admin_client.get("/admin/django_celery_results/taskresult/").status_code == 200


def test_saving_a_post_in_the_admin_keeps_views_counted_meanwhile(admin_client: Client) -> None:
    """The form was loaded before, and would write back the old number."""
    seen = Post.objects.get(pk=1)
    Post.objects.filter(pk=1).count_view()
    form = PostAdmin(Post, admin_site).get_form(HttpRequest())({"title": "New title", "text": seen.text}, instance=seen)
    assert form.is_valid()
    PostAdmin(Post, admin_site).save_model(HttpRequest(), seen, form, change=True)
    saved = Post.objects.get(pk=1)
    assert (saved.title, saved.view_count) == ("New title", 1)


def test_the_admin_creates_posts(admin_client: Client) -> None:
    """A new one is written whole."""
    admin_client.post("/admin/app/post/add/", {"title": "Fresh", "text": "words"})
    assert Post.objects.filter(title="Fresh", text="words", view_count=0).exists()


def test_a_stranger_starts_no_task_and_sees_none(client: Client) -> None:
    """Nor does a user who is not staff, nor one who is no longer active."""
    task = f"/tasks/{uuid4()}/"
    assert client.post("/tasks/add/", {"x": 1, "y": 2}).status_code == 403
    assert client.get(task).status_code == 403
    client.force_login(User.objects.create_user("visitor"))
    assert client.post("/tasks/add/", {"x": 1, "y": 2}).status_code == 403
    assert client.get(task).status_code == 403
    client.force_login(User.objects.create_user("gone", is_staff=True, is_active=False))
    assert client.post("/tasks/add/", {"x": 1, "y": 2}).status_code == 403
    assert client.get(task).status_code == 403


def test_a_form_on_another_site_starts_no_task() -> None:
    """The log-in alone is not enough, the CSRF token is asked for."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(member("anna"))
    assert client.post("/tasks/add/", {"x": 1, "y": 2}).status_code == 403
    answer = client.post("/tasks/add/", '{"x": 1, "y": 2}', content_type="application/json")
    assert answer.status_code == 403


def test_a_task_is_started_by_post_only(staff: Client) -> None:
    """A link or a crawler cannot."""
    assert staff.get("/tasks/add/").status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[" * 100_000,
        "[1, 2]",
        "null",
        '{"x": 1}',
        '{"x": 1, "y": null}',
        '{"x": 1, "y": true}',
        '{"x": 1, "y": [2]}',
        '{"x": 1, "y": "two"}',
        '{"x": 1, "y": NaN}',
        '{"x": 1, "y": 1e999}',
        '{"x": 1, "y": "inf"}',
        '{"x": 1, "y": 1' + "0" * 400 + "}",
        '{"x": 1, "y": 1' + "0" * 5000 + "}",
        '{"x": 1, "y": "1' + "0" * 5000 + '"}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_two_numbers_is_refused_with_the_reason(staff: Client, body: str | bytes) -> None:
    """400 with a sentence, before anything is sent to a worker."""
    answer = staff.post("/tasks/add/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert staff.post("/tasks/add/", {"x": "1", "y": "nan"}).status_code == 400


def test_without_a_broker_the_answer_says_so(staff: Client) -> None:
    """503, soon, and not a page of errors."""
    answer = staff.post("/tasks/add/", {"x": 1, "y": 2})
    assert answer.status_code == 503
    assert "broker" in answer.json()["error"]


def test_a_task_that_nobody_knows_is_pending(staff: Client) -> None:
    """So says Celery."""
    task_id = str(uuid4())
    answer = staff.get(f"/tasks/{task_id}/")
    assert answer.json() == {**{"id": task_id, "name": None, "state": "PENDING", "result": None, "error": None}}


def test_a_failed_task_shows_its_error(staff: Client) -> None:
    """Its type and its text."""
    task_id = str(uuid4())
    TaskResult.objects.create(
        task_id=task_id,
        task_name="app.tasks.add",
        status="FAILURE",
        content_type="application/json",
        content_encoding="utf-8",
        result=json.dumps({"exc_type": "ZeroDivisionError", "exc_message": ["no"], "exc_module": "builtins"}),
    )
    assert staff.get(f"/tasks/{task_id}/").json() == {
        "id": task_id,
        "name": "app.tasks.add",
        "state": "FAILURE",
        "result": None,
        "error": "ZeroDivisionError: no",
    }
