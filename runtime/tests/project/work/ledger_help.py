"""What the tests of the ledger have done inside the project."""

from datetime import timedelta

from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from kombu.exceptions import OperationalError

from work.tasks import once


def send_each(names: list[str]) -> list[str]:
    """Send a task for each name; return the names of those that could be sent."""
    accepted = []
    for name in names:
        try:
            once.apply_async((name, 0.005), ignore_result=True)
        except OperationalError:
            continue
        accepted.append(name)
    return accepted


def make_entries(ran_seconds_ago: dict[str, float]) -> None:
    """Make entries of every minute; those whose name begins with "disabled" are."""
    every, _ = IntervalSchedule.objects.get_or_create(every=60, period="seconds")
    for name, ago in ran_seconds_ago.items():
        PeriodicTask.objects.create(
            name=name,
            task="celeriac.ping",
            interval=every,
            last_run_at=timezone.now() - timedelta(seconds=ago),
            enabled=not name.startswith("disabled"),
        )
