"""Which choice of the inventory helps, by what a failed step has printed."""

from __future__ import annotations

import re

# What was printed, and what is said of it: `{}` stands for what the group of the pattern found, each once.
HINTS = (
    (
        # The last is what uv says of each package that it could not build, whatever that had to say.
        r"No such file or directory: '\S*(?:cc|\+\+|clang|-config)'|fatal error: \S+: No such file"
        r"|(?:(?:pg|mysql|mariadb)_config|pkg-config)\b.* not found"
        r"|Failed to build \S+\n +cause: The build backend returned an error",
        "A compiler, or what it needs, may be missing on the host: "
        "`site_build_packages: [gcc, g++, pkgconf, python3-dev, libpq-dev]`, say.",
    ),
    (
        # Said by the loader of the system, by ctypes or cffi, and by packages that looked for it themselves.
        r"(?:[Ff]ailed to find (?=lib)|Unable to find (?=\S+ shared library)|no library called \"(?=\S+\" was found)"
        r"|\b(?=lib[\w.+-]+\.so[.\d]*: cannot open)|\b(?=lib\w+ library not found))([\w+-]+(?:\.[\w+-]+)*)",
        "The host has no {}: Debian's package of it belongs into `site_host_packages`, beside python3-venv: "
        "`site_host_packages: [python3-venv, libmagic1]`, say.",
    ),
    (
        # By gi.require_version, and by an import without it.
        r"(?:Namespace (?=\w+ not available)|cannot import name (?=\w+, introspection typelib))(\w+)",
        "GObject finds no {} on the host: Debian's package of it, whose name begins with gir1.2-, belongs into "
        "`site_host_packages`: `[python3-venv, gir1.2-rsvg-2.0]`, say.",
    ),
    (
        r"env: .([\w.-]+).: No such file or directory",
        "The host has no {}: put Debian's package of it into `site_host_packages`, beside python3-venv.",
    ),
    (
        r"No module named 'pkg_resources'",
        "pkg_resources went with setuptools 81: `site_requirements: ['setuptools<81']`.",
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
        r"HELLO must be called with the client already authenticated"
        r"|(?:Authentication|Operational)Error\W+Authentication required",
        "Redis on a host asks for a password, which the address that the project has lacks: `site_settings` can set "
        "that of the broker to `{{{{ site_broker_url }}}}`, and that of a cache as docs/projects.md has it.",
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
    (
        r"CELERIAC_CELERY_APP=",
        "CELERIAC_CELERY_APP is `site_celery_app` in the inventory, for `celery -A`: `site_celery_app: config`, say.",
    ),
    (
        r"CELERIAC_WSGI_APPLICATION=",
        "CELERIAC_WSGI_APPLICATION is `site_wsgi_application` in the inventory: "
        "`site_wsgi_application: config.wsgi:application`, say.",
    ),
    (
        r"CELERIAC_ASGI_APPLICATION=",
        "CELERIAC_ASGI_APPLICATION is `site_asgi_application` in the inventory: "
        "`site_asgi_application: config.asgi:application`, say; empty for a project on WSGI.",
    ),
    (
        r"CELERIAC_WSGI_APPLICATION=\S+ is an ASGI application",
        "Where the project is to be called as that: `site_asgi_application: config.asgi:application`, say, in place of "
        "`site_wsgi_application`.",
    ),
    (
        r"Model class (django_celery_beat)\S* doesn't declare an explicit app_label",
        "Beat keeps its schedule with {}, which belongs into INSTALLED_APPS. Where nothing is scheduled, the group "
        "`beat` has no host: `beat: {{}}`.",
    ),
    (r"start operation timed out", "What takes longer to start has `site_start_timeout_seconds`."),
)


def with_hints(text: str) -> str:
    """Return what went wrong, with a line behind it for each choice that may help."""
    lines = [text]
    for pattern, hint in HINTS:
        if found := re.findall(pattern, text):
            lines.append(hint.format(", ".join(dict.fromkeys(found))))
    return "\n".join(lines)
