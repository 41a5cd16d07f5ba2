"""Each sentence that promises something has a test, and each test that is named as a proof is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
PROMISES = ROOT / "docs/promises.md"
BROKERS = ROOT / "docs/brokers.md"

# Fewer, and it is the wrong section that is read; more, and nobody reads them.
FEWEST, MOST_TESTS = 20, 7


@cache
def run_in(path: Path) -> set[str]:
    """Return the names of the tests in a file that are run, none where there is no file."""
    if not path.is_file():
        return set()
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {
        node.name
        for node in functions
        if node.name.startswith("test_")
        and not any(word in ast.unparse(mark) for mark in node.decorator_list for word in ("skip(", "mark.xfail"))
    }


def promises() -> list[str]:
    """Return the sentences of the README that promise something."""
    section = README.read_text().partition("## What is promised, and what is not\n")[2].partition("\nNot covered:\n")[0]
    points = [" ".join(point.split()) for point in re.split(r"^- ", section, flags=re.MULTILINE)[1:]]
    return [sentence for point in points for sentence in re.split(r"(?<=\.) (?=[A-Z`\"])", point)]


def proofs() -> dict[str, list[str]]:
    """Return the tests that `docs/promises.md` names for each sentence."""
    rows = re.findall(r"^\| (.+) \| (`.+`) \|$", PROMISES.read_text(), flags=re.MULTILINE)
    return {sentence: re.findall(r"`(.+?)`", tests) for sentence, tests in rows}


def proofs_of_brokers() -> list[tuple[str, str]]:
    """Return file and test of all that `docs/brokers.md` names; no test where it names a file alone."""
    found, file = [], ""
    for named, test in re.findall(r"`(test_\w+\.py|…)(?:::(\w+))?`", BROKERS.read_text()):
        file = file if named == "…" else named
        found += [(file, test)] if file else []  # the text above says what `…` is
    return found


def test_each_promise_has_its_row_in_the_order_of_the_readme() -> None:
    assert len(promises()) >= FEWEST
    assert list(proofs()) == promises()


def test_each_proof_of_a_promise_is_a_test_that_is_run() -> None:
    named = [test for tests in proofs().values() for test in tests]
    missing = []
    for each in named:
        path, _, name = each.partition("::")
        if name not in run_in(ROOT / path):
            missing.append(each)
    assert missing == []


def test_a_promise_has_no_more_proofs_than_anybody_reads() -> None:
    assert [sentence for sentence, tests in proofs().items() if not 0 < len(tests) <= MOST_TESTS] == []


def test_each_proof_in_the_table_of_brokers_is_a_test_that_is_run() -> None:
    named = proofs_of_brokers()
    assert len(named) >= FEWEST
    tests = {file: run_in(ROOT / "runtime/tests" / file) for file, _ in named}
    assert [file for file, found in tests.items() if not found] == []
    assert [(file, test) for file, test in named if test and test not in tests[file]] == []
