"""Who did what to a run: in Django's admin log, which the admin shows."""

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.contenttypes.models import ContentType

from app.models import Dispatch

# What the log says was done.
STARTED = "Started."
RERUN = "Started again with the same arguments."
REVOKED = "Revoked."
TERMINATED = "Terminated."


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
