"""Who did what to a run: in Django's admin log, which the admin shows."""

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.contenttypes.models import ContentType
from django.db.models import CharField
from django.db.models.functions import Cast
from django.utils.translation import gettext_noop

from celeriac.console import runs
from celeriac.enqueue import BrokerUnavailableError
from celeriac.ledger.models import Dispatch

# What the log says was done.
STARTED = gettext_noop("Started.")
RERUN = gettext_noop("Started again with the same arguments.")
REVOKED = gettext_noop("Revoked.")
TERMINATED = gettext_noop("Terminated.")
RELEASED = gettext_noop("Released, to run again.")


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


def revoke(user: AbstractBaseUser | AnonymousUser, run_id: str, *, terminate: bool) -> runs.Revoked:
    """Revoke a run in the name of a user, and write down what that has done: nothing to a run that was over.

    Raises:
        celeriac.console.runs.UnknownRunError, celeriac.console.runs.ResultsUnavailableError: nothing was done.
        celeriac.enqueue.BrokerUnavailableError: it is noted, and so it is in the log.
    """
    try:
        done = runs.revoke(run_id, terminate=terminate, by=user.get_username())
    except BrokerUnavailableError:
        note(user, run_id, REVOKED)
        raise
    if done is not runs.Revoked.WAS_OVER:
        note(user, run_id, TERMINATED if done is runs.Revoked.TERMINATED else REVOKED)
    return done


def entries(run_id: str) -> list[LogEntry]:
    """Return what was done to a run, the first thing first, each with its user."""
    dispatches = Dispatch.objects.filter(task_id=run_id).annotate(key=Cast("pk", CharField())).values("key")
    log = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Dispatch), object_id__in=dispatches)
    return list(log.select_related("user").order_by("action_time"))
