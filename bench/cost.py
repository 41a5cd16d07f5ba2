"""What something costs a task: one site with it and one without, on a real Redis and PostgreSQL."""

from __future__ import annotations

import os
import statistics

from bench.project import at_work, site
from bench.sizes import Sizes
from bench.timing import Row, Run, tell

# The app of the journal.
APP = "celeriac.ledger"


def cost(rounds: int, sizes: Sizes, what: str, more: dict[str, str]) -> Row:
    """Take turns; return the time of a task in a busy worker, and in the notes the rest.

    Args:
        rounds: how many.
        sizes: of `bin/bench`.
        what: is measured.
        more: what the environment of the processes has for it.
    """
    row = Row(unit="ms")
    enqueued: dict[str, list[float]] = {"ours": [], "reference": []}
    busy: dict[str, list[float]] = {"ours": [], "reference": []}
    with site() as environment, at_work({**environment, **more}) as noted, at_work(environment) as plain:
        sides = [("ours", noted, row.ours), ("reference", plain, row.reference)]
        for number in range(1, rounds + 1):
            for side, team, runs in sides:
                load = os.getloadavg()[0]
                enqueued[side].append(team.enqueue(sizes.journal))
                spent = team.work_off()
                busy[side].append(spent.main / sizes.journal)
                runs.append(Run(spent.seconds / sizes.journal, load, ""))
                tell(
                    f"  {number}/{rounds} {side:<9} {1 / runs[-1].seconds:6.0f} tasks/s,"
                    f" {enqueued[side][-1] * 1000:.2f} ms an enqueue  (load {load:.1f})"
                )
            sides.reverse()
    rates = [1 / statistics.median(run.seconds for run in side) for side in (row.ours, row.reference)]
    times = [statistics.median(enqueued[side]) * 1000 for side in ("ours", "reference")]
    less, longer = 100 * (1 - rates[0] / rates[1]), times[0] - times[1]
    cpu = [statistics.median(busy[side]) * 1000 for side in ("ours", "reference")]
    row.notes += [
        f"tasks a second  {rates[0]:.0f} with, {rates[1]:.0f} without {what}: {less:.0f} % less",
        f"an enqueue      {times[0]:.2f} ms with, {times[1]:.2f} ms without (medians): {longer:.2f} ms more",
        f"the worker      {cpu[0]:.3f} ms of its main process a task with, {cpu[1]:.3f} ms without (medians)",
    ]
    return row
