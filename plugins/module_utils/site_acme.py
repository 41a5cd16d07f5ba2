"""What the unit says that keeps a certificate by ACME (`roles/nginx_acme`)."""

from __future__ import annotations

from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

UNIT = "nginx-acme.service"
TIMER = "nginx-acme.timer"
SAYS = "nginx-acme"


def why_not_renewed(systemd: Systemd) -> str:
    """Return why the last run of the unit has brought no certificate, in its own words; empty where all is well.

    Args:
        systemd: to ask.
    """
    result = systemd.properties(UNIT, "Result").get("Result", "success")
    if result == "success":
        return ""
    said = systemd.said_by(SAYS)
    return (
        said if result == "exit-code" and said else f"The certificate was not renewed: {UNIT} has ended with {result}."
    )
