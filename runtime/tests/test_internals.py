"""What is private to Celery, kombu and billiard is touched in one place, and is there."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import celeriac
from celeriac.internals import PARTS

PACKAGE = Path(celeriac.__file__).parent
INTERNALS = PACKAGE / "internals.py"
# `celeriac.transport` has its own (`test_transport_versions.py`).
OTHERS = sorted(
    path for path in PACKAGE.rglob("*.py") if path != INTERNALS and "transport" not in path.relative_to(PACKAGE).parts
)

# Private by their names only, or of somebody else: Django's, and Python's.
# https://docs.djangoproject.com/en/5.2/ref/models/meta/
OF_OTHERS = {"_current_frames", "_default_manager", "_exit", "_max_workers", "_meta"}


def names_in(owner: str) -> set[str]:
    """Return what a class or module defines: without an import, which would need a project.

    Args:
        owner: as in `PARTS`.
    """
    module, _, name = owner.partition(":")
    package, *rest = module.split(".")
    (folder,) = importlib.import_module(package).__path__
    tree = ast.parse(Path(folder, *rest).with_suffix(".py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return defined_in(classes[name] if name else tree)


def defined_in(tree: ast.AST) -> set[str]:
    """Return the names of functions, variables and attributes that are set in some code."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def private_in(tree: ast.AST) -> Iterator[str]:
    """Yield each private attribute that some code touches."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr"}:
            name = getattr(node.args[1], "value", "")
        else:
            continue
        if str(name).startswith("_") and not str(name).startswith("__"):
            yield str(name)


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PARTS.items() for name in names])
def test_each_part_is_there(owner: str, name: str) -> None:
    assert name in names_in(owner)


def test_each_part_that_is_touched_is_named() -> None:
    named = {name for names in PARTS.values() for name in names}
    assert {*private_in(ast.parse(INTERNALS.read_text()))} <= named


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_else_touches_what_is_private(path: Path) -> None:
    """A file has what is private to itself, and what a subclass has from its base (`PARTS`)."""
    tree = ast.parse(path.read_text())
    inherited = {name for names in PARTS.values() for name in names}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    of_self = {node.attr for node in calls if ast.unparse(node.value) in {"self", "cls", "super()"}}
    foreign = {*private_in(tree)} - defined_in(tree) - OF_OTHERS
    assert foreign <= of_self & inherited
