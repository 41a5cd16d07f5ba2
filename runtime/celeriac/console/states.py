"""The states that a task can be in, and what each of them means to a person.

Source: https://docs.celeryq.dev/en/stable/userguide/tasks.html#built-in-states
"""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class State:
    """A state, by Celery's own word.

    Attributes:
        name: as Celery writes it.
        mark: one character beside the word, so that nothing is told by colour alone.
        meaning: a sentence or two for a person.
    """

    name: str
    mark: str
    meaning: Promise | str


STATES = {
    state.name: state
    for state in (
        State(
            "PENDING",
            "○",
            _(
                "Sent, and no worker has begun it yet. Celery says the same of a task that it has never heard of:"
                " it keeps no list of what was sent."
            ),
        ),
        State("RECEIVED", "◔", _("A worker has taken it and will begin it when a process of its pool is free.")),
        State("STARTED", "◑", _("A worker runs it now.")),
        State("RETRY", "↻", _("It has failed, and is tried again after a pause.")),
        State("SUCCESS", "✓", _("It has ended, and the result is what it returned.")),
        State(
            "FAILURE",
            "✕",
            _(
                "It has ended with an error. A time-out is one: TimeLimitExceeded where the worker killed it,"
                " SoftTimeLimitExceeded where it was told to stop. There is no state TIMEOUT."
            ),
        ),
        State("REVOKED", "⊘", _("Somebody called it back. It was not begun, or it was stopped while it ran.")),
    )
}


def of(name: str) -> State:
    """Return what is known of a state; a task may set states of its own, which explain nothing."""
    return STATES.get(name) or State(name, "·", _("A state that the task has set itself."))
