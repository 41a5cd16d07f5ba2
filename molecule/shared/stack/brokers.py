"""A site whose broker is three hosts; workers are on them, and on the one that has all else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from stack.lab import MACHINE, Site
from stack.machine import Machine
from stack.playbook import Run
from stack.releases import Workshop

HOSTS = ("brokers-rest", "brokers-one", "brokers-two", "brokers-three")
REST, *BROKERS = HOSTS
GROUPS = {
    "web": (REST,),
    "workers": HOSTS,
    "beat": (REST,),
    "monitor": (REST,),
    "database": (REST,),
    "broker": BROKERS,
}
QUEUE = "celery"
# Those of a worker, of who listens to events, and the answers to pings, each in a queue of its own for some seconds.
FLEETING = re.compile(r"\.pidbox$|^celeryev\.|^celeriac\.pong\.")


class Brokers(Site):
    """The site; where one machine is asked, it is the one that serves pages.

    Args:
        machines: by their names.
        workshop: makes the releases.
        folder: for logs.
    """

    def __init__(self, machines: dict[str, Machine], workshop: Workshop, folder: Path) -> None:
        super().__init__(machines[REST], workshop, folder)
        self.machines = machines

    def converge_again(self, **choices: object) -> Run:
        """Run the whole playbook with the release that serves."""
        words = ("--extra-vars", json.dumps(choices)) if choices else ()
        return self.start("site.yml", *self._known[self.current()].arguments, *words).wait()

    def lose(self, *names: str) -> None:
        """Lose hosts as they are lost in life: nobody hears of it."""
        for command in ("unplug", "kill"):
            for name in names:
                subprocess.run([MACHINE, command, name], check=True)

    def boot(self, *names: str) -> None:
        """Give hosts their power back."""
        subprocess.run([MACHINE, "up", *names], check=True)

    def unplug(self, name: str) -> None:
        """Pull the cable of a host."""
        subprocess.run([MACHINE, "unplug", name], check=True)

    def plug(self, name: str) -> None:
        """Put it back."""
        subprocess.run([MACHINE, "plug", name], check=True)

    def leader(self) -> str:
        """Return the host that has the queue's leader."""
        table = self._ask("list_queues", "-p", "site", "name", "leader", "--no-table-headers")
        (node,) = [line.split("\t")[1] for line in table.splitlines() if line.startswith(f"{QUEUE}\t")]
        return {f"rabbit@{self.machines[name].address}": name for name in BROKERS}[node]

    def is_whole(self) -> bool:
        """Return whether all nodes see each other, and each queue has a member on each."""
        asked = [
            "rabbitmqctl --quiet --timeout 5 await_online_nodes 3",
            "rabbitmq-upgrade --quiet await_online_quorum_plus_one",
        ]
        return all(self.machines[name].root.run(f"cd / && {' && '.join(asked)}").succeeded for name in BROKERS)

    def types(self) -> dict[str, str]:
        """Return the queues that outlast their connection, with what they are."""
        table = self._ask("list_queues", "-p", "site", "name", "type", "--no-table-headers")
        rows = dict(line.split("\t") for line in table.splitlines())
        return {name: kind for name, kind in rows.items() if not FLEETING.search(name)}

    def _ask(self, *words: str) -> str:
        said: str = self.machines[BROKERS[0]].root.check_output(f"cd / && rabbitmqctl --quiet {' '.join(words)}")
        return said
