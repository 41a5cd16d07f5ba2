"""A site whose broker and database are three hosts; workers are on them, and on the one that has all else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stack.spread import Spread
from testkit.waiting import eventually

HOSTS = ("engines-rest", "engines-one", "engines-two", "engines-three")
REST, *ENGINES = HOSTS
GROUPS = {
    "web": (REST,),
    "workers": HOSTS,
    "beat": (REST,),
    "monitor": (REST,),
    "database": ENGINES,
    "broker": ENGINES,
}
QUEUE = "celery"
# Those of a worker, of who listens to events, and the answers to pings, each in a queue of its own for some seconds.
FLEETING = re.compile(r"\.pidbox$|^celeryev\.|^celeriac\.pong\.")
PSQL = "runuser --user=postgres -- psql --no-psqlrc --tuples-only --no-align"
LEADS = f"cd / && timeout 5 {PSQL} --command='SELECT NOT pg_is_in_recovery()'"
PATRONI = "/etc/patroni/*-main.yml"


class Engines(Spread):
    """The site; one machine alone is asked where it serves pages, or where its database leads."""

    GROUPS = GROUPS

    # The broker

    def leader(self) -> str:
        """Return the host that has the queue's leader."""
        table = self._ask("list_queues", "-p", "site", "name", "leader", "--no-table-headers")
        (node,) = [line.split("\t")[1] for line in table.splitlines() if line.startswith(f"{QUEUE}\t")]
        return {self._node(name): name for name in ENGINES}[node]

    def lead(self, name: str) -> None:
        """Let the queue's leader be on a host."""
        member = "{{site_{queue}, '{node}'}}"
        here, there = (member.format(queue=QUEUE, node=self._node(each)) for each in (self.leader(), name))
        asked = f"ra:transfer_leadership({here}, {there})."
        self.machines[name].root.check_output("cd / && rabbitmqctl --quiet eval %s", asked)
        eventually(lambda: self.leader() == name, 30, pause=1)

    def types(self) -> dict[str, str]:
        """Return the queues that outlast their connection, with what they are."""
        table = self._ask("list_queues", "-p", "site", "name", "type", "--no-table-headers")
        rows = dict(line.split("\t") for line in table.splitlines())
        return {name: kind for name, kind in rows.items() if not FLEETING.search(name)}

    def members(self) -> dict[str, int]:
        """Return on how many hosts each quorum queue is."""
        table = self._ask("list_queues", "-p", "site", "name", "type", "members", "--no-table-headers")
        rows = [line.split("\t") for line in table.splitlines()]
        return {name: members.count("rabbit@") for name, kind, members in rows if kind == "quorum"}

    def _node(self, name: str) -> str:
        return f"rabbit@{self.machines[name].address}"

    def _ask(self, *words: str) -> str:
        said: str = self.machines[ENGINES[0]].root.check_output(f"cd / && rabbitmqctl --quiet {' '.join(words)}")
        return said

    def remains_of(self, tasks: list[str]) -> str:
        """Return what is in the queues, too."""
        columns = "name messages_ready messages_unacknowledged leader --no-table-headers"
        asked = f"cd / && rabbitmqctl --quiet list_queues -p site {columns}"
        queues = self.machines[self.there[0]].root.run(asked).stdout
        filled = [line for line in queues.splitlines() if not re.search(r"\t0\t0\t", line)]
        return f"{super().remains_of(tasks)}\n" + "\n".join(filled)

    # The database

    def primary(self, among: Iterable[str] = ENGINES) -> str:
        """Wait until one host of the database leads, and return its name."""
        hosts = [*among]
        eventually(lambda: self._leading(hosts), 120, pause=1)
        return self._leading(hosts)[0]

    def _leading(self, hosts: list[str]) -> list[str]:
        return [name for name in hosts if self.machines[name].root.run(LEADS).stdout.strip() == "t"]

    def patroni(self, name: str) -> str:
        """Return the unit of a host's database."""
        units: str = self.machines[name].root.check_output("systemctl list-units --plain --no-legend 'patroni@*'")
        return units.split()[0]

    @contextmanager
    def slowly_promoted(self, seconds: int) -> Iterator[None]:
        """Let the one that is chosen to lead be a copy for so long, until the block ends."""
        edit = f"patronictl -c {PATRONI} edit-config --force --set postgresql.pre_promote="
        root = self.machines[ENGINES[0]].root
        root.check_output(f"{edit}'sleep {seconds}'")
        try:
            yield
        finally:
            root.check_output(f"{edit}null")

    def sql(self, query: str) -> list[list[str]]:
        """Return the rows of a query."""
        words = ("runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--csv", "--tuples-only", "--quiet", "site")
        said = self.machines[self.primary(self.there)].feed(query, *words)
        return [line.split(",") for line in said.splitlines()]

    # Both

    @property
    def there(self) -> list[str]:
        """The hosts of the engines that were not lost."""
        return [name for name in ENGINES if name not in self.lost]

    def is_whole(self) -> bool:
        """Return whether all nodes see each other, each queue has a member on each, and the database two copies."""
        asked = [
            "rabbitmqctl --quiet --timeout 5 await_online_nodes 3",
            "rabbitmq-upgrade --quiet await_online_quorum_plus_one",
            f"patronictl -c {PATRONI} list -f tsv | grep --quiet 'Sync Standby'",
            rf"test $(patronictl -c {PATRONI} list -f tsv | grep -cE '\s(running|streaming)\s') -eq 3",
        ]
        return all(self.machines[name].root.run(f"cd / && {' && '.join(asked)}").succeeded for name in ENGINES)
