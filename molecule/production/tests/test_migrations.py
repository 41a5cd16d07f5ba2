"""A release that migrates hurts nobody, or people wait for it; and the way back is known, or refused.

What hurts, and what does not, one by one: `runtime/tests/test_rehearsal.py`. The tests are in the order in which this
happens.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import Load
from stack.migrating import AFTER, applied, rollback, with_a_migration
from stack.releases import Release
from stack.releases import replace as replace_text

from testkit.waiting import eventually

STATE = "/etc/site/maintenance.json"
NAME = "0002_weight"
# The code that serves gives no value for it.
WEIGHT = 'migrations.AddField("run", "weight", models.IntegerField(default=0))'


def with_weight(source: Path) -> None:
    """An edit: a field more."""
    with_a_migration(WEIGHT, NAME)(source)
    at = "    at = models.DateTimeField(default=now)\n"
    replace_text(source / "probe/models.py", at, f"{at}    weight = models.IntegerField(default=0)\n")


@pytest.fixture(scope="module")
def before(site: Site, load: Load) -> Release:
    """The release that serves before all this."""
    return site.healthy()


@pytest.fixture(scope="module")
def heavier(site: Site) -> Release:
    """The release that wants a value which the one before does not give."""
    return site.make(with_weight)


def test_what_would_break_the_release_that_serves_is_refused(
    site: Site, load: Load, before: Release, heavier: Release
) -> None:
    run = site.deploy(heavier)

    assert run.status != 0
    assert f"probe.{NAME}: ALTER TABLE" in run.output
    assert "wants a value in probe_run.weight, which the release that serves does not know" in run.output
    assert "-e site_migrate=maintenance" in run.output
    assert applied(site) == {AFTER}
    assert site.faults(before.name) == []


def test_people_wait_for_it_and_nobody_meets_an_error(site: Site, load: Load, heavier: Release) -> None:
    play = site.start_deploy(heavier, "-e", "site_migrate=maintenance")

    assert play.wait().status == 0, play.output
    assert applied(site) == {AFTER, NAME}
    assert site.faults(heavier.name) == []
    answers = load.settled(play.began, play.ended)
    assert {answer.status for answer in answers} == {200, 503}
    assert [answer for answer in load.settled(play.ended, play.ended + 1) if answer.problem] == []
    assert site.machine.root.run(f"ls {STATE}").stdout == ""
    eventually(lambda: site.runs("tick", play.ended), 30)


def test_a_rollback_says_what_the_way_back_costs_and_goes_it_when_told(
    site: Site, before: Release, heavier: Release
) -> None:
    run = rollback(site)
    assert run.status != 0
    rows = site.sql("SELECT count(*) FROM probe_run")
    assert f"probe.{NAME}: probe_run.weight of" in run.output, (run.output, rows)
    assert "-e migrations=reverse" in run.output
    assert site.faults(heavier.name) == []

    run = rollback(site, migrations="reverse")

    assert run.status == 0, run.output
    assert applied(site) == {AFTER}
    assert site.faults(before.name) == []
    assert site.web.get("/").status == 200


def test_where_there_is_no_way_back_none_is_gone(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("a deploy more")
    site.healthy()
    new = site.make(with_a_migration('migrations.RunSQL("SELECT 1")', "0002_no_way", AFTER))
    run = site.deploy(new)
    assert run.status == 0, run.output

    run = rollback(site, migrations="reverse")

    assert run.status != 0
    assert "there is no way back over these migrations" in run.output
    assert "probe.0002_no_way: Raw SQL operation" in run.output
    assert site.faults(new.name) == []


def test_people_wait_on_where_the_database_is_migrated_and_the_release_has_failed(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("two deploys more")
    serving = site.healthy()
    (name,) = applied(site) - {AFTER} or {AFTER}
    operations = 'migrations.AddField("run", "length", models.IntegerField(null=True))'
    new = site.make(
        lambda source: None if name == AFTER else with_a_migration('migrations.RunSQL("SELECT 1")', name)(source),
        with_a_migration(operations, "0003_length", name),
    )

    run = site.deploy(new, "-e", "site_migrate=maintenance", "-e", "site_release_fault=prepare")

    assert run.status != 0
    assert "people still wait, and workers are paused" in " ".join(run.output.split())
    assert site.web.get("/").status == 503
    assert site.current() == serving.name
    assert site.machine.state("celery-worker") == "inactive"

    run = site.deploy(new)

    assert run.status == 0, run.output
    assert site.faults(new.name) == []
    assert site.web.get("/").status == 200


def test_a_maintenance_of_a_deploy_that_was_killed_is_ended_by_the_next(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("two deploys more")
    serving, new = site.healthy(), site.make()

    run = site.deploy(new, "-e", "site_migrate=maintenance", "-e", "site_release_fault=switch:kill")

    assert run.status != 0
    assert site.web.get("/").status == 503
    run = site.deploy(serving)
    assert run.status == 0, run.output
    assert site.faults(serving.name) == []
    assert site.web.get("/").status == 200
