"""Who did what to a run: in Django's admin log, which the admin shows."""

from celeriac.ledger.models import Dispatch
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.contenttypes.models import ContentType
from django.db.models import CharField
from django.db.models.functions import Cast
from django.utils.translation import gettext_noop

# What the log says was done.
STARTED = gettext_noop("Started.")
RERUN = gettext_noop("Started again with the same arguments.")
REVOKED = gettext_noop("Revoked.")
TERMINATED = gettext_noop("Terminated.")


def note(user: AbstractBaseUser | AnonymousUser, run_id: str, what: str) -> None:
    """Write one line into the admin's log.

    Args:
        user: who did it.
        run_id: of the run, which may have no Dispatch: it was sent by something else, or long ago.
        what: one of the words above.
    """
    dispatch = Dispatch.objects.filter(task_id=run_id).only("name", "task_id").first()
    LogEntry.objects.create(
        user_id=user.pk or 0,
        content_type=ContentType.objects.get_for_model(Dispatch),
        object_id=str(dispatch.pk) if dispatch else None,
        object_repr=str(dispatch or run_id)[:200],
        action_flag=ADDITION if what in {STARTED, RERUN} else CHANGE,
        change_message=what,
    )


def entries(run_id: str) -> list[LogEntry]:
    """Return what was done to a run, the first thing first, each with its user."""
    dispatches = Dispatch.objects.filter(task_id=run_id).annotate(key=Cast("pk", CharField())).values("key")
    log = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Dispatch), object_id__in=dispatches)
    return list(log.select_related("user").order_by("action_time"))
