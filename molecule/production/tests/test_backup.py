"""Backups are made, prove themselves, and bring back what was lost; where they cannot, somebody is told.

The tests are in the order in which this happens to a site.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from stack import watch
from stack.lab import Site
from stack.load import PEOPLE, Load
from stack.upgrading import only_in_full

from testkit.waiting import eventually

UNITS = ("backup-database", "backup-files", "backup-verify", "backup-verify-files")
FOLDER = "/var/lib/site-backup"
ENVIRONMENT = "/etc/site/backup.environment"
# Names that a shell would read in a way of its own, a file of nobody else's, one that Django would make.
UPLOADS = """
set -e
cd /srv/site/data/media
mkdir -p 'a b/é'
head -c 300000 /dev/urandom > 'a b/é/one $x'
head -c 1000 /dev/urandom > two
chown -R site: . && chmod 0644 two && chmod 0600 'a b/é/one $x'
systemctl start backup-files
"""
LOST = "rm -r '/srv/site/data/media/a b' && echo changed > /srv/site/data/media/two"
# In one shell on the host: a second later it is over.
KILLED = """
while [ ! -e /run/backup-restore.json ]; do :; done
kill -9 $(systemctl show --value --property=MainPID backup-restore)
"""


@pytest.fixture(scope="module", autouse=True)
def watched(site: Site) -> None:
    """Every command line of the host is written down."""
    watch.start(site.machine)


def said(site: Site, unit: str) -> str:
    """Return the last line of a unit."""
    words: str = site.machine.root.check_output(f"journalctl --sync; journalctl --identifier={unit} -n 1 -o cat")
    return words


def fails(site: Site, unit: str) -> str:
    """Let a unit run, which must fail; return its last line."""
    assert site.machine.root.run("systemctl start %s", unit).failed
    return said(site, unit)


def status(site: Site) -> str:
    """Return what the status says, on one line."""
    return " ".join(site.start("playbooks/status.yml").wait().output.split())


def timeline(site: Site) -> int:
    """Return how often the database has begun anew from a backup."""
    return int(site.postgres("SELECT timeline_id FROM pg_control_checkpoint()"))


def ask(site: Site, to: str) -> None:
    """Let the next run of `backup-restore` restore something."""
    site.machine.feed(json.dumps({"to": to, "go": True}), "tee", "/run/backup-request.json")


@contextmanager
def changed(site: Site, file: str, expression: str) -> Iterator[None]:
    """Have another text in a file."""
    site.machine.root.check_output("cp --preserve=all %s /root/before && sed -i %s %s", file, expression, file)
    try:
        yield
    finally:
        site.machine.root.check_output("cp --preserve=all /root/before %s", file)


def test_a_converge_ends_with_a_backup_and_a_trial_of_it_succeeds(site: Site, figures: list[str]) -> None:
    assert [site.machine.state(f"{unit}.timer") for unit in UNITS] == ["active"] * len(UNITS)
    assert "The database was backed up: " in (site.folder / "converge.txt").read_text()
    began = site.machine.root.check_output("date +%s")
    rows = int(site.postgres("SELECT count(*) FROM probe_run"))

    site.machine.systemctl("start", "backup-verify", "backup-verify-files")

    found = json.loads(site.machine.root.check_output("cat /var/lib/backup-verify/last.json"))
    assert found["rows"] > rows
    # What the project was asked, it has asked the copy: nobody else was in that network.
    came = site.machine.root.check_output(f"journalctl --unit=backup-verify-server --since=@{began} --output=cat")
    assert "connection authorized: user=site database=site" in came
    assert site.machine.root.check_output("ls /var/lib/backup-verify") == "last.json"
    told = status(site)
    assert f"restored for a trial {found['at'].replace('T', ' ').replace('Z', ' UTC')}: {found['rows']} rows" in told
    assert "has failed" not in told
    assert "does not reach" not in told
    figures.append(f"trial: {found['rows']} rows in {found['tables']} tables")


def test_a_restore_to_a_moment_brings_back_what_was_deleted_after_it(site: Site, tmp_path: Path) -> None:
    site.machine.feed(UPLOADS)
    sums = site.data()
    eventually(lambda: site.runs("tick"), 60)
    rows = site.postgres("SELECT coalesce(json_agg(id), '[]') FROM probe_run")
    there = f"SELECT count(*) FROM probe_run WHERE id IN (SELECT json_array_elements_text('{rows}')::bigint)"
    moment = site.postgres("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 s', 'YYYY-MM-DD HH24:MI:SS')")
    eventually(lambda: site.postgres(f"SELECT now() > '{moment}+00'::timestamptz + interval '1 s'") == "t", 60)
    site.postgres("DELETE FROM probe_run")
    site.machine.root.check_output(LOST)

    asked = site.start("playbooks/restore.yml", "--extra-vars", f"to={moment}").wait()

    assert asked.status != 0
    assert "To go on without being asked: -e confirm=yes" in " ".join(asked.output.split())
    assert site.postgres(there) == "0"

    people = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), again=True)
    with Load(people, tmp_path / "load.txt") as load:
        play = site.start("playbooks/restore.yml", "--extra-vars", f"to={moment}", "--extra-vars", "confirm=yes")
        run = play.wait()
        answers = load.settled(play.began, play.ended)

    assert run.status == 0, run.output
    # People were told to wait, and met no error.
    assert {answer.status for answer in answers} == {200, 503}
    assert f"Restored: the database of {moment} UTC, and the data folders of " in run.output
    assert int(site.postgres(there)) == len(json.loads(rows)) > 0
    assert site.data() == sums
    assert site.web.get("/").status == 200
    site.works(120)


@only_in_full
def test_a_restore_that_is_killed_leaves_what_was_there_and_the_next_one_ends(site: Site) -> None:
    line, release = timeline(site), site.current()
    # The one that begins a new timeline has one of its own.
    eventually(lambda: site.machine.state("backup-database") != "activating", 120)
    ask(site, "latest")
    site.machine.systemctl("start", "--no-block", "backup-restore")

    site.machine.feed(KILLED)

    eventually(lambda: site.machine.state("backup-restore") == "failed", 120)
    assert timeline(site) == line
    site.wait_until_serving(release, 120)
    site.works(120)

    # The next one by the name of a backup.
    label = json.loads(site.machine.root.check_output("cat /var/lib/backup-database/last.json"))["label"]
    ask(site, label)
    site.machine.systemctl("start", "backup-restore")

    assert said(site, "backup-restore").startswith(f"Restored: the database of backup {label}")
    assert timeline(site) > line
    site.wait_until_serving(release, 120)
    site.works(120)


def test_a_label_that_is_none_changes_nothing_and_the_right_ones_are_named(site: Site) -> None:
    label = json.loads(site.machine.root.check_output("cat /var/lib/backup-database/last.json"))["label"]
    line = timeline(site)
    ask(site, "befor-the-move")

    words = fails(site, "backup-restore")

    assert words.startswith("`befor-the-move` is neither latest, nor a time (2027-01-31T12:00, UTC), nor a backup")
    assert label in words
    assert timeline(site) == line
    assert site.web.get("/").status == 200


def test_a_backup_with_a_label_comes_back_by_it(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("two runs more")
    run = site.start("playbooks/backup.yml", "--extra-vars", "label=before-the-move").wait()
    assert run.status == 0, run.output
    mark = "INSERT INTO probe_run (task, name, release, marker, at) VALUES ('', 'behind the label', '', '', now())"
    site.sql(mark)
    release = site.current()

    run = site.start(
        "playbooks/restore.yml", "--extra-vars", "to=before-the-move", "--extra-vars", "confirm=yes"
    ).wait()

    assert run.status == 0, run.output
    assert site.postgres("SELECT count(*) FROM probe_run WHERE name = 'behind the label'") == "0"
    site.wait_until_serving(release, 120)
    site.works(120)


def test_of_a_full_repository_backups_trial_and_status_tell_and_it_mends_itself(site: Site) -> None:
    fails_to_archive = "SELECT last_failed_time > last_archived_time FROM pg_switch_wal(), pg_stat_archiver"
    eventually(lambda: site.machine.state("backup-database") != "activating", 120)
    site.machine.root.check_output(
        f"mount -t tmpfs -o size=256k,mode=0750,uid=postgres,gid=postgres none {FOLDER}/database"
    )
    try:
        full, no_trial = fails(site, "backup-database"), fails(site, "backup-verify")
        eventually(lambda: site.postgres(fails_to_archive) == "t", 120, pause=1)
        told = status(site)
    finally:
        site.machine.root.check_output(f"umount {FOLDER}/database")

    assert full.startswith("The database was not backed up: ")
    assert "the repository is full: make room" in full
    assert no_trial == "There is no backup of the database to be restored for a trial."
    assert "backup-database has failed at 20" in told
    assert "the repository is full: make room" in told
    assert "backup-verify has failed at 20" in told
    assert no_trial in told
    assert "restored for a trial 20" in told
    assert "what is written to the database does not reach the repository since 20" in told
    assert site.web.get("/").status == 200

    site.machine.systemctl("start", "backup-database")
    eventually(lambda: site.postgres(fails_to_archive) == "f", 120, pause=1)


def test_of_a_wrong_pass_phrase_it_says_which_it_is(site: Site) -> None:
    with changed(site, ENVIRONMENT, "s/^RESTIC_PASSWORD=.*/RESTIC_PASSWORD=wrong/"):
        words = fails(site, "backup-files")

    assert "Most likely the pass phrase is not the one that the repository was made with" in words
    site.machine.systemctl("start", "backup-files")


def test_the_pass_phrase_is_told_to_nobody(site: Site) -> None:
    secret = (site.machine.inventory.parent / ".secrets/backup_passphrase").read_text().split()[0]
    words = "journalctl --no-pager --output=cat; cat /etc/systemd/system/*.service"
    assert secret not in site.machine.root.check_output(words)
    lines = watch.seen(site.machine)
    assert "restic --quiet backup" in lines
    assert secret not in lines
    readable = (
        f"grep --recursive --files-with-matches {secret[:20]} /etc --exclude-dir=ssl | xargs stat --format=%a:%U:%G"
    )
    assert set(site.machine.feed(readable, "sh", "-s").split()) <= {"600:root:root", "640:root:postgres"}


GIGABYTE = """
CREATE TABLE gigabyte AS SELECT number, md5(number::text) || md5(random()::text) AS text
FROM generate_series(1, 10000000) AS number
"""


def test_a_gigabyte_comes_back_whole(site: Site, full: bool, figures: list[str]) -> None:
    if not full:
        pytest.skip("minutes, for the figures")
    site.postgres(GIGABYTE)
    told = "SELECT count(*), sum(hashtext(text)::bigint), pg_size_pretty(pg_table_size('gigabyte')) FROM gigabyte"
    before = site.postgres(told)
    for unit in ("backup-database", "backup-verify"):
        began = time.monotonic()
        site.machine.systemctl("start", unit)
        figures.append(f"{before.rpartition('|')[2]}: {unit} {time.monotonic() - began:.0f} s")
    site.postgres("DELETE FROM gigabyte WHERE number % 2 = 0")
    label = json.loads(site.machine.root.check_output("cat /var/lib/backup-database/last.json"))["label"]
    began = time.monotonic()

    ask(site, label)
    site.machine.systemctl("start", "backup-restore")

    figures.append(f"{before.rpartition('|')[2]}: restored in {time.monotonic() - began:.0f} s")
    assert site.postgres(told) == before
    site.postgres("DROP TABLE gigabyte")
    site.machine.systemctl("start", "backup-database")
