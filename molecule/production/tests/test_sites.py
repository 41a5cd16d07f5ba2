"""A second site comes to the host, fails, and goes, while people and tasks are with the first: nothing of it is felt.

The tests are in the order in which this happens. The second one has an inventory of its own, and the example's project.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import PEOPLE, Load, failures
from stack.play import Play
from stack.playbook import Run
from stack.upgrading import is_full
from stack.web import Website

from testkit.waiting import eventually

NAME, DOMAIN = "shop", "shop.site.test"
# What of the host may not be another one afterwards: accounts, units, ports, databases, files. Releases have no name.
WHAT_THERE_IS = r"""
unnamed() { sed 's/-[0-9a-f]\{12\}[^.]*[.]/-R./'; }
cut -d: -f1 /etc/passwd /etc/group
systemctl list-unit-files --no-legend --no-pager | cut -d' ' -f1,2 | unnamed
ss -Hltn | awk '{print $4}'
cd / && runuser -u postgres -- psql -XAtc 'SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles'
find /etc /srv /usr/local /var/lib /var/cache /run -xdev \
  -regex '/srv/site/.*\|/etc/site/environments/.*\|/run/\(systemd\|user\|udev\|log\|sudo\|nginx-acme\)/.*' -prune \
  -o -regex '/var/\(lib\|cache\)/\(apt\|dpkg\|postgresql\|.*backup.*\)/.*' -prune -o -print | unnamed
"""


@dataclass
class Neighbour:
    """The second site.

    Attributes:
        site: the first one, on whose host it is.
        inventory: its own.
        folder: for logs.
    """

    site: Site
    inventory: Path
    folder: Path

    def run(self, playbook: str, *arguments: str) -> Run:
        """Run a playbook with its inventory."""
        return Play(playbook, self.inventory, *arguments, log=self.folder / "play.log").wait()

    @property
    def web(self) -> Website:
        """A browser for it; its certificate is its own."""
        root = self.site.machine.root.check_output(f"cat /etc/nginx/{NAME}.crt")
        return Website(DOMAIN, self.site.machine.address, root)


@pytest.fixture(scope="module")
def before(site: Site) -> set[str]:
    """What there was before it came."""
    site.healthy()
    return there(site)


def there(site: Site) -> set[str]:
    """Return what the host has, a line each."""
    return set(site.machine.feed(WHAT_THERE_IS).splitlines())


@pytest.fixture(scope="module")
def shop(site: Site, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Neighbour:
    """It, and not converged yet."""
    folder = tmp_path_factory.mktemp("shop")
    found = json.loads(site.machine.inventory.read_text())
    chosen = {"site_name": NAME, "site_domain": DOMAIN, "site_drain_seconds": 30, "site_result_backend": "redis"}
    found["all"]["vars"] = chosen
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps(found))
    return Neighbour(site, inventory, folder)


@pytest.fixture(scope="module")
def load(site: Site, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """People of the first site, all the time; nginx closes what is idle when it reads its files again."""
    plan = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), again=True)
    with Load(plan, tmp_path_factory.mktemp("load") / "load.txt") as found:
        yield found


@pytest.fixture(scope="module")
def tasks(site: Site, before: set[str]) -> Iterator[set[str]]:
    """Tasks that the first site has accepted, more and more; each request of them has a connection of its own."""
    accepted: set[str] = set()
    over = threading.Event()

    def send() -> None:
        while not over.wait(1):
            accepted.update(site.send("probe.quick", "beside", count=2))

    with ThreadPoolExecutor(1) as senders:
        sender = senders.submit(send)
        yield accepted
        over.set()
    sender.result()


def test_a_second_site_comes(shop: Neighbour, site: Site, load: Load, tasks: set[str]) -> None:
    run = shop.run("site.yml")

    assert run.status == 0, run.output
    assert shop.web.get("/health/").status == 200
    assert site.web.get("/health/").status == 200
    # To each its own: a process of the one has no way into what the other has.
    as_shop = f"runuser -u {NAME} --"
    ask = f"cd /; {as_shop} psql -XAtc 'SELECT 1' site 2>&1; {as_shop} ls /srv/site/releases/*/app 2>&1"
    said = site.machine.root.run(ask).stdout
    assert "permission denied" in said
    assert "Permission denied" in said
    password = site.machine.root.check_output(f"sed -n 's/^REDIS_PASSWORD=\"\\(.*\\)\"$/\\1/p' /etc/{NAME}/environment")
    words = f"redis-cli --no-auth-warning --user site --pass {password} -p 6379 PING 2>&1"
    assert "WRONGPASS" in site.machine.root.run(words).stdout


@pytest.mark.skipif(not is_full(), reason="only with CELERIAC_FULL=1")
def test_a_run_of_the_first_changes_nothing_for_the_second(shop: Neighbour, site: Site, load: Load) -> None:
    run = site.start("playbooks/deploy.yml", *site.make().arguments, "--tags", "always").wait()

    assert run.status == 0, run.output
    again = shop.run("playbooks/datastores.yml")
    assert again.status == 0, again.output
    assert again.changed == 0, again.output


def test_a_second_site_that_fails_is_undone_by_itself(shop: Neighbour, site: Site, load: Load) -> None:
    run = shop.run("playbooks/deploy.yml", "--tags", "always", "-e", f"site_source={site.make().source}",
                   "-e", "site_release_fault=health")  # fmt: skip

    assert run.status != 0
    assert "This fault was injected" in run.output
    assert shop.web.get("/health/").status == 200


def test_what_another_site_has_is_refused(shop: Neighbour, site: Site, load: Load) -> None:
    stranger = shop.inventory.with_name("stranger")
    stranger.mkdir()
    found = json.loads(shop.inventory.read_text())
    found["all"]["vars"] |= {"site_domain": "other.site.test"}
    (stranger / "hosts.json").write_text(json.dumps(found))
    of_stranger = replace(shop, inventory=stranger / "hosts.json")

    run = of_stranger.run("playbooks/preflight.yml")
    assert "The host has a site called `shop` already, another one: shop.site.test" in run.output
    run = of_stranger.run("playbooks/remove.yml", "-e", "remove=shop")
    assert "The site called `shop` on this host is another one" in run.output
    run = shop.run("playbooks/preflight.yml", "-e", '{"site_domain_aliases": ["www.site.test"]}')
    assert "`www.site.test` is a name of the site `default` of this host, too" in run.output
    run = shop.run("playbooks/remove.yml", "-e", "remove=other")
    assert "Nothing was removed. The site of this inventory is called shop" in run.output
    assert shop.web.get("/health/").status == 200


def test_a_site_that_is_removed_leaves_nothing(shop: Neighbour, site: Site, load: Load, before: set[str]) -> None:
    run = shop.run("playbooks/remove.yml", "-e", f"remove={NAME}")

    assert run.status == 0, run.output
    assert "Debian packages" in run.output
    assert [line for line in sorted(there(site) - before) if NAME in line] == []
    assert sorted(before - there(site)) == []
    again = shop.run("playbooks/remove.yml", "-e", f"remove={NAME}")
    assert again.status == 0, again.output
    assert again.changed == 0, again.output


def test_the_first_site_has_felt_nothing_of_it(site: Site, load: Load, tasks: set[str], figures: list[str]) -> None:
    sent, answers = set(tasks), load.settled(0, load.answers()[-1].due)

    figures.append(f"a second site: {len(answers)} requests and {len(sent)} tasks of the first meanwhile")
    assert failures(answers) == []
    assert sent
    eventually(lambda: not sent - site.executed(sent).keys(), 60, pause=1)
