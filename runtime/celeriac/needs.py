"""What an app of ours needs beside itself: said by a system check, and not by a traceback.

What would import a model of an app that is not installed is left out, so that the check has its say.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from django.apps import apps
from django.core import checks


def missing_packages(packages: Mapping[str, str]) -> list[str]:
    """Return the packages that the project's lock does not have.

    Args:
        packages: by the name under which each is imported, what it is called; the extras of `pyproject.toml` have them
            with their versions.
    """
    return [package for name, package in packages.items() if find_spec(name) is None]


def missing_apps(names: Iterable[str]) -> list[str]:
    """Return those of these apps that are not in `INSTALLED_APPS`."""
    return [name for name in names if not apps.is_installed(name)]


def package_errors(app: str, packages: Mapping[str, str], number: str) -> list[checks.CheckMessage]:
    """Return an error for each package that is missing.

    Args:
        app: which needs them.
        packages: as for `missing_packages`.
        number: of the error.
    """
    return [
        checks.Error(f"{app} needs the package {package}.", hint=f"uv pip install {package}", id=f"celeriac.{number}")
        for package in missing_packages(packages)
    ]


def errors(app: str, names: Iterable[str], number: str) -> list[checks.CheckMessage]:
    """Return an error for each app that is missing.

    Args:
        app: which needs them.
        names: of what it needs.
        number: of the error.
    """
    return [
        checks.Error(
            f"{app} needs {name!r} in INSTALLED_APPS.",
            hint=f'INSTALLED_APPS = [..., "{app}", "{name}"]',
            id=f"celeriac.{number}",
        )
        for name in missing_apps(names)
    ]
