"""What is restored where somebody asks for a moment or a label, what faults are called, and what a status shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_backup import as_text

from testkit.loading import load

ROOT = Path(__file__).resolve().parents[3]
# A restore at 15:00 has gone back to 13:00, on a second timeline: what was backed up at 14:00 is on the way no more.
HISTORY = "1\t0/5000000\tno recovery target specified\n"


BACKUP = load(ROOT / "roles/backup/files/site_backup.py")
THERE = BACKUP.Cluster("17", "main")


def at(hour: int) -> float:
    """An hour of a day in the past, as Unix time."""
    return datetime(2026, 3, 29, hour, tzinfo=UTC).timestamp()


def backup(hour: int, line: int, lsn: str, label: str = "") -> dict[str, Any]:
    """A backup as pgBackRest tells it."""
    found: dict[str, Any] = {
        "label": f"20260329-{hour:02}0000F",
        "timestamp": {"stop": at(hour)},
        "archive": {"stop": f"{line:08X}0000000000000001"},
        "lsn": {"stop": lsn},
        "info": {"size": 1},
        "database": {"id": 1},
    }
    return found | ({"annotation": {"label": label}} if label else {})


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A repository with backups of two timelines, and snapshots."""
    found = {
        "backup": [
            backup(12, 1, "0/4000000", "before-the-move"),
            backup(14, 1, "0/6000000"),
            backup(16, 2, "0/7000000"),
        ],
        "db": [{"id": 1, "version": "17", "system-id": 5}],
    }
    files = [
        {
            "id": f"s{hour}",
            "time": f"2026-03-29T{hour}:30:00.123456789Z",
            "tags": ["label=before-the-move"] * (hour == 11),
        }
        for hour in (11, 12, 15)
    ]
    monkeypatch.setattr(BACKUP, "info", lambda: found)
    monkeypatch.setattr(BACKUP, "snapshots", lambda: files)
    monkeypatch.setattr(BACKUP, "pgbackrest", lambda *_, **__: BACKUP.Done(0, HISTORY))
    return found


@pytest.mark.parametrize(
    ("to", "label", "option", "snapshot"),
    [
        ("latest", "20260329-160000F", None, "s15"),
        ("2026-03-29 13:00", "20260329-120000F", "--target=2026-03-29 13:00:00.000000+00", "s12"),
        ("2026-03-29T14:00:00+01:00", "20260329-120000F", "--target=2026-03-29 13:00:00.000000+00", "s12"),
        ("2026-03-29 15:00", "20260329-120000F", "--target=2026-03-29 15:00:00.000000+00", "s12"),
        ("2026-03-29 17:00", "20260329-160000F", "--target=2026-03-29 17:00:00.000000+00", "s15"),
        ("before-the-move", "20260329-120000F", "--type=immediate", "s11"),
        ("20260329-140000F", "20260329-140000F", "--type=immediate", "s12"),
        ("before-0123456789ab-20260329T150000Z", "20260329-120000F", "--type=name", "s12"),
    ],
)
def test_what_is_restored_is_what_was_asked_for(to: str, label: str, option: str | None, snapshot: str) -> None:
    plan = BACKUP.plan(to, THERE)
    assert plan.label == label
    assert plan.options[0] == f"--set={label}"
    assert (option in plan.options) if option else plan.options[1:] == []
    assert plan.snapshot == snapshot


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("2026-03-29 11:59", "There is no way back to 2026-03-29 11:59:00 UTC"),
        ("2126-03-29", "not in the future"),
        ("before-the-mov", "neither latest, nor a time"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_what_can(to: str, words: str) -> None:
    with pytest.raises(BACKUP.BackupError, match=words):
        BACKUP.plan(to, THERE)


def test_a_backup_of_another_postgresql_is_refused() -> None:
    with pytest.raises(BACKUP.BackupError, match="one of PostgreSQL 17, and this host has 15"):
        BACKUP.plan("latest", BACKUP.Cluster("15", "main"))


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("ERROR: [064]: unable to write '/var/x/bundle/2'", "the repository is full"),
        (
            "Fatal: unable to save snapshot: write x: no space left\n[28] No space left on device",
            "the repository is full",
        ),
        ("Fatal: wrong password or no key found", "the pass phrase is not the one"),
        (
            "ERROR: [029]: CryptoError: unable to flush\nhas a stanza-create been performed?",
            "the pass phrase is not the one",
        ),
        ("ERROR: HTTP request failed with 403 (Forbidden): SignatureDoesNotMatch", "does not take the key"),
        ("Fatal: dial tcp 10.0.0.1:443: connect: Connection refused", "the store is away"),
        (
            "P00 INFO: stanza-create command begin 2.55.1: --repo1-cipher-pass=<redacted>\n"
            "P00 ERROR: [047]: unable to create path '/x': sftp error [3] permission denied",
            "backup_ssh_folder",
        ),
        ("ERROR: [ServiceError] known hosts failure: LIBSSH2_KNOWNHOST_CHECK_MISMATCH", "backup_ssh_host_key"),
        ("Fatal: unable to start the sftp session\nHost key verification failed.", "backup_ssh_host_key"),
        ("ERROR: [ServiceError] public key authentication failed: libssh2 error [-18]", "vault_backup_ssh_key"),
        ("subprocess ssh: backup@10.0.0.1: Permission denied (publickey).", "vault_backup_ssh_key"),
        ("ERROR: [095]: unable to verify certificate presented by 'x:443'", "site_ca_certificates"),
    ],
)
def test_of_each_fault_the_cause_is_named(said: str, cause: str) -> None:
    reason = BACKUP.Done(1, said).reason()
    assert cause in reason
    assert "\n" not in reason


