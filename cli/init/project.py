"""What the files of a project say of it; nothing of it is run.

Its names are found as Python has them: `manage.py`, `wsgi.py` and what makes an app of Celery are parsed.
"""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where nobody keeps a project.
_NOT_IN = frozenset({"node_modules", "venv", "env", "site-packages", "__pycache__", "migrations", "tests", "docs"})
_DEEPEST = 4
# Settings for developers, and what those of a host are called beside them.
_OF_DEVELOPERS = frozenset({"local", "dev", "development", "test", "base"})
_OF_HOSTS = ("production", "prod", "prd")
_VARIABLE = "DJANGO_SETTINGS_MODULE"
# What a deploy finds by itself, and where else projects say which packages a host needs, the likeliest first.
_FOUND_ANYWAY = ("uv.lock", "poetry.lock", "requirements.txt")
_LOCKS = tuple(
    f"requirements{between}{name}.txt"
    for between in ("/", "-", "_")
    for name in (*_OF_HOSTS, "base", "common", "requirements")
)


class UnclearError(Exception):
    """Something cannot be guessed; the message says what, and how to say it."""


@dataclass(frozen=True)
class Guess:
    """A choice that was worked out.

    Attributes:
        name: of the choice.
        value: of it.
        why: from what, a few words.
    """

    name: str
    value: object
    why: str


@dataclass(frozen=True)
class Module:
    """A file of Python that was read.

    Attributes:
        path: of the file.
        tree: what is in it.
    """

    path: Path
    tree: ast.Module


class Project:
    """A project in a folder.

    Args:
        top: the folder that is shipped.
        folder: where manage.py is in it; None to look for it.

    Raises:
        UnclearError: there are several to choose from.
    """

    def __init__(self, top: Path, folder: str | None = None) -> None:
        self._top = top
        self._modules = [*_modules(top)]
        self.manages = [module for module in self._modules if module.path.name == "manage.py"]
        self.root = top / folder if folder is not None else self._root()

    def guesses(self) -> Iterator[Guess]:
        """Yield what its files say."""
        if self.root != self._top:
            yield Guess("site_source_folder", str(self.root.relative_to(self._top)), "where manage.py is")
        yield from filter(None, (self._lock(), self._settings(), self._celery_app(), self._application()))

    def _root(self) -> Path:
        """Return the folder that Python has its modules from."""
        if self.manages:
            depth = min(len(module.path.parts) for module in self.manages)
            nearest = [module.path for module in self.manages if len(module.path.parts) == depth]
            if len(nearest) > 1:
                names = ", ".join(str(path.relative_to(self._top)) for path in nearest)
                example = nearest[0].parent.relative_to(self._top)
                raise UnclearError(f"There are several: {names}. Say which: --set site_source_folder={example}")
            folder = nearest[0].parent
            [manage] = [module for module in self.manages if module.path == nearest[0]]
            # One that is a part of its package is run as `python -m package.manage`.
            package = _default_of(manage.tree, _VARIABLE).partition(".")[0]
            return self._above(folder) if package == folder.name and not (folder / package).exists() else folder
        for module in self._named("wsgi.py"):
            return self._above(module.path.parent)
        return self._top

    def _above(self, folder: Path) -> Path:
        """Return the folder that a package is in."""
        while (folder / "__init__.py").is_file() and folder != self._top:
            folder = folder.parent
        return folder

    def _named(self, *names: str) -> Iterator[Module]:
        yield from (module for name in names for module in self._modules if module.path.name == name)

    def _inside(self, *names: str) -> Iterator[Module]:
        yield from (module for module in self._named(*names) if module.path.is_relative_to(self.root))

    def _lock(self) -> Guess | None:
        """Return the file that says which packages it needs, where it is not one that is looked for anyway."""
        folders = [folder for folder in (self.root, *self.root.parents) if folder.is_relative_to(self._top)]
        if any((folder / name).is_file() for folder in folders for name in _FOUND_ANYWAY):
            return None
        if any(_has_packages(folder / "pyproject.toml") for folder in folders):
            return None
        for folder in folders:
            for name in _LOCKS:
                if (folder / name).is_file():
                    path = str((folder / name).relative_to(self._top))
                    return Guess("site_lock", path, "the file that says which packages a host needs")
        return None

    def _settings(self) -> Guess | None:
        """Return which settings a host has: those of wsgi.py before those of manage.py, which are for developers."""
        for module in self._inside("wsgi.py", "asgi.py", "celery.py", "celery_app.py", "manage.py"):
            if value := _default_of(module.tree, _VARIABLE):
                where = module.path.relative_to(self.root)
                package, _, last = value.rpartition(".")
                for name in _OF_HOSTS if last in _OF_DEVELOPERS else ():
                    if package and self._path_of(f"{package}.{name}").is_file():
                        return Guess("site_settings_module", f"{package}.{name}", f"beside {value} of {where}")
                return Guess("site_settings_module", value, f"as {where} has it")
        return None

    def _path_of(self, module: str) -> Path:
        return self.root.joinpath(*module.split(".")).with_suffix(".py")

    def _celery_app(self) -> Guess | None:
        found = [
            (module, name)
            for module in self._modules
            if module.path.is_relative_to(self.root)
            for name in _apps_of(module.tree)
        ]
        if not found:
            return None
        module, name = min(found, key=lambda each: (len(each[0].path.parts), each[0].path.name != "celery.py"))
        relative = module.path.relative_to(self.root)
        dotted = _dotted(relative)
        why = f"an app of Celery, {name}, is made in {relative}"
        # As `celery -A` looks for one.
        if relative.name == "celery.py" and len(relative.parts) > 1 and name in ("app", "celery"):
            return Guess("site_celery_app", dotted.rpartition(".")[0], why)
        return Guess("site_celery_app", dotted if name in ("app", "celery") else f"{dotted}:{name}", why)

    def _application(self) -> Guess | None:
        for module in self._inside("wsgi.py"):
            if "application" in _assigned(module.tree):
                relative = module.path.relative_to(self.root)
                return Guess("site_wsgi_application", f"{_dotted(relative)}:application", f"application in {relative}")
        return None


