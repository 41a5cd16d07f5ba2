"""A deploy that is killed, at whatever step, is completed by the next one; nothing fails meanwhile, nothing is lost."""

from __future__ import annotations

import time

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import POINTS
from ansible_collections.celeriac.site.plugins.module_utils.site_transaction import STEPS
from stack.lab import Site
from stack.load import Load, failures
from stack.releases import Release

from testkit.waiting import eventually

UNITS = ("celery-worker", "gunicorn", "celery-beat", "flower")
DEPLOY = STEPS["deploy"]
# Steps in which nothing is done: these deploys have no hooks, and no maintenance.
EMPTY = {*POINTS, "close", "open"}
# From here on the release serves, whatever happens.
RECORDED = DEPLOY[DEPLOY.index("record") :]
# What a quick run does step by step: where the most is under way. The full run does it for every step.
QUICK = {
    "process on the host": {"record"},
    "control process": {"drain"},
    "failure": {"record"},
}
END_SECONDS = 30


def needs_full(full: bool, what: str, step: str) -> None:
    """Skip a step that a quick run leaves out."""
    if not full and step not in QUICK[what]:
        pytest.skip("only in a full run")


def fault(step: str, how: str = "") -> tuple[str, str]:
    """Return the arguments of ansible-playbook that let something happen right after a step."""
    return "--extra-vars", f"site_release_fault={step}{how}"


def completes(site: Site, load: Load, old: Release, new: Release, since: float) -> None:
    """Deploy the release again, and see that nothing is left of what was, and that nothing has failed."""
    run = site.deploy(new)
    assert run.status == 0, run.output
    assert site.faults(new.name) == []
    site.wait_until_gone(old.name, END_SECONDS)
    assert failures(load.settled(since, time.time())) == []


def test_process_on_the_host_is_killed_at_one_step_after_the_other(
    site: Site, light_load: Load, serving: Release, full: bool
) -> None:
    new, began = site.make(), time.time()
    for step in (step for step in DEPLOY[: DEPLOY.index("record")] if full or step not in EMPTY):
        run = site.deploy(new, *fault(step, ":kill"))
        # Each run has come further than the one before, so it has found its way through what that left.
        assert run.status != 0, f"the run to be killed at {step} has ended well"
        assert "has disconnected" in run.output, run.output

    completes(site, light_load, serving, new, began)


@pytest.mark.parametrize("step", DEPLOY)
def test_process_on_the_host_is_killed(site: Site, light_load: Load, serving: Release, full: bool, step: str) -> None:
    needs_full(full, "process on the host", step)
    new = site.make()
    play = site.start_deploy(new, *fault(step, ":kill"))

    assert play.wait().status != 0, "nobody was killed"
    if step in RECORDED:
        site.wait_until_serving(new.name, END_SECONDS)
    completes(site, light_load, serving, new, play.began)


@pytest.mark.parametrize("step", DEPLOY)
def test_control_process_is_killed(site: Site, light_load: Load, serving: Release, full: bool, step: str) -> None:
    needs_full(full, "control process", step)
    new = site.make()
    # The process on the host waits there, so that the other one dies at this very step.
    play = site.start_deploy(new, *fault(step, ":stop"))
    try:
        process = eventually(lambda: site.stopped_deploy(new.name) or not play.running(), 120)
        assert process is not True, play.output
    finally:
        play.kill()
    # It may be gone: the kernel wakes, and hangs up on, whoever stands still when the parent has ended.
    site.machine.root.run(f"kill -CONT {process}")

    # It goes on alone, or ends: in both cases it lets go of the lock.
    eventually(lambda: not site.machine.root.run(f"test -e /proc/{process}").succeeded, 120)
    completes(site, light_load, serving, new, play.began)


@pytest.mark.parametrize("step", DEPLOY)
def test_step_fails(site: Site, light_load: Load, serving: Release, full: bool, step: str) -> None:
    needs_full(full, "failure", step)
    new = site.make()
    play = site.start_deploy(new, *fault(step))

    assert play.wait().status != 0
    # Once all is recorded, and only what is old has to go, there is nothing to undo.
    stays, goes = (new, serving) if step in RECORDED[1:] else (serving, new)
    site.wait_until_serving(stays.name, END_SECONDS)
    site.wait_until_gone(goes.name, END_SECONDS)
    assert failures(light_load.settled(play.began, play.ended)) == []


def test_no_task_is_lost(site: Site, light_load: Load) -> None:
    assert light_load.accepted()

    eventually(lambda: not light_load.accepted() - site.executions().keys(), 60, pause=1)
