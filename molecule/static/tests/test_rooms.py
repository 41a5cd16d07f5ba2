"""The rooms of the runtime: who imports whom goes down, floor by floor."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = "celeriac"
RUNTIME = ROOT / "runtime" / PACKAGE

# A room is a folder, or a file beside the folders. From the ground up: each knows only what is below it.
FLOORS = (
    (
        "alone",
        "celery",
        "clock",
        "enqueue",
        "extension",
        "figures",
        "forks",
        "internals",
        "needs",
        "postgresql",
        "priorities",
        "probe",
        "project",
        "registry",
        "settings",
        "systemd",
        "versions",
    ),
    ("broker", "defaults", "entries", "ids", "pruning", "quorum", "transport"),
    ("tasks",),
    ("beat", "checks", "guarantees", "health", "ledger", "moving", "parked", "results"),
    ("configure", "console", "schedule", "worker"),
    ("app", "manage", "monitor", "release", "web"),
)

Arrows = dict[str, set[str]]


def modules(folder: Path) -> dict[str, Path]:
    """Return the files of a package by their names, without that of the package."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def named_in(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield what a file has of a package: imports, also within functions, and names of modules in texts.

    A text names a module as `importlib` and settings do: `package.module` or `package.module:attribute`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written out"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{package}(\.\w+)+(:\w+)?", str(node.value)):
            yield str(node.value).partition(":")[0]


def rooms(folder: Path) -> Arrows:
    """Return for each room of a package the others that it knows."""
    found = modules(folder)
    arrows: Arrows = {name.partition(".")[0]: set() for name in found if name}
    for name, path in found.items():
        for other in named_in(ast.parse(path.read_text()), folder.name):
            package, _, rest = other.partition(".")
            room = rest.partition(".")[0]
            if name and package == folder.name and room in arrows:
                arrows[name.partition(".")[0]].add(room)
    return {room: others - {room} for room, others in arrows.items()}


def upwards(arrows: Arrows, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the arrows that do not go down by one floor at least."""
    floor = {room: number for number, level in enumerate(floors) for room in level}
    return sorted(
        f"{room} -> {other}" for room, others in arrows.items() for other in others if floor[other] >= floor[room]
    )


def test_each_room_has_its_floor() -> None:
    assert sorted(room for level in FLOORS for room in level) == sorted(rooms(RUNTIME))


def test_no_arrow_goes_up() -> None:
    assert upwards(rooms(RUNTIME), FLOORS) == []


def test_no_room_knows_itself_by_a_detour() -> None:
    assert [*graphlib.TopologicalSorter(rooms(RUNTIME)).static_order()]


@pytest.mark.parametrize(
    "text",
    [
        "import celeriac.high",
        "from celeriac import high",
        "from celeriac.high import thing",
        "def late() -> None:\n    from celeriac.high.deep import thing",
        "BACKEND = 'celeriac.high:Thing'",
    ],
)
def test_an_arrow_is_seen_however_it_is_written(text: str, tmp_path: Path) -> None:
    package = tmp_path / PACKAGE
    (package / "high").mkdir(parents=True)
    (package / "high/__init__.py").write_text("")
    (package / "high/deep.py").write_text("from celeriac import low\n")
    (package / "low.py").write_text(f"QUEUE = 'celeriac.elsewhere'\n{text}\n")
    arrows = rooms(package)
    assert arrows == {"high": {"low"}, "low": {"high"}}
    assert upwards(arrows, (("low",), ("high",))) == ["low -> high"]
    with pytest.raises(graphlib.CycleError):
        [*graphlib.TopologicalSorter(arrows).static_order()]