def _modules(top: Path) -> Iterator[Module]:
    """Yield what is to be read of a project."""
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        deep = len(here.relative_to(top).parts) >= _DEEPEST
        folders[:] = (
            [] if deep else sorted(name for name in folders if not name.startswith(".") and name not in _NOT_IN)
        )
        for name in sorted(files):
            path = here / name
            if not name.endswith(".py") or path.is_symlink():
                continue
            text = path.read_text(errors="replace")
            if name in ("manage.py", "wsgi.py", "asgi.py") or "Celery(" in text:
                try:
                    yield Module(path, ast.parse(text))
                except (SyntaxError, ValueError):
                    continue  # a template of a project, or of another Python


def _has_packages(file: Path) -> bool:
    """Say whether a pyproject.toml is more than the configuration of tools."""
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return "project" in found or "poetry" in found.get("tool", {})


def _dotted(relative: Path) -> str:
    return ".".join(relative.with_suffix("").parts)


def _default_of(tree: ast.Module, variable: str) -> str:
    """Return what a file sets a variable of the environment to; empty where it does not."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="setdefault"), args=[ast.Constant(value=name), ast.Constant(value=str(value))]
            ) if name == variable:
                return value
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value=name))], value=ast.Constant(value=str(value))
            ) if name == variable:
                return value
    return ""


def _apps_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the apps of Celery that a module makes."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)) if _last(func).endswith("Celery"):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=func)) if _last(func).endswith("Celery"):
                yield name


def _last(func: ast.expr) -> str:
    match func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _assigned(tree: ast.Module) -> set[str]:
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
