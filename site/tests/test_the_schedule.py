"""Beat and its schedule. Named to come late: the minute passes while other tests run."""

from testkit.waiting import eventually

from processes import SITE, Stack


def test_the_schedule_of_the_code_is_in_the_database_and_fires_every_minute(stack: Stack) -> None:
    """Beat sends the task, a worker runs it, the counter of the first post goes up."""
    schedule = stack.query(
        "select t.task, t.enabled, c.minute, c.hour, c.day_of_week"
        " from django_celery_beat_periodictask t"
        " join django_celery_beat_crontabschedule c on t.crontab_id = c.id"
        " where t.name = 'app-post_counter_update'"
    )
    assert schedule == [("app.tasks.post_counter_update", 1, "*", "*", "*")]

    def runs() -> int:
        ((number,),) = stack.query(
            "select count(*) from django_celery_results_taskresult"
            " where status = 'SUCCESS' and periodic_task_name = 'app-post_counter_update'"
        )
        return int(number)

    eventually(runs, 60, what="the schedule has fired")
    assert stack.query("select view_count from app_post where id = 1") >= [(1,)]
    ((counted,),) = stack.query(
        "select total_run_count from django_celery_beat_periodictask where name = 'app-post_counter_update'"
    )
    assert counted >= 1


def test_the_running_site_left_nothing_in_its_folder() -> None:
    """No schedule file, no pid file: the folder may be read-only, as a release is."""
    assert not list(SITE.glob("celerybeat*"))
