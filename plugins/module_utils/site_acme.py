"""What the unit says that keeps a certificate by ACME (`roles/nginx_acme`)."""

from __future__ import annotations

from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd


def unit_of(names: Names) -> str:
    """Return the unit that keeps the certificate of a site."""
    return f"{names.prefix}nginx-acme.service"


def timer_of(names: Names) -> str:
    """Return the timer of that unit."""
    return f"{names.prefix}nginx-acme.timer"


def why_not_renewed(systemd: Systemd, names: Names) -> str:
    """Return why the last run of the unit has brought no certificate, in its own words; empty where all is well.

    Args:
        systemd: to ask.
        names: those of the site.
    """
    unit = unit_of(names)
    result = systemd.properties(unit, "Result").get("Result", "success")
    if result == "success":
        return ""
    said = systemd.said_by(unit.removesuffix(".service"))
    return (
        said if result == "exit-code" and said else f"The certificate was not renewed: {unit} has ended with {result}."
    )
