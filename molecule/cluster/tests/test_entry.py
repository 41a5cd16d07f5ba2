"""Several web hosts are one site: whichever is asked has each file, and one that cannot answer is left.

The tests are in the order in which this happens to the machines; in the end the site is as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from stack.authority import DIRECTORY, Authority
from stack.lab import DOMAIN
from stack.several import ONE, TWO, Several
from stack.web import Website

from testkit.waiting import eventually

HASHED, PLAIN, NOWHERE = "/static/new.0123456789ab.css", "/static/new.css", "/static/old.0123456789ab.css"
# Both a file of a release that has come to one host alone: in what is kept for ever, and in what it serves now.
FILES = f"/srv/site/immutable{HASHED} /srv/site{PLAIN}"
UNIT = "keepalived"


def turn(site: Several, playbook: str = "playbooks/edge.yml", **choices: object) -> None:
    """Run a playbook, which must succeed."""
    words = ("--extra-vars", json.dumps(choices)) if choices else ()
    run = site.start(playbook, *words).wait()
    assert run.status == 0, run.output


def web(site: Several, name: str) -> Website:
    """Return a browser that has come to one of the web hosts, and trusts what it shows now."""
    machine = site.machines[name]
    return Website(DOMAIN, machine.address, machine.root.check_output("cat /etc/nginx/site.crt"))


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def files(site: Several) -> Iterator[None]:
    """Files that one of the web hosts alone has."""
    site.machines[TWO].feed(f"for each in {FILES}; do echo 'body {{ color: red }}' > $each; done")
    yield
    site.machines[TWO].feed(f"rm {FILES}")


def test_a_file_that_only_another_web_host_has_comes_from_there(site: Several, files: None) -> None:
    there, here = web(site, TWO), web(site, ONE)

    for path, kept in ((HASHED, True), (PLAIN, False)):
        answers = [web.get(path) for web in (there, here)]
        assert [answer.status for answer in answers] == [200, 200], path
        assert answers[0].body == answers[1].body
        for name in ("Cache-Control", "ETag", "Content-Type", "X-Content-Type-Options"):
            assert answers[0].headers.get_all(name) == answers[1].headers.get_all(name), name
        assert ("immutable" in str(answers[1].headers.get_all("Cache-Control"))) is kept
        assert here.get(path, {"If-None-Match": answers[1].headers["ETag"]}).status == 304


def test_what_nobody_has_is_not_found_whoever_is_away(site: Several, files: None) -> None:
    here = web(site, ONE)
    assert here.get(NOWHERE).status == 404

    with site.machines[TWO].stopped("nginx"):
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
    assert site.machines[ONE].feed(script, "python3", "-").split() == ["404"] * 6


# ── Flower elsewhere ─────────────────────────────────────────────────────────────────────────────


def test_flower_of_another_host_opens_with_a_session_of_the_site(site: Several) -> None:
    # The lookup adds a salt on the line of a password that was ever hashed.
    password = (site.machine.inventory.parent / ".secrets/admin_password").read_text().split()[0]
    for name in (ONE, TWO):
        assert web(site, name).get("/flower/", {"Sec-Fetch-Mode": "navigate"}).status in {302, 401}
        browser = web(site, name)
        assert browser.log_in("admin", password).status == 302
        assert browser.get("/flower/").status == 200


# ── Certificates ─────────────────────────────────────────────────────────────────────────────────


def test_an_authority_that_asks_the_wrong_web_host_finds_the_right_one(site: Several) -> None:
    machine = site.machines[TWO]
    authority = Authority(machine)
    try:
        authority.start(address=site.machines[ONE].address)
        turn(site, nginx_tls="acme", nginx_acme_directory=DIRECTORY)
        machine.systemctl("start", "nginx-acme.service")
        # The whole chain is trusted by nobody but who knows the authority.
        browser = Website(DOMAIN, machine.address, authority.root())
        assert browser.get("/").status == 200
    finally:
        authority.stop()
        turn(site)


# ── One address ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def address(site: Several) -> str:
    """An address of the bridge that nobody has, and that the web hosts share now."""
    chosen = site.machines[ONE].address.rpartition(".")[0] + ".200"
    turn(site, site_virtual_address=chosen)
    eventually(lambda: len(holders(site, chosen)) == 1, 60)
    return chosen


def holders(site: Several, address: str) -> list[str]:
    """Return which web hosts have an address."""
    shown = {name: site.machines[name].root.check_output("ip -oneline address show") for name in (ONE, TWO)}
    return [name for name, text in shown.items() if f" {address}/" in text]


def answers(site: Several, address: str, name: str) -> bool:
    """Say whether a web host has the address, alone, and answers by it."""
    browser = Website(DOMAIN, address, web(site, name).certificate)
    return holders(site, address) == [name] and is_answered(browser)


def is_answered(browser: Website) -> bool:
    """Say whether somebody gets a page."""
    try:
        return browser.get("/", seconds=5).status == 200
    except OSError:
        return False


def pair(site: Several, address: str) -> tuple[str, str]:
    """Return who has the address, and who has not."""
    (holder,) = holders(site, address)
    return holder, TWO if holder == ONE else ONE


@pytest.mark.parametrize("units", [["nginx"], ["gunicorn.socket", "gunicorn"]], ids=lambda units: units[-1])
def test_the_address_leaves_a_host_that_cannot_answer_and_stays_when_it_can_again(
    site: Several, address: str, units: list[str]
) -> None:
    holder, other = pair(site, address)
    recovered = "journalctl --unit=keepalived --output=cat | grep --count 'VRRP_Script(site_answers) succeeded'"
    before = site.machines[holder].root.run(recovered).stdout
    site.machines[holder].systemctl("stop", *units)
    try:
        eventually(lambda: answers(site, address, other), 60)
    finally:
        site.machines[holder].systemctl("start", *units)
    eventually(lambda: site.machines[holder].root.run(recovered).stdout != before, 60)
    # So long one that is worth more would wait, and longer.
    time.sleep(4)
    assert answers(site, address, other)


def test_the_address_leaves_a_host_that_is_silently_off_and_stays_when_it_is_back(site: Several, address: str) -> None:
    holder, other = pair(site, address)
    browser = Website(DOMAIN, address, web(site, other).certificate)
    site.lose(holder)
    try:
        eventually(lambda: is_answered(browser), 60)
    finally:
        site.boot(holder)
    site.machines[holder].wait_until_active(UNIT, 120)
    site.machines[holder].wait_until_active("nginx", 120)
    assert answers(site, address, other)


def test_in_a_maintenance_people_are_told_so_by_the_address(site: Several, address: str) -> None:
    """No host is well then, and a check that took the address from each of them would leave nobody to say it."""
    turn(site, "playbooks/maintenance.yml", state="on", processes="run")
    try:
        unwell = "journalctl --unit=keepalived --output=cat | grep 'VRRP_Script' | tail -n 1 | grep failed"
        for name in (ONE, TWO):
            eventually(lambda name=name: site.machines[name].root.run(unwell).succeeded, 60)  # type: ignore[misc]
        holder, _ = pair(site, address)
        answer = Website(DOMAIN, address, web(site, holder).certificate).get("/")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert web(site, holder).get("/health/").status == 503
    finally:
        turn(site, "playbooks/maintenance.yml", state="off")


def test_the_unit_is_sandboxed_and_hears_of_no_stranger(site: Several, address: str) -> None:
    machine = site.machines[ONE]
    report = machine.root.check_output("systemd-analyze security --no-pager %s", UNIT)
    assert float(report.rpartition("Overall exposure level for")[2].split()[1]) <= 3, report
    rules = machine.root.check_output("nft --numeric list table inet celeriac")
    members = ", ".join(sorted(site.machines[name].address for name in (ONE, TWO)))
    assert f"ip saddr {{ {members} }} meta l4proto 112 accept" in rules
    assert "meta l4proto 112 drop" in rules


def test_without_the_choice_nothing_of_it_stays(site: Several, address: str) -> None:
    run = site.converge_again()

    assert run.status == 0, run.output
    for name in (ONE, TWO):
        machine = site.machines[name]
        assert machine.state(UNIT) == "inactive"
        assert machine.root.run("systemctl is-enabled %s", UNIT).stdout.strip() == "disabled"
        # (The folder of drop-ins may have one of somebody else's.)
        ours = "find /etc/keepalived/celeriac /etc/keepalived/keepalived.conf /etc/systemd/system/keepalived.service.d"
        assert machine.root.run(f"{ours} -type f").stdout == ""
        assert "l4proto 112" not in machine.root.check_output("nft --numeric list table inet celeriac")
    assert holders(site, address) == []
