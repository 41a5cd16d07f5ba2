"""The way back: to a release that has passed, and never to one that does not fit the database."""

from __future__ import annotations

from pathlib import Path

from stack.lab import Site
from stack.load import Load, failures
from stack.play import Play
from stack.releases import Release, append

UNITS = ("celery-worker", "gunicorn")
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("probe", "0001_initial")]
    operations = [migrations.RunSQL("SELECT 1", migrations.RunSQL.noop)]
"""


def rollback(site: Site, release: str = "") -> Play:
    """Go back, and wait until that has ended."""
    choice = ("--extra-vars", f"release={release}") if release else ()
    play = site.start("playbooks/rollback.yml", *choice)
    play.wait()
    return play


def with_a_migration(source: Path) -> None:
    """Add a migration to a copy of the project."""
    append(source / "probe/migrations/0002_more.py", MIGRATION)


def test_the_release_before_serves_again(site: Site, light_load: Load, serving: Release) -> None:
    assert site.deploy(site.make()).status == 0
    play = rollback(site)

    assert play.wait().status == 0, play.output
    assert site.faults(serving.name) == []
    answers = light_load.settled(play.began, play.ended)
    assert answers
    assert failures(answers) == []


def test_what_built_earlier_releases_goes_with_a_deploy(site: Site, serving: Release) -> None:
    site.machine.root.check_output("mkdir -p /srv/site/tools/uv-0.1/bin")
    run = site.deploy(site.make())
    assert run.status == 0, run.output
    (tool,) = site.machine.root.check_output("ls -A /srv/site/tools").split()
    assert tool != "uv-0.1"


def test_a_release_that_failed_is_never_chosen(site: Site, light_load: Load, serving: Release) -> None:
    bad = site.make(lambda source: append(source / "app/tasks.py", "import no_such_module"))
    assert site.deploy(bad).status != 0
    play = rollback(site, bad.name)

    assert play.wait().status != 0
    assert f"{bad.name} is no release to go back to" in play.output
    assert site.faults(serving.name) == []


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
