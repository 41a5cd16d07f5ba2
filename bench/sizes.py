"""How much is measured: enough for figures, or with `--quick` just enough for every line to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sizes:
    """The sizes of all measures.

    Attributes:
        noop: the playbook of `noop` and `noop-linear`.
        tasks: that a team works off in a turn of `tasks`.
        turns: of each side in a round of `tasks`. A turn is short: whatever else the computer does for some seconds
            meets all sides.
        workers: on one queue, in `tasks`.
        noted: tasks of `tasks` with the journal, in one turn a round: those must be sent as a project sends them.
        long: how many messages of which length in bytes, by their name. They come from the publisher as JSON in
            base64: a third longer.
        lags: tasks that are sent one by one to idle workers.
        settle_seconds: for workers that take from other queues than before; ours meet every three seconds.
        journal: tasks in a turn of `journal`; the first hundred that are enqueued do not count.
        many: rows in the console's tables, against 50.
        requests: to each page of the console.
        load: requests and tasks a second, while a site is deployed to. A busy computer keeps up with few.
        lost_seconds: after which a task that was not executed is lost. (Its message may be among those that a worker
            took and gave back to nobody, until the visibility timeout half an hour later.)
    """

    noop: str = "site.yml"
    tasks: int = 500
    turns: int = 6
    workers: tuple[int, ...] = (1, 6)
    noted: int = 2000
    long: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {"1 KB": (500, 10**3), "100 KB": (200, 10**5), "1 MB": (60, 10**6)}
    )
    lags: int = 200
    settle_seconds: float = 8
    journal: int = 3000
    many: int = 50_000
    requests: int = 40
    load: tuple[float, float] = (40, 20)
    lost_seconds: float = 30


FULL = Sizes()
QUICK = Sizes(
    # Both ways to run all of site.yml where nothing is left to do are in the scenario `default`.
    noop="playbooks/edge.yml",
    tasks=50,
    turns=1,
    workers=(1, 2),
    noted=110,
    long={"1 KB": (5, 10**3), "1 MB": (2, 10**6)},
    lags=20,
    settle_seconds=4,
    journal=110,
    many=500,
    requests=3,
    load=(4, 2),
    lost_seconds=5,
)
