"""Several web hosts are one site: whichever is asked has each file, and one that cannot answer is left.

Broker and database are on one host, all else on two web hosts, Flower on one of these. The tests are in the order in
which this happens to them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from stack.authority import DIRECTORY, Authority
from stack.lab import DOMAIN, MACHINE
from stack.machine import Machine
from stack.play import Play
from stack.playbook import Run
from stack.releases import Workshop
from stack.web import Website

from testkit.waiting import eventually

DATA, ONE, OTHER = NAMES = ("entry-data", "entry-one", "entry-other")
GROUPS = {
    **{group: (ONE, OTHER) for group in ("web", "workers")},
    **{group: (OTHER,) for group in ("beat", "monitor")},
    **{group: (DATA,) for group in ("broker", "database")},
}
HASHED, PLAIN, NOWHERE = "/static/new.0123456789ab.css", "/static/new.css", "/static/old.0123456789ab.css"
# Both a file of a release that has come to one host alone: in what is kept for ever, and in what it serves now.
PUT = f"""
echo 'body {{ color: red }}' > /srv/site/immutable{HASHED}
echo 'body {{ color: red }}' > /srv/site{PLAIN}
"""
UNIT = "keepalived"


class Several:
    """The site on its hosts.

    Args:
        folder: for the inventory and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "hosts.json"
        self.machines = {name: Machine(name, self.inventory, folder) for name in NAMES}
        self.release = Workshop(folder, probe=True).make()
        self._plays = 0

    def run(self, playbook: str, **choices: object) -> Run:
        """Run a playbook, which must succeed."""
        self._plays += 1
        words = ("--extra-vars", json.dumps(choices)) if choices else ()
        log = self.folder / f"play-{self._plays}.log"
        run = Play(playbook, self.inventory, *self.release.arguments, *words, log=log).wait()
        assert run.status == 0, run.output
        return run

    def web(self, name: str) -> Website:
        """Return a browser that has come to one of the web hosts."""
        machine = self.machines[name]
        return Website(DOMAIN, machine.address, machine.root.check_output("cat /etc/nginx/site.crt"))

    def secret(self, name: str) -> str:
        """Return one of the passwords of the inventory."""
        return (self.folder / ".secrets" / name).read_text().split()[0]


@pytest.fixture(scope="module")
def site() -> Iterator[Several]:
    """The site, converged."""
    with TemporaryDirectory(prefix="entry-") as name:
        try:
            subprocess.run([MACHINE, "up", "--debian", os.environ.get("CELERIAC_DEBIAN", "13"), *NAMES], check=True)
            hosts = {each: json.loads(subprocess.check_output([MACHINE, "inventory", each])) for each in NAMES}
            children = {group: {"hosts": dict.fromkeys(names)} for group, names in GROUPS.items()}
            inventory = {"all": {"hosts": hosts, "vars": {"site_domain": DOMAIN}, "children": children}}
            (Path(name) / "hosts.json").write_text(json.dumps(inventory))
            found = Several(Path(name))
            found.run("site.yml")
            yield found
        finally:
            subprocess.run([MACHINE, "down", *NAMES], check=True)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def files(site: Several) -> None:
    """Files that one of the web hosts alone has."""
    site.machines[OTHER].feed(PUT)


def test_a_file_that_only_another_web_host_has_comes_from_there(site: Several, files: None) -> None:
    there, here = site.web(OTHER), site.web(ONE)

    for path, kept in ((HASHED, True), (PLAIN, False)):
        answers = [web.get(path) for web in (there, here)]
        assert [answer.status for answer in answers] == [200, 200], path
        assert answers[0].body == answers[1].body
        for name in ("Cache-Control", "ETag", "Content-Type", "X-Content-Type-Options"):
            assert answers[0].headers.get_all(name) == answers[1].headers.get_all(name), name
        assert ("immutable" in str(answers[1].headers.get_all("Cache-Control"))) is kept
        assert here.get(path, {"If-None-Match": answers[1].headers["ETag"]}).status == 304


