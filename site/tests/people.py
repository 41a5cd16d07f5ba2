"""Who uses the site in tests."""

from celeriac.ledger.permissions import CHANGE, START, VIEW
from django.contrib.auth.models import Permission, User


def member(name: str, *permissions: str) -> User:
    """Make a member of staff, who is no superuser.

    Args:
        name: to log in with.
        permissions: of `celeriac.ledger.permissions`; all of them where none is named.
    """
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions or (VIEW, START, CHANGE):
        app, _, codename = permission.partition(".")
        if codename:
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user
