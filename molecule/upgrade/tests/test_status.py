"""The status of a site: what it says of a release, while another one drains."""

from __future__ import annotations

import json
import time
from uuid import uuid4

from stack.lab import Site
from stack.machine import PROCESSES
from stack.releases import append

from testkit.waiting import eventually

UNITS = ("celery-worker", "gunicorn")


def test_a_release_that_failed_is_told_and_never_chosen(site: Site) -> None:
    """Beside what serves and what drains."""
    site.healthy()
    word, began = f"word-{uuid4()}", time.time()
    site.send("probe.long", "drained", 1, word)
    eventually(lambda: site.runs("drained started", began), 20)
    drained = site.machine.show("celery-worker", "Id")
    good = site.make()
    assert site.deploy(good).status == 0
    bad = site.make(lambda source: append(source / "app/tasks.py", "import no_such_module"))
    assert site.deploy(bad).status != 0
    try:
        machine = site.start("playbooks/status.yml", "--extra-vars", "format=json").wait()
        person = site.start("playbooks/status.yml").wait()
        back = site.start("playbooks/rollback.yml", "--extra-vars", f"release={bad.name}").wait()
    finally:
        site.send("probe.quick", word)

    assert (machine.status, person.status) == (0, 0), machine.output + person.output
    [status] = json.loads(machine.output).values()
    assert status["release"] == good.name
    assert (status["last"]["release"], status["last"]["outcome"]) == (bad.name, "undone")
    assert {name: unit["state"] for name, unit in status["units"].items()} == dict.fromkeys(PROCESSES, "active")
    assert all(status["units"][name]["heartbeat"] for name in ("celery-worker", "celery-beat"))
    assert [drain["unit"] for drain in status["drains"]] == [drained]
    assert site.node() in status["workers"]
    assert status["queues"]["celery"] >= 0
    assert status["broker"]["transport"] == "celeriac"
    assert 0 < status["broker"]["memory"] < 1
    assert status["broker"]["parked"] >= 0
    assert status["ledger"]["not_noted"] == 0
    assert status["disk"]["free_bytes"] > 0
    assert status["by"]
    lines = "broker: celeriac, ", "0 not noted", "back to: "
    for part in (f"release {good.name}", f"{bad.name} was undone", f"drains: {drained}", *lines):
        assert part in person.output
    assert back.status != 0
    assert f"{bad.name} is no release to go back to" in back.output
    assert site.faults(good.name) == []