def test_what_nobody_has_is_not_found_whoever_is_away(site: Several, files: None) -> None:
    here = site.web(ONE)
    assert here.get(NOWHERE).status == 404

    with site.machines[OTHER].stopped("nginx"):
        # The second time nobody is asked.
        assert [here.get(path).status for path in (NOWHERE, HASHED, NOWHERE)] == [404, 404, 404]
        assert here.get("/").status == 200
    eventually(lambda: here.get(HASHED).status == 200, 60)


def test_a_host_has_nothing_but_files_for_the_others(site: Several) -> None:
    """Who asks at its port for another page, or asks for a file that another one has, is not answered by the site."""
    script = f"""import http.client
    for path in ("/", "/health/", "/admin/", "/static/../etc/hostname", "{HASHED}", "{PLAIN}"):
        connection = http.client.HTTPConnection("127.0.0.1", 8443, timeout=10)
        connection.request("GET", path, headers={{"Host": "{DOMAIN}"}})
        print(connection.getresponse().status)
    """.replace("\n    ", "\n")
    assert site.machines[ONE].feed(script, "python3", "-").split() == ["404", "404", "404", "400", "404", "404"]


# ── Flower elsewhere ─────────────────────────────────────────────────────────────────────────────


def test_flower_of_another_host_opens_with_a_session_of_the_site(site: Several) -> None:
    for name in (ONE, OTHER):
        assert site.web(name).get("/flower/", {"Sec-Fetch-Mode": "navigate"}).status in {302, 401}
        browser = site.web(name)
        assert browser.log_in("admin", site.secret("admin_password")).status == 302
        assert browser.get("/flower/").status == 200


# ── Certificates ─────────────────────────────────────────────────────────────────────────────────


def test_an_authority_that_asks_the_wrong_web_host_finds_the_right_one(site: Several) -> None:
    machine = site.machines[OTHER]
    authority = Authority(machine)
    try:
        authority.start(address=site.machines[ONE].address)
        site.run("playbooks/edge.yml", nginx_tls="acme", nginx_acme_directory=DIRECTORY)
        machine.systemctl("start", "nginx-acme.service")
        # The whole chain is trusted by nobody but who knows the authority.
        browser = Website(DOMAIN, machine.address, authority.root())
        assert browser.get("/").status == 200
    finally:
        authority.stop()
        site.run("playbooks/edge.yml")


# ── One address ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def address(site: Several) -> str:
    """An address of the bridge that nobody has, and that the web hosts share now."""
    chosen = site.machines[ONE].address.rpartition(".")[0] + ".200"
    site.run("site.yml", site_virtual_address=chosen)
    eventually(lambda: len(holders(site, chosen)) == 1, 60)
    return chosen


def holders(site: Several, address: str) -> list[str]:
    """Return which web hosts have an address."""
    shown = {name: site.machines[name].root.check_output("ip -oneline address show") for name in (ONE, OTHER)}
    return [name for name, text in shown.items() if f" {address}/" in text]


def answers(site: Several, address: str, name: str) -> bool:
    """Say whether a web host has the address, alone, and answers by it."""
    if holders(site, address) != [name]:
        return False
    try:
        return Website(DOMAIN, address, site.web(name).certificate).get("/", seconds=5).status == 200
    except OSError:
        return False


def pair(site: Several, address: str) -> tuple[str, str]:
    """Return who has the address, and who has not."""
    (holder,) = holders(site, address)
    return holder, OTHER if holder == ONE else ONE


@contextmanager
def cable_pulled(machine: Machine) -> Iterator[None]:
    """Let a machine hear nothing, and not be heard, until it has no power either; then it boots."""
    number = machine.root.check_output("cat /sys/class/net/host0/iflink")
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    (cable,) = [link["ifname"] for link in links if link["ifindex"] == int(number)]
    subprocess.run(["ip", "link", "set", cable, "down"], check=True)
    try:
        yield
    finally:
        for word in ("kill", "up"):
            subprocess.run([MACHINE, word, machine.name], check=True)


