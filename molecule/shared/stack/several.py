"""A site on three hosts: broker, database and Flower on one, all else on two."""

from __future__ import annotations

from pathlib import Path

from stack.lab import Site
from stack.spread import Spread

HOSTS = ("cluster-data", "cluster-one", "cluster-two")
DATA, ONE, TWO = HOSTS
GROUPS = {
    "web": (ONE, TWO),
    "workers": (ONE, TWO),
    "beat": (ONE, TWO),
    "monitor": (DATA,),
    "broker": (DATA,),
    "database": (DATA,),
}


class Several(Spread):
    """The site; where one machine is asked, it is the first that serves pages."""

    GROUPS = GROUPS

    def at(self, name: str) -> Site:
        """Return the same site as whoever comes to another machine sees it."""
        seen = Several(self.machines, self.workshop, self.folder)
        seen.machine = self.machines[name]
        return seen

    def sql(self, query: str) -> list[list[str]]:
        """Return the rows of a query."""
        psql = ("psql", "--no-psqlrc", "--csv", "--tuples-only", "--quiet", "site")
        words = ("runuser", "--user=postgres", "--", *psql)
        return [line.split(",") for line in self.machines[DATA].feed(query, *words).splitlines()]

    def releases(self) -> dict[str, str]:
        """Return which release serves, by the hosts that have one."""
        return {
            name: Path(self.machines[name].root.check_output("readlink /srv/site/current")).name for name in (ONE, TWO)
        }

    def well(self) -> set[str]:
        """Return the hosts whose pages say that the site is well."""
        return {name for name in (ONE, TWO) if self.at(name).web.get("/health/").status == 200}

    def sender(self) -> str:
        """Return the host whose beat sends."""
        says = {name: self.machines[name].show("celery-beat", "StatusText") for name in (ONE, TWO)}
        sending = [name for name, text in says.items() if text.startswith("last tick")]
        assert len(sending) == 1, says
        return sending[0]
