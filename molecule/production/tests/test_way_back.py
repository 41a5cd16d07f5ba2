"""Over migrations that cannot be taken back the way back is the database from before them: named, counted, and gone.

The tests are in the order in which this happens.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stack.lab import MACHINE, Site
from stack.load import Load
from stack.migrating import applied, rollback, with_a_migration
from stack.playbook import Run
from stack.releases import Release, copy_file

from testkit.waiting import eventually

STATE = "/etc/site/maintenance.json"
# No way leads back over it, and the release before would not mind.
NO_WAY = 'migrations.RunSQL("ALTER TABLE probe_run ADD COLUMN no_{} text")'
NAME = "0007_way_back"
# The machine may be that of an earlier run.
NOW = time.time()


def points(site: Site) -> list[dict[str, object]]:
    """Return the restore points of the host, the oldest first."""
    found: list[dict[str, object]] = json.loads(site.machine.root.check_output("cat /srv/site/restore-points.json"))
    return found


def mark(site: Site, words: str) -> None:
    """Write a row."""
    site.sql(f"INSERT INTO probe_run (task, name, release, marker, at) VALUES ('', '{words} {NOW}', '', '', now())")


def is_marked(site: Site, words: str) -> bool:
    """Say whether that row is there."""
    return site.postgres(f"SELECT count(*) FROM probe_run WHERE name = '{words} {NOW}'") == "1"


def like(before: Release) -> Callable[[Path], None]:
    """An edit: the migrations of another release."""

    def edit(source: Path) -> None:
        for path in (before.source / "probe/migrations").glob("0*.py"):
            copy_file(path, source / "probe/migrations" / path.name)

    return edit


def with_no_way_back(before: Release, name: str = NAME) -> tuple[Callable[[Path], None], Callable[[Path], None]]:
    """Edits: a migration more than another release has."""
    last = max(path.stem for path in (before.source / "probe/migrations").glob("0*.py"))
    return like(before), with_a_migration(NO_WAY.format(name), name, last)


def words(run: Run) -> str:
    """Return what a run has said, on one line, as it was meant."""
    return " ".join(run.output.replace("\\n", " ").split())


@pytest.fixture(scope="module")
def before(site: Site) -> Release:
    """The release before."""
    return site.healthy()


@pytest.fixture(scope="module")
def migrated(site: Site, before: Release) -> Release:
    """The release that has migrated the database; behind that something was written."""
    new = site.make(*with_no_way_back(before))
    mark(site, "before 1")
    run = site.deploy(new)
    assert run.status == 0, run.output
    mark(site, "behind 1")
    return new


def test_the_moment_before_a_migration_has_a_name_and_is_in_the_repository(site: Site, migrated: Release) -> None:
    last = points(site)[-1]

    assert str(last["name"]).startswith(f"before-{migrated.name}-")
    assert last["migrations"] == [f"probe.{NAME}"]
    assert last["why"] == ""
    archived = site.postgres("SELECT last_archived_wal FROM pg_stat_archiver")
    assert archived >= str(last["segment"])


def test_a_release_that_migrates_nothing_makes_none(site: Site, migrated: Release, full: bool) -> None:
    if not full:
        pytest.skip("a deploy more")
    known = points(site)

    assert site.deploy(site.make(like(migrated))).status == 0

    assert points(site) == known


def test_a_rollback_says_what_the_way_back_would_lose(site: Site, before: Release, migrated: Release) -> None:
    def refused() -> str:
        run = rollback(site, release=before.name)
        assert run.status != 0
        return words(run)

    # The server's counters are some seconds late.
    eventually(lambda: "probe_run: " in refused(), 60)
    said = refused()
    assert "there is no way back over these migrations" in said
    assert "`-e accept_loss=true`. It costs: all that was written to the database in" in said
    assert " rows added, " in said
    assert site.faults(site.current()) == []
    assert is_marked(site, "behind 1")


def test_when_told_the_database_from_before_is_back_and_people_were_told_to_wait(
    site: Site, load: Load, before: Release, migrated: Release
) -> None:
    play = site.start("playbooks/rollback.yml", "--extra-vars", "accept_loss=true", *to(before))

    assert play.wait().status == 0, play.output
    assert site.faults(before.name) == []
    assert NAME not in applied(site)
    assert not is_marked(site, "behind 1")
    assert is_marked(site, "before 1")
    answers = load.settled(play.began, play.ended)
    assert {answer.status for answer in answers} == {200, 503}
    assert [answer for answer in load.settled(play.ended, play.ended + 1) if answer.problem] == []
    assert site.machine.root.run(f"ls {STATE}").stdout == ""
    site.works(120)


def test_of_a_release_and_a_database_that_do_not_fit_it_is_said_and_the_next_deploy_mends_it(
    site: Site, full: bool, load: Load, migrated: Release
) -> None:
    if not full:
        pytest.skip("a restore and two deploys more")
    mark(site, "before 2")
    assert site.deploy(migrated).status == 0
    mark(site, "behind 2")

    run = restore(site, str(points(site)[-1]["name"]))

    assert run.status != 0
    said = f"The database is not the one of release {migrated.name}, which is there to serve: it lacks probe.{NAME}"
    assert said in words(run)
    assert said in words(site.start("playbooks/status.yml").wait())
    assert not is_marked(site, "behind 2")
    assert site.web.get("/").status == 503
    assert [site.machine.state(name) for name in ("celery-worker", "celery-beat")] == ["inactive"] * 2

    run = site.deploy(migrated)

    assert run.status == 0, run.output
    assert NAME in applied(site)
    assert site.faults(migrated.name) == []
    assert site.web.get("/").status == 200
    assert site.machine.root.run(f"ls {STATE}").stdout == ""
    site.works(120)


def test_where_the_release_of_then_fails_too_all_is_as_before(
    site: Site, full: bool, before: Release, migrated: Release
) -> None:
    if not full:
        pytest.skip("two restores more")
    mark(site, "behind 3")
    known = points(site)
    serving, line = site.current(), timeline(site)
    hooks = {"after_switch": ["false"]}

    run = rollback(site, release=before.name, accept_loss="true", site_release_hooks=hooks)

    assert run.status != 0
    assert "was not switched in: step after_switch failed" in words(run)
    assert site.faults(serving) == []
    assert NAME in applied(site)
    assert is_marked(site, "behind 3")
    assert site.web.get("/").status == 200
    assert points(site) == known
    # Whoever restores later is not led to where that had gone.
    assert timeline(site) > line + 1
    site.works(120)


def test_without_a_repository_what_cannot_be_taken_back_is_not_begun(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("waits for the server to give up")
    serving, name = site.healthy(), "0008_no_way_either"
    new = site.make(*with_no_way_back(serving, name))
    folder = "/var/lib/site-backup/database"
    site.machine.root.check_output(f"mount -t tmpfs -o size=4k,mode=0500,uid=root none {folder}")
    try:
        run = site.deploy(new)
        assert run.status != 0
        assert "there would be no way back: what is written to the database" in words(run)
        assert f"probe.{name}: Raw SQL operation" in words(run)
        assert site.faults(serving.name) == []

        run = site.deploy(new, "-e", "site_migrate=unguarded")
        assert run.status == 0, run.output
        assert "The database was migrated, but what is written to the database" in words(run)
    finally:
        site.machine.root.check_output(f"umount {folder}")


def test_a_host_that_loses_its_power_in_a_restore_is_restored_by_the_next(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("a boot and a restore more")
    site.machine.systemctl("start", "backup-database")
    mark(site, "kept")
    play = site.start("playbooks/restore.yml", "--extra-vars", "to=latest", "--extra-vars", "confirm=yes")
    eventually(lambda: site.machine.root.run("ls /run/backup-restore.json").succeeded, 300, pause=0.05)
    subprocess.run([MACHINE, "kill", site.machine.name], check=True)
    play.wait()
    subprocess.run([MACHINE, "up", site.machine.name], check=True)
    site.machine.wait_until_active("nginx", 120)
    # Nobody is shown what is half restored.
    assert site.web.get("/").status == 503

    run = restore(site, "latest")

    assert run.status == 0, run.output
    assert is_marked(site, "kept")
    assert site.web.get("/").status == 200
    site.works(120)


def timeline(site: Site) -> int:
    """Return how often the database has begun anew from a backup."""
    return int(site.postgres("SELECT timeline_id FROM pg_control_checkpoint()"))


def restore(site: Site, to: str) -> Run:
    """Let the site be what it was."""
    return site.start("playbooks/restore.yml", "--extra-vars", json.dumps({"to": to, "confirm": "yes"})).wait()


def to(release: Release) -> tuple[str, ...]:
    """Arguments that choose the release to go back to."""
    return ("--extra-vars", f"release={release.name}")