@pytest.mark.parametrize("units", [["nginx"], ["gunicorn.socket", "gunicorn"]], ids=lambda units: units[-1])
def test_the_address_leaves_a_host_that_cannot_answer_and_stays_when_it_can_again(
    site: Several, address: str, units: list[str]
) -> None:
    holder, other = pair(site, address)
    site.machines[holder].systemctl("stop", *units)
    try:
        eventually(lambda: answers(site, address, other), 60)
    finally:
        site.machines[holder].systemctl("start", *units)
    eventually(lambda: site.web(holder).get("/health/").status == 200, 60)
    # It is seen to be well, and is worth the same.
    seen = "journalctl --unit=keepalived --output=cat | grep succeeded | wc -l"
    before = int(site.machines[holder].root.check_output(seen))
    eventually(lambda: int(site.machines[holder].root.check_output(seen)) > before or before > 1, 60)
    assert answers(site, address, other)


def test_the_address_leaves_a_host_that_is_silently_off_and_stays_when_it_is_back(site: Several, address: str) -> None:
    holder, other = pair(site, address)
    with cable_pulled(site.machines[holder]):
        certificate = site.web(other).certificate
        browser = Website(DOMAIN, address, certificate)

        def answered() -> bool:
            try:
                return browser.get("/", seconds=5).status == 200
            except OSError:
                return False

        eventually(answered, 60)
    site.machines[holder].wait_until_active(UNIT, 120)
    site.machines[holder].wait_until_active("nginx", 120)
    assert answers(site, address, other)


def test_in_a_maintenance_people_are_told_so_by_the_address(site: Several, address: str) -> None:
    """No host is well then, and a check that took the address from each of them would leave nobody to say it."""
    before, _ = pair(site, address)
    site.run("playbooks/maintenance.yml", state="on", processes="run")
    try:
        unwell = "journalctl --unit=keepalived --output=cat | tail -n 20 | grep 'answers. \\(failed\\|timed\\)'"
        for name in (ONE, OTHER):
            eventually(lambda name=name: site.machines[name].root.run(unwell).succeeded, 60)  # type: ignore[misc]
        holder, _ = pair(site, address)
        answer = Website(DOMAIN, address, site.web(holder).certificate).get("/")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert site.web(holder).get("/health/").status == 503
    finally:
        site.run("playbooks/maintenance.yml", state="off")
    assert before in {ONE, OTHER}


def test_the_unit_is_sandboxed_and_hears_of_no_stranger(site: Several, address: str) -> None:
    machine = site.machines[ONE]
    report = machine.root.check_output("systemd-analyze security --no-pager %s", UNIT)
    assert float(report.rpartition("Overall exposure level for")[2].split()[1]) <= 3, report
    rules = machine.root.check_output("nft --numeric list table inet celeriac")
    members = ", ".join(sorted(site.machines[name].address for name in (ONE, OTHER)))
    assert f"ip saddr {{ {members} }} meta l4proto 112 accept" in rules
    assert "meta l4proto 112 drop" in rules


def test_without_the_choice_nothing_of_it_stays(site: Several, address: str) -> None:
    site.run("site.yml")

    for name in (ONE, OTHER):
        machine = site.machines[name]
        assert machine.state(UNIT) == "inactive"
        assert machine.root.run("systemctl is-enabled %s", UNIT).stdout.strip() == "disabled"
        assert machine.root.run("ls -A /etc/keepalived/celeriac /etc/systemd/system/keepalived.service.d").stdout == ""
        assert "l4proto 112" not in machine.root.check_output("nft --numeric list table inet celeriac")
    assert holders(site, address) == []
