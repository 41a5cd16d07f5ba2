"""In maintenance people are told so and lose nothing, and who knows the token looks at the site, until it is ended.

The tests are in the order in which this happens to a site.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from stack import watch
from stack.lab import DOMAIN, MACHINE, Site
from stack.load import PEOPLE, Load
from stack.play import Play
from stack.web import Answer, Website

from testkit.waiting import eventually

# Neither nginx nor Ansible takes a part of it for their own.
PAGE = "<!DOCTYPE html><title>Back at noon</title><p>$uri {{ site_domain }} \N{WHITE SMILING FACE}"
# The machine may be that of an earlier run.
NAME, WORD = f"to its end {time.time()}", f"it may end {time.time()}"
STATE, NGINX = "/etc/site/maintenance.json", "/etc/nginx/site-maintenance"


def maintain(site: Site, state: str, **more: object) -> Play:
    """Start to bring the site into maintenance, or out of it."""
    words = [word for name, value in {"state": state, **more}.items() for word in ("-e", f"{name}={value}")]
    return site.start("playbooks/maintenance.yml", *words)


def changes(site: Site, play: Play) -> int:
    """Wait for a run, which must not fail; return how much it has changed on the host."""
    run = play.wait()
    assert run.status == 0, run.output
    found = re.search(rf"(?m)^{site.machine.name} +: ok=\d+ +changed=(\d+)", run.output)
    assert found, run.output
    return int(found[1])


def without_cookies(site: Site) -> Website:
    """Return a browser that was never there."""
    return replace(site.web, cookies=SimpleCookie())


def stranger(site: Site, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """Return what somebody is answered who has no cookie."""
    return without_cookies(site).request(method, path, headers=headers)


@pytest.fixture(scope="module")
def friend(site: Site, token: str) -> Website:
    """The browser of somebody who knows the token."""
    found = without_cookies(site)
    answer = found.get(f"/-/maintenance/{token}")
    assert (answer.status, answer.headers["Location"]) == (303, f"https://{DOMAIN}/")
    assert {"Secure", "HttpOnly"} < {word.strip() for word in answer.headers["Set-Cookie"].split(";")}
    return found


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """What opens the site; the first run makes it."""
    watch.start(site.machine)
    maintain(site, "off").wait()
    found: str = (site.machine.inventory.parent / ".secrets/maintenance_token").read_text().split()[0]
    return found


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    """The page of the project."""
    (folder / "page.html").write_text(PAGE)
    return folder / "page.html"


@pytest.fixture(scope="module")
def load(site: Site, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """People, from before the maintenance to its end."""
    plan = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), certificate="", again=True)
    with Load(plan, tmp_path_factory.mktemp("load") / "load.txt") as found:
        yield found


def test_processes_are_paused_when_what_they_run_has_ended(site: Site, load: Load, page: Path) -> None:
    (task,) = site.send("probe.long", NAME, 2, WORD)
    eventually(lambda: site.runs(f"{NAME} started"), 30)
    play = maintain(site, "on", processes="pause", site_maintenance_page=page)
    eventually(lambda: site.machine.state("celery-worker") == "deactivating", 120)
    assert stranger(site).status == 503
    assert play.running()

    site.sql(f"INSERT INTO probe_run (task, name, release, marker, at) VALUES ('', '{WORD}', '', '', now())")

    assert changes(site, play) == 1
    assert [run[1] for run in site.runs(NAME)] == [task]
    assert [site.machine.state(name) for name in ("celery-worker", "celery-beat")] == ["inactive"] * 2
    assert site.machine.state("gunicorn") == "active"


def test_it_outlasts_other_runs_and_a_boot(site: Site, load: Load) -> None:
    run = site.start("playbooks/edge.yml", "-e", "nginx_tls=self_signed").wait()
    assert run.status == 0, run.output
    assert stranger(site).status == 503
    site.machine.root.run("systemctl start site.target")
    assert site.machine.state("celery-worker") == "inactive"

    load.stop()
    subprocess.run([MACHINE, "reboot", site.machine.name], check=True)

    eventually(lambda: site.machine.state("gunicorn") == "active", 60)
    eventually(lambda: site.machine.state("nginx") == "active", 60)
    assert stranger(site).status == 503
    assert [site.machine.state(name) for name in ("celery-worker", "celery-beat")] == ["inactive"] * 2


def test_no_request_is_lost_while_it_begins(load: Load) -> None:
    answers = load.answers()
    assert {answer.status for answer in answers} == {200, 503}
    assert [answer.problem for answer in answers if answer.status == 0] == []


@pytest.mark.parametrize(
    "path", ["/", "/health/", "/static/app/site.css", "/flower/", "/admin/login/", "/-/maintenance"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_people_are_shown_the_page_whatever_they_ask_for(site: Site, path: str, method: str) -> None:
    answer = stranger(site, path, method)

    assert answer.status == 503
    assert answer.text == PAGE
    assert answer.headers["Retry-After"] == "300"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_who_knows_the_token_gets_in_and_nobody_else(site: Site, token: str, friend: Website) -> None:
    assert stranger(site, f"/-/maintenance/{token[:-1]}").headers["Set-Cookie"] is None
    assert stranger(site, headers={"Cookie": f"maintenance_token={token[:-1]}"}).status == 503
    assert stranger(site, headers={"Cookie": f"maintenance_token={token.swapcase()}"}).status == 503

    assert friend.get("/").status == 200
    assert friend.get("/health/").json()["database"] == "ok"
    assert friend.get("/flower/").status == 401
    # Nginx has asked the site for a session.
    assert friend.get("/flower/", {"Accept": "text/html"}).status == 302


def test_no_release_is_begun_while_workers_are_paused(site: Site) -> None:
    before = site.machine.root.check_output("cat /srv/site/history.jsonl")

    run = site.start("playbooks/rollback.yml").wait()

    assert run.status != 0
    assert "Workers and beat are paused, for maintenance since" in run.output
    assert "playbooks/maintenance.yml -e state=off" in run.output
    assert site.machine.root.check_output("cat /srv/site/history.jsonl") == before


def test_it_is_over_when_all_is_as_before_and_what_was_sent_meanwhile_runs(
    site: Site, token: str, friend: Website
) -> None:
    sent = friend.request("POST", "/probe/send/", json.dumps({"name": "probe.quick", "args": ["waited"], "count": 1}))
    (task,) = sent.json()["ids"]
    status = site.start("playbooks/status.yml").wait().output
    assert "people are answered 503, workers and beat are paused" in status
    assert token not in status

    assert changes(site, maintain(site, "off")) == 1

    assert site.faults(site.current()) == []
    eventually(lambda: site.executed([task])[task] == 1, 30)
    assert stranger(site).status == 200
    assert site.machine.root.run(f"ls {STATE} {NGINX}").stdout == ""
    assert changes(site, maintain(site, "off")) == 0


def test_the_token_is_written_down_nowhere(site: Site, token: str) -> None:
    # Also of a link that is opened when all is over.
    assert stranger(site, f"/-/maintenance/{token}").status == 303
    words = "journalctl --sync; cat /var/log/nginx/*.log; journalctl --no-pager --output=cat"
    said = site.machine.root.check_output(words)
    assert '"GET / HTTP/1.1" 503' in said

    assert token not in said
    assert token not in watch.seen(site.machine)


def test_a_deploy_works_as_ever_and_lets_nobody_in(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("a deploy more")
    assert changes(site, maintain(site, "on")) == 1
    new = site.make()

    run = site.deploy(new)

    assert run.status == 0, run.output
    assert "The site is in maintenance since" in run.output
    assert site.faults(new.name) == []
    assert stranger(site).status == 503
    assert changes(site, maintain(site, "off")) == 1


@pytest.mark.parametrize("state", ["on", "off"])
def test_one_that_was_killed_is_seen_and_mended_by_the_same_command(site: Site, full: bool, state: str) -> None:
    if not full:
        pytest.skip("three runs more")
    other = {"on": "off", "off": "on"}[state]
    assert maintain(site, other, **({"processes": "pause"} if other == "on" else {})).wait().status == 0
    play = maintain(site, state, **({"processes": "pause"} if state == "on" else {}))
    if state == "on":
        eventually(lambda: site.machine.root.run(f"ls {STATE}").succeeded, 120, pause=0.05)
    else:
        eventually(lambda: site.machine.state("celery-worker") != "inactive", 120, pause=0.05)
    play.kill()
    # What it had begun on the host may go on for a while.
    eventually(lambda: site.machine.root.run("flock --nonblock /srv/site/deploy.lock true").succeeded, 120)

    assert maintain(site, state, **({"processes": "pause"} if state == "on" else {})).wait().status == 0

    assert stranger(site).status == {"on": 503, "off": 200}[state]
    if state == "off":
        assert site.faults(site.current()) == []
        assert site.machine.root.run(f"ls {STATE} {NGINX}").stdout == ""
