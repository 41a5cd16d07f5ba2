"""Who may see and do what with tasks: Django's permissions on the journal, given to users and groups in the admin.

A superuser has all of them. Without being a member of staff none of them counts: these are pages of the staff's.
"""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

VIEW = "celeriac_ledger.view_dispatch"  # what was sent, with which arguments, and what became of it
START = "celeriac_ledger.add_dispatch"  # start a task, run one again
CHANGE = "celeriac_ledger.change_dispatch"  # revoke, terminate, release


def missing(user: Any, permission: str) -> str:
    """Return in a sentence what a member of staff needs for this, "" for one who has it.

    Args:
        user: who is logged in.
        permission: one of the above.
    """
    return "" if user.has_perm(permission) else _("This needs the permission %s.") % permission


def is_staff(request: HttpRequest) -> bool:
    """Return whether a member of staff asks."""
    user = request.user
    return bool(user.is_active and user.is_authenticated and user.is_staff)


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether who asks is a member of staff with this permission."""
    return is_staff(request) and not missing(request.user, permission)
