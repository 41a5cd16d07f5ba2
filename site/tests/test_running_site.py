"""The whole site, running: web, worker and beat."""

from testkit.waiting import eventually

from processes import Stack, Visitor, run


def test_add_is_enqueued_at_once_and_executed_by_the_worker(stack: Stack, anna: Visitor) -> None:
    """202 in a moment for a task of five seconds; then STARTED; then SUCCESS with the sum."""
    accepted = anna.ask("/tasks/add/", {"x": "2", "y": "3"})
    assert accepted.status == 202
    task_id = accepted.json["id"]
    assert accepted.json["url"] == accepted.headers["Location"] == f"/tasks/{task_id}/"

    def state() -> str:
        return str(anna.ask(accepted.json["url"]).json["state"])

    eventually(lambda: state() == "STARTED", what="the task is started")
    eventually(lambda: state() == "SUCCESS", what="the task has succeeded")
    assert anna.ask(accepted.json["url"]).json == {
        "id": task_id,
        "name": "app.tasks.add",
        "state": "SUCCESS",
        "result": 5,
        "error": None,
    }
    # The arguments are kept with the result.
    ((arguments, worker),) = stack.query(
        "select task_args, worker from django_celery_results_taskresult where task_id = ?", task_id
    )
    assert "(2, 3)" in arguments
    assert worker.startswith("celery@")


def test_200_views_counted_by_four_processes_at_once_are_200(stack: Stack) -> None:
    """Each run that succeeded counts, those of the schedule too."""
    code = "from app.tasks import post_counter_update as t\nfor _ in range(200): t.apply_async(kwargs={'pk': 2})\n"
    create = "from app.models import Post; Post.objects.create(pk=2, title='Second')\n"
    sent = run("python3", "manage.py", "shell", "-v0", "-c", create + code, **stack.environment)
    assert sent.returncode == 0, sent.stderr

    def done() -> int:
        ((number,),) = stack.query(
            "select count(*) from django_celery_results_taskresult"
            " where status = 'SUCCESS' and task_kwargs like '%pk%2%'"
        )
        return int(number)

    eventually(lambda: done() == 200, 30, what="all 200 are done")
    assert stack.query("select view_count from app_post where id = 2") == [(200,)]
