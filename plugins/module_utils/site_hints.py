"""Which choice of the inventory helps, by what a failed step has printed."""

from __future__ import annotations

import re

# What was printed, and what is said of it: `{}` stands for what the group of the pattern found, each once.
HINTS = (
    (
        r"No such file or directory: '\S*(?:cc|\+\+|clang)'|fatal error: \S+: No such file"
        r"|(?:pg|mysql|mariadb)_config\b.* not found",
        "A compiler, or what it needs, is missing on the host: "
        "`site_build_packages: [gcc, g++, python3-dev, libpq-dev]`, say.",
    ),
    (
        r"env: .([\w.-]+).: No such file or directory",
        "The host has no {}: put Debian's package of it into `site_host_packages`, beside python3-venv.",
    ),
    (
        # But for a module that the inventory names.
        r"(?s)\A(?!.*CELERIAC_\w+=).*?No module named '([\w.-]+)'",
        "No {} is in the release: what the project says of its packages has to have it, or `site_requirements`.",
    ),
    (
        r'(?s)check: failed .*(?:relation "\S+" does not exist|no such table: )',
        "A check asks for a table that the migrations make: `site_check: after_migrate`.",
    ),
    (
        r"(?m)^\S+: \((\w+\.[A-Z]\d+)\) ",
        "Where nobody minds: `site_check_ignore: [{}]`, or SILENCED_SYSTEM_CHECKS in the settings.",
    ),
    (
        r"GET \S+: 400 where 200 is right",
        "The settings may refuse the site's own name: ALLOWED_HOSTS of the environment has `site_domain` and "
        "`site_domain_aliases`; where the project reads another variable, it belongs into `site_environment`.",
    ),
    (r"CELERIAC_CELERY_APP=", "CELERIAC_CELERY_APP is `site_celery_app` in the inventory."),
    (r"CELERIAC_WSGI_APPLICATION=", "CELERIAC_WSGI_APPLICATION is `site_wsgi_application` in the inventory."),
    (r"start operation timed out", "What takes longer to start has `site_start_timeout_seconds`."),
)


def with_hints(text: str) -> str:
    """Return what went wrong, with a line behind it for each choice that may help."""
    lines = [text]
    for pattern, hint in HINTS:
        if found := re.findall(pattern, text):
            lines.append(hint.format(", ".join(dict.fromkeys(found))))
    return "\n".join(lines)
