"""A site whose broker is three hosts; workers are on them, and on the one that has all else."""

from __future__ import annotations

import re

from stack.spread import Spread

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


class Brokers(Spread):
    """The site; where one machine is asked, it is the one that serves pages."""

    GROUPS = GROUPS

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
