"""The daily report: what happened on the site in a day."""

from datetime import date, datetime, timedelta

from celeriac import clock
from celeriac.console import runs
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from app.models import DailyReport, Post


def write(day: date) -> str:
    """Return the report of a day, which is one of the site's time zone, in words."""
    begin, end = (_midnight(day), _midnight(day + timedelta(days=1)))
    sent = runs.ours().filter(sent_at__gte=begin, sent_at__lt=end).count()
    new = Post.objects.filter(created_at__gte=begin, created_at__lt=end).count()
    views = Post.objects.aggregate(views=Sum("view_count"))["views"] or 0
    return f"{day}: {new} new post(s), {views} view(s) of all posts so far, {sent} task(s) sent."


def _midnight(day: date) -> datetime:
    """Return when a day begins, as the database has it."""
    return clock.stored(timezone.make_aware(datetime.combine(day, datetime.min.time())))


def keep(day: date) -> DailyReport | None:
    """Keep the report of a day and have it sent; return None if there is one already, which stays as it is."""
    from app.tasks import send_email  # the tasks import this module

    with transaction.atomic():
        report, is_new = DailyReport.objects.get_or_create(day=day, defaults={"text": write(day)})
        if not is_new:
            return None
        for address in settings.DAILY_REPORT_TO:
            # After the commit: a worker could otherwise be faster than the row it is about, and of a report that was
            # rolled back nobody should hear.
            send_email.delay_on_commit(address, f"Report of {day}", report.text)
    return report
