"""What every page can use."""

from django.conf import settings
from django.http import HttpRequest


def links(request: HttpRequest) -> dict[str, str]:
    """Return the addresses that are not this project's own."""
    return {"flower_url": settings.FLOWER_URL}
