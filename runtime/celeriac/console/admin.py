"""Tokens of the API in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from celeriac.console.models import ApiToken


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows whose tokens there are, and deletes them. `manage.py api_token` makes one: it is shown once."""

    list_display = ("purpose", "user", "created_at", "expires_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Say no: the admin would have to show the token on a page."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Say no: somebody else's name on a token would be a token of theirs."""
        return False
