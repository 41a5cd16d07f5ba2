"""Measure this repository against the plainest way to do the same, on the same computer in one run."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from types import FrameType

from bench.machines import Lab
from bench.measures import MEASURES
from bench.sizes import FULL, QUICK
from bench.timing import MeasureError, Row, tell, where_time_went

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command_line() -> argparse.Namespace:
    """Read the arguments."""
    lines = [f"  {name:<14} {(run.__doc__ or '').splitlines()[0]}" for name, run in MEASURES.items()]
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="Measure, side by side in one run, and print one row a measure: its name, our\n"
        "median, the reference's, their unit, the computer's mean load, the ratio.",
        epilog="\n".join(["measures:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="measures; without any, all of them")
    add("--debian", choices=["12", "13"], default="13", help="of the machines; default 13")
    add("--rounds", type=int, metavar="N", help="runs of each side; default 3, against ping 5, of deploy-p99 10")
    add("--quick", action="store_true", help="see that they work: one round of the smallest sizes; no figures to quote")
    add("--profile", action="store_true", help="also print where the time of the last runs went")
    return parser.parse_args()


def laboratory(arguments: argparse.Namespace) -> Lab:
    """Return where the measures take place."""
    if arguments.quick:
        return Lab(arguments.debian, arguments.rounds or 1, QUICK, profile=arguments.profile)
    return Lab(arguments.debian, arguments.rounds, FULL, profile=arguments.profile)


def show(rows: dict[str, Row], *, profile: bool) -> None:
    """Print the table, the notes, and where the time of the last runs went."""
    print(f"{'measure':<14} {'ours':>9} {'reference':>9} {'unit':<4} {'load':>5} {'ratio':>7}")
    for name, row in rows.items():
        ours, reference, unit, load, ratio = row.cells()
        print(f"{name:<14} {ours:>9} {reference:>9} {unit:<4} {load:>5} {ratio:>7}")
    for name, row in rows.items():
        if row.notes:
            print("\n".join([f"\n{name}:", *row.notes]))
    if profile:
        for name, row in rows.items():
            for side, runs in (("ours", row.ours), ("reference", row.reference)):
                if where := where_time_went(runs[-1]):
                    print(f"\n{name}, {side}, {runs[-1].seconds:.2f} s:\n{where}")


def end(number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally` when somebody ends the program.

    Only once: whoever is impatient, or ends a whole process group, must not end what clears away, nor the
    commands that it runs, which take this over.
    """
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """Do what the command line says and return the exit code."""
    arguments = command_line()
    for name in arguments.names:
        if name not in MEASURES:
            tell(f"bin/bench: there is no measure {name}, only {', '.join(MEASURES)}.")
            return 2
    for number in SIGNALS:
        signal.signal(number, end)
    rows: dict[str, Row] = {}
    code = 0
    try:
        with contextlib.closing(laboratory(arguments)) as lab:
            for name in dict.fromkeys(arguments.names or MEASURES):
                tell(name)
                began = time.monotonic()
                rows[name] = MEASURES[name](lab)
                tell(f"  took {time.monotonic() - began:.0f} s")
    except (MeasureError, AssertionError) as error:  # the second is how the tests' load says it
        tell(f"bin/bench: {error}")
        code = 1
    except SystemExit as ended:
        code = int(ended.code or 0)
    if rows:
        show(rows, profile=arguments.profile)
    return code


if __name__ == "__main__":
    sys.exit(main())
