"""Pages in which anything may stand: what a task was given, returned or raised can be no text of UTF-8."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from celeriac.console import settings


def render(request: HttpRequest, page: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    r"""Return a page as Django's own `render` does; a lone surrogate in it is written as Python would, `\udce9`.

    Such a sign stands for a byte of a file name that is no UTF-8, and Django cannot send it.
    """
    known = {"base_template": settings.base_template(), "flower_url": settings.flower_url()}
    text = render_to_string(page, {**known, **context}, request)
    return HttpResponse(text.encode(errors="backslashreplace"), status=status)
