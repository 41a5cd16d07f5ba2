"""The settings of the console, read when they are needed: see the table in `celeriac.console`."""

from typing import Any

from django.conf import settings


def base_template() -> str:
    """Return the name of the template that the pages extend."""
    return str(_setting("BASE_TEMPLATE", "celeriac/console/base.html"))


def flower_url() -> str:
    """Return where Flower is, "" where that is not known."""
    return str(_setting("FLOWER_URL", ""))


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, f"CELERIAC_CONSOLE_{name}", default)
