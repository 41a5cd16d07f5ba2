"""The way back: to a release that has passed, and never to one that does not fit the database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import Load, failures
from stack.play import Play
from stack.playbook import Run
from stack.releases import Release, append
from stack.upgrading import only_in_full

UNITS = ("celery-worker", "gunicorn")
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("probe", "0001_initial")]
    operations = [migrations.RunSQL("SELECT 1", migrations.RunSQL.noop)]
"""
# What a hook is given and runs as, a line each.
NOTES = "/srv/site/cache/hooks.txt"
SAYS = "$CELERIAC_HOOK $CELERIAC_COMMAND $CELERIAC_RELEASE $CELERIAC_PREVIOUS_RELEASE $(id -un) $(pwd) $(which python)"
HOOKS = {
    point: [f"""sh -c 'echo "{SAYS}" >> {NOTES}'"""]
    for point in ("before_migrate", "before_switch", "after_switch", "after_record")
}


def rollback(site: Site, release: str = "", **more: object) -> Play:
    """Go back, and wait until that has ended."""
    choice = ("--extra-vars", json.dumps({"release": release, **more}))
    play = site.start("playbooks/rollback.yml", *choice)
    play.wait()
    return play


def with_a_migration(source: Path) -> None:
    """Add a migration to a copy of the project."""
    append(source / "probe/migrations/0002_more.py", MIGRATION)


@dataclass(frozen=True)
class ThereAndBack:
    """A deploy and the way back from it, with a hook at each point.

    Attributes:
        old: the release that served.
        new: the other one.
        deploy: the run that brought that.
        back: the run that took it away.
        faults: what was amiss afterwards.
        notes: what the hooks had to say.
    """

    old: Release
    new: Release
    deploy: Run
    back: Play
    faults: list[str]
    notes: list[str]


@pytest.fixture(scope="module")
def there_and_back(site: Site, light_load: Load) -> Iterator[ThereAndBack]:
    """A deploy and the way back, under load."""
    old, new = site.healthy(), site.make()
    site.machine.root.check_output("mkdir -p /srv/site/tools/uv-0.1/bin")
    deploy = site.deploy(new, "--extra-vars", json.dumps({"site_release_hooks": HOOKS}))
    back = rollback(site, site_release_hooks=HOOKS)
    notes = site.machine.root.check_output(f"cat {NOTES} && rm {NOTES}").splitlines()
    yield ThereAndBack(old, new, deploy, back, site.faults(old.name), notes)


def test_the_release_before_serves_again(light_load: Load, there_and_back: ThereAndBack) -> None:
    assert there_and_back.deploy.status == 0, there_and_back.deploy.output
    play = there_and_back.back

    assert play.wait().status == 0, play.output
    assert there_and_back.faults == []
    answers = light_load.settled(play.began, play.ended)
    assert answers
    assert failures(answers) == []


def test_hooks_run_as_the_owner_of_the_release_in_its_folder_with_its_python(there_and_back: ThereAndBack) -> None:
    old, new = there_and_back.old.name, there_and_back.new.name
    runs = [("deploy", new, old, point) for point in HOOKS] + [("rollback", old, new, point) for point in [*HOOKS][1:]]

    assert there_and_back.notes == [
        f"{point} {kind} {release} {before} site_deploy "
        f"/srv/site/releases/{release}/app /srv/site/releases/{release}/venv/bin/python"
        for kind, release, before, point in runs
    ]


def test_hooks_that_were_run_are_a_line_each(there_and_back: ThereAndBack) -> None:
    for output, points in ((there_and_back.deploy.output, [*HOOKS]), (there_and_back.back.output, [*HOOKS][1:])):
        assert re.findall(r"(?m)^  hook (\w+): sh \([\d.]+ s\)$", output) == points


def test_what_built_earlier_releases_goes_with_a_deploy(site: Site, there_and_back: ThereAndBack) -> None:
    (tool,) = site.machine.root.check_output("ls -A /srv/site/tools").split()
    assert tool != "uv-0.1"


@only_in_full
def test_across_a_migration_it_is_refused_with_the_way_to_undo_that(
    site: Site, light_load: Load, serving: Release
) -> None:
    new = site.make(with_a_migration)
    run = site.deploy(new)
    assert run.status == 0, run.output

    play = rollback(site, serving.name)
    assert play.wait().status != 0
    assert "probe.0002_more" in play.output
    undo = "site-manage migrate probe 0001_initial"
    assert undo in play.output
    assert site.faults(new.name) == []

    site.machine.root.check_output(undo)
    play = rollback(site, serving.name)
    assert play.wait().status == 0, play.output
    assert site.faults(serving.name) == []


def test_no_request_failed(site: Site, light_load: Load) -> None:
    assert light_load.answers()

    assert failures(light_load.answers()) == []