def test_files_of_a_host_that_is_gone_belong_to_the_accounts_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = "# file: /srv/a\n# owner: 997\n# group: 996\nuser::rwx\ngroup:996:rwx\nuser:33:r-x\ndefault:group:996:rwx\n"
    fed = []

    def run(*words: str, text: str = "", quiet: bool = False) -> Any:
        fed.append(text)
        return BACKUP.Done(0, lists)

    account = type("Account", (), {"pw_uid": 500, "pw_gid": 501})()
    monkeypatch.setattr(BACKUP, "accounts", lambda: {"site": account})
    monkeypatch.setattr(BACKUP, "run", run)
    monkeypatch.setenv("BACKUP_DATA", "/srv/site/data")

    BACKUP.renumber({"site": "500.501"})
    assert fed == []

    BACKUP.renumber({"site": "997.996"})
    assert fed[-1] == lists.replace("997", "500").replace("996", "501")


def test_a_host_that_was_made_anew_adds_nothing_to_the_folders_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(BACKUP, "DATABASE_BACKED_UP", tmp_path / "last.json")
    monkeypatch.setattr(BACKUP, "restic", lambda *_, **__: pytest.fail("restic was run"))
    monkeypatch.setenv("BACKUP_DATA", str(tmp_path))
    with pytest.raises(BACKUP.BackupError, match="data folders of another host"):
        BACKUP.backup_files()


def unit(last: dict[str, Any] | None = None, why_not: str = "") -> dict[str, Any]:
    """What is known of a unit."""
    return {"last": last, "why_not": why_not, "ended": "2026-03-29T12:00:00Z", "next": "2026-03-30T02:30:00Z"}


def test_a_person_is_told_when_it_went_well_and_what_has_failed() -> None:
    last = {"at": "2026-03-29T02:30:00Z", "snapshot": "s1", "rows": 5, "tables": 2}
    units = {name: unit(last) for name in ("backup-database", "backup-files", "backup-verify", "backup-verify-files")}
    well = {"last": "2026-03-29T12:00:00Z", "failed": None, "fails": False, "waiting": 0}

    assert as_text(None) == []
    assert as_text({"units": units, "archiver": well}) == [
        "backup: database 2026-03-29 02:30:00 UTC, all that was written until 2026-03-29 12:00:00 UTC, "
        "data folders 2026-03-29 02:30:00 UTC",
        "backup: restored for a trial 2026-03-29 02:30:00 UTC: 5 rows in 2 tables",
    ]

    units["backup-verify"] = unit(None, "It is not whole.")
    lines = as_text({"units": units, "archiver": well | {"fails": True, "waiting": 3}})
    assert "does not reach the repository since 2026-03-29 12:00:00 UTC, 3 files wait" in lines[1]
    assert lines[2] == (
        "backup-verify has failed at 2026-03-29 12:00:00 UTC: It is not whole. Next try: 2026-03-30 02:30:00 UTC"
    )
