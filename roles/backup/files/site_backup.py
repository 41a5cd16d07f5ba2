"""Back up the site, restore the backups for a trial, and restore the site: what the units `backup-…` run.

    database      pgBackRest takes a backup of the database                        (as postgres)
    files         restic takes a snapshot of the data folders                      (as root, which may only read)
    verify        the last backup and all that came after it become a database     (as postgres)
    check         of which the release that serves is asked what it thinks         (as root)
    verify-files  a part of all snapshots is read back                             (as root, which may only read)
    restore       the site becomes what it was                                     (as root)

Each ends with one line that says what came of it; the status shows it. What has gone well last is in
`/var/lib/<unit>/last.json`. The database has one name in the repository (pgBackRest: a stanza), `site`. Which of the
host's clusters it is, is asked of the host: the one with the usual port.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STANZA = "site"
# Snapshots of a host that was made anew are those of the one before.
HOST = "site"
# What runs when the repository is away must not seem to hang: the first question is a short one.
ASK_SECONDS = 120
ARCHIVED_SECONDS = 120
# A moment of a timer is not to the second.
SLACK = timedelta(hours=6)
# Of each trial: what restic reads back.
READ_BACK = "10%"
# Room that is left beside a copy of the database, in bytes.
SPARE_BYTES = 2**28
WHOSE = 3
# Of pgBackRest, where another of its processes is at work.
HELD = 50
# How a cluster asks for its log, wherever it is by then.
ASKS = f'pgbackrest --stanza={STANZA} --pg1-path="$PWD" archive-get %f "%p"'
CLUSTERS = Path("/var/lib/postgresql")
SPOOL = Path("/var/spool/pgbackrest/archive") / STANZA
# Below /run, so that a host that lost its power in a restore does not undo by itself what it has served since.
SWAPPED = Path("/run/backup-restore.json")
REQUEST, ANSWER = Path("/run/backup-request.json"), Path("/run/backup-answer.json")
LABEL = Path("/run/backup-label")
DATABASE_BACKED_UP = Path("/var/lib/backup-database/last.json")
# That the database was restored for a rollback, which may still let that not have been.
FOR_ROLLBACK = Path("/var/lib/backup-restore/for-rollback.json")
# What is said of it by plugins/module_utils/site_maintenance.py, and what nginx reads of it.
MAINTENANCE, WAITING = Path("/etc/site/maintenance.json"), Path("/etc/nginx/site-maintenance")
# While nginx is reloaded, its old processes may answer one more.
REQUESTS_IN_A_ROW = 5
# By plugins/module_utils/site_transaction.py, for a release that migrates; and where they are noted.
POINT = re.compile(r"before-([0-9a-f]+)-(\d{8}T\d{6}Z)")
POINTS = Path("/srv/site/restore-points.json")
# How a release begins that says so (runtime/celeriac/release/migrations.py).
NOT_ITS_OWN = "the database is not the one of this release"
SOCKETS = ("gunicorn.socket", "flower.socket")
SITE = ("site.target", *SOCKETS)
SERVER, ASKED = "backup-verify-server", "backup-verify-check"
TIMERS = tuple(f"backup-{name}.timer" for name in ("database", "files", "verify", "verify-files"))
OTHERS = tuple(name.replace(".timer", ".service") for name in TIMERS)

# What the two programs say, and what is most likely wrong.
CAUSES = {
    # A write that ends in the middle has no number.
    r"No space left on device|[Dd]isk quota|\[28\]|unable to write '": (
        "the repository is full: make room, or keep fewer days (backup_kept_days)"
    ),
    r"ended before configured recovery target": (
        "a part of what was written since that backup is not in the repository: the next backup is whole again"
    ),
    r"wrong password or no key found|unable to (flush|read|decrypt)|[Cc]rypto|cipher|bad decrypt|invalid header": (
        "the pass phrase is not the one that the repository was made with: vault_backup_passphrase, or the file "
        "backup_passphrase in .secrets of the inventory"
    ),
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Access Denied|403|Forbidden": (
        "the store does not take the key: backup_s3_key_id and vault_backup_s3_key"
    ),
    r"NoSuchBucket|bucket does not exist": "there is no such bucket: backup_s3_bucket",
    r"unable to verify certificate|certificate signed by unknown|x509:|certificate verify failed|CERTIFICATE": (
        "the host does not trust the certificate of the store: site_ca_certificates"
    ),
    r"known hosts failure|Host key verification failed": (
        "the other host is not the one that has this key: backup_ssh_host_key"
    ),
    r"public key authentication failed|[Pp]ermission denied \(": (
        "the other host does not take the key: backup_ssh_user and vault_backup_ssh_key"
    ),
    r"unable to get address|no such host|Name or service not known|server misbehaving": (
        "there is no such name: backup_s3_endpoint or backup_ssh_host"
    ),
    r"Connection refused|unable to connect|timeout|No route to host|unreachable|timed out|HTTP.* 50\d": (
        "the store is away, or a firewall lets this host not out: backup_s3_endpoint or backup_ssh_host"
    ),
    r"[Pp]ermission denied|PERMISSION_DENIED|Read-only file system": (
        "the folder of the repository cannot be written to: backup_folder or backup_ssh_folder"
    ),
    r"do(es)? not match the database|system-id": "it is the repository of another database",
}


class BackupError(Exception):
    """It did not go well; the message says what and why, in one line.

    Args:
        message: says it.
        code: the status that the program ends with.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Done:
    """A program that has ended: its status, and all that it said."""

    code: int
    output: str

    def reason(self) -> str:
        """Return why it failed: its own words in one line, and what is most likely wrong."""
        if self.code == 124:
            return "the repository does not answer. Most likely the store is away, or a firewall lets this host not out"
        # What the server says to us while it is not ready is no reason, nor what a program was told.
        noise = re.compile(r"database system is (starting up|not accepting connections)|INFO: \S+ command begin")
        lines = [line.strip() for line in self.output.splitlines() if line.strip() and not noise.search(line)]
        loud = [line for line in lines if re.search(r"ERROR|FATAL|Fatal|error:", line)] or lines[-3:]
        words = " ".join(re.sub(r"^\S+ \S+ P\d+\s+", "", line) for line in loud[:3]).rstrip(".")
        causes = [cause for sign, cause in CAUSES.items() if re.search(sign, "\n".join(lines))][:1]
        return (words[:600] or "no word was said") + (f". Most likely {causes[0]}" if causes else "")


def run(*command: str, seconds: float | None = None, account: str = "", text: str = "", quiet: bool = False) -> Done:
    """Run a program; what it says goes to the journal as well.

    Args:
        command: its words.
        seconds: how long it may take.
        account: who runs it, where that is not who runs this.
        text: its standard input.
        quiet: what it says is for us alone.
    """
    who = pwd.getpwnam(account) if account and account != pwd.getpwuid(os.geteuid()).pw_name else None
    whose: dict[str, Any] = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who else {}
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
            **whose,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return Done(124, said)
    if not quiet and done.stdout.strip():
        print(done.stdout.strip(), flush=True)
    return Done(done.returncode, done.stdout)


def pgbackrest(command: str, *options: str, seconds: float | None = None, quiet: bool = False) -> Done:
    """Run pgBackRest for our stanza, as the account of the server."""
    return run("pgbackrest", f"--stanza={STANZA}", *options, command, seconds=seconds, account="postgres", quiet=quiet)


def psql(query: str, database: str = "postgres", folder: str = "/run/postgresql") -> str:
    """Return what a server says to a query.

    Args:
        query: the query; fields come with a bar between them.
        database: of the server.
        folder: where its socket is.

    Raises:
        BackupError: it does not answer, or refuses.
    """
    words = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    done = run(*words, f"--host={folder}", database, text=query, account="postgres", quiet=True)
    if done.code != 0:
        raise BackupError(f"PostgreSQL does not answer: {' '.join(done.output.split())[:300]}")
    return done.output.strip()


def now() -> str:
    """Return the time, UTC, as ISO 8601."""
    return f"{datetime.now(UTC):%FT%TZ}"


def moment(stamp: float) -> str:
    """Return a Unix time as people read it."""
    return f"{datetime.fromtimestamp(stamp, UTC):%F %T} UTC"


def write(file: Path, content: object, mode: int = 0o600) -> None:
    """Write a JSON document, so that it is there whole or not at all."""
    temporary = file.with_name(f".{file.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Return a JSON document, an empty one where there is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found


def state() -> Path:
    """Return the folder of the unit that runs this."""
    return Path(os.environ["STATE_DIRECTORY"])


# ── The database ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cluster:
    """The host's cluster of PostgreSQL with the usual port.

    Attributes:
        version: of PostgreSQL.
        name: of the cluster.
    """

    version: str
    name: str

    @property
    def data(self) -> Path:
        """Where its data is."""
        return CLUSTERS / self.version / self.name

    @property
    def unit(self) -> str:
        """Its unit."""
        return f"postgresql@{self.version}-{self.name}.service"

    def program(self, name: str) -> str:
        """Return a program of its version."""
        return f"/usr/lib/postgresql/{self.version}/bin/{name}"


def cluster() -> Cluster:
    """Return the cluster of the host that is the site's.

    Raises:
        BackupError: there is none.
    """
    lines = [line.split() for line in run("pg_lsclusters", "--no-header", quiet=True).output.splitlines()]
    found = [words for words in lines if len(words) > 2 and words[2] == "5432"]
    if not found:
        raise BackupError("There is no PostgreSQL on port 5432 of this host: run site.yml first.")
    return Cluster(found[0][0], found[0][1])


def info() -> dict[str, Any]:
    """Return what the repository has of the stanza: `backup`, `db` and more, as pgBackRest has it.

    Raises:
        BackupError: the repository cannot be read.
    """
    done = pgbackrest("info", "--output=json", "--log-level-console=off", seconds=ASK_SECONDS, quiet=True)
    if done.code == 0:
        [found] = json.loads(done.output) or [{}]
        # Missing: nothing was ever kept there.
        if found.get("status", {}).get("code") in {0, 1, 2, 3}:
            return dict(found)
        said = [each["status"].get("message", "") for each in found.get("repo", [])] or [str(found.get("status"))]
        done = Done(1, f"ERROR: {said[0]}")
    raise BackupError(f"The repository of the database cannot be read: {done.reason()}.")


def backup_database() -> str:
    """Take a backup of the database; return what came of it.

    Raises:
        BackupError: there is none.
    """
    there, found = cluster(), info()
    at = f"--pg1-path={there.data}"
    # Only where it is not there: it waits for nobody, and the server archives each minute (error 50: its lock is held).
    made = Done(0, "")
    if not info_is_of(psql("SELECT system_identifier FROM pg_control_system()")):
        until = time.monotonic() + ASK_SECONDS
        while (made := pgbackrest("stanza-create", at, seconds=ASK_SECONDS)).code == HELD and time.monotonic() < until:
            time.sleep(1)
    if made.code != 0:
        if found.get("backup") and re.search(r"do(es)? not match|system-id", made.output):
            raise BackupError(
                "The repository has the backups of another database, the last of "
                f"{moment(found['backup'][-1]['timestamp']['stop'])}, and this one is not backed up. "
                "To have that one here: playbooks/restore.yml -e to=latest. "
                "To begin anew: another backup_folder or backup_s3_folder.",
                WHOSE,
            )
        raise BackupError(f"The database was not backed up: {made.reason()}.")
    due = datetime.now(UTC) - timedelta(days=int(os.environ["BACKUP_FULL_DAYS"])) + SLACK
    whole = [each["timestamp"]["stop"] for each in found.get("backup", []) if each["type"] == "full"]
    kind = "incr" if whole and datetime.fromtimestamp(max(whole), UTC) > due else "full"
    label = LABEL.read_text().strip() if LABEL.exists() else ""
    more = [f"--annotation=label={label}"] if label else []
    done = pgbackrest("backup", at, f"--type={kind}", *more)
    if done.code != 0:
        raise BackupError(f"The database was not backed up: {done.reason()}.")
    last = info()["backup"][-1]
    size = last["info"]["repository"]["delta"]
    write(state() / "last.json", {"at": now(), "label": last["label"], "type": last["type"], "bytes": size})
    return f"The database was backed up: {last['label']}, {size // 2**20} MB{' as ' + label if label else ''}."


# ── The data folders ─────────────────────────────────────────────────────────────────────────────


def restic(*words: str, seconds: float | None = None, quiet: bool = False) -> Done:
    """Run restic."""
    return run("restic", "--quiet", *words, seconds=seconds, quiet=quiet)


def snapshots() -> list[dict[str, Any]] | None:
    """Return the snapshots of the data folders, the oldest first; None where there is no repository yet.

    Raises:
        BackupError: the repository cannot be read.
    """
    done = restic("snapshots", "--json", "--no-lock", f"--host={HOST}", seconds=ASK_SECONDS, quiet=True)
    if done.code == 0:
        found: list[dict[str, Any]] = json.loads(done.output[done.output.index("[") :])
        return sorted(found, key=lambda each: each["time"])
    lacks = re.search(r"Is there a repository at the following location|repository does not exist", done.output)
    if lacks and not re.search(r"dial |timeout|Forbidden|Denied|x509|NoSuchBucket", done.output):
        return None
    raise BackupError(f"The repository of the data folders cannot be read: {done.reason()}.")


def backup_files() -> str:
    """Take a snapshot of the data folders; return what came of it.

    Raises:
        BackupError: there is none.
    """
    folder, found = Path(os.environ["BACKUP_DATA"]), snapshots()
    if found and not DATABASE_BACKED_UP.exists():
        # Of a host that was made anew, and whose empty folders must not be the last that there were.
        raise BackupError(
            "The repository has the data folders of another host, and those of this one are not backed up "
            "until its database is: playbooks/restore.yml -e to=latest has both here.",
            WHOSE,
        )
    if found is None:
        made = restic("init", seconds=ASK_SECONDS)
        if made.code != 0:
            raise BackupError(f"The repository of the data folders cannot be made: {made.reason()}.")
    if not folder.is_dir():
        write(state() / "last.json", {"at": now(), "snapshot": None})
        return "There are no data folders yet."
    label = LABEL.read_text().strip() if LABEL.exists() else ""
    taken = snapshot(folder, label)
    last, today = read(state() / "last.json"), now()[:10]
    # Hours of two days, and a day of each of the others.
    kept = ["--keep-within-hourly=2d", f"--keep-within-daily={os.environ['BACKUP_KEPT_DAYS']}d", "--keep-last=1"]
    kept += [] if last.get("pruned") == today else ["--prune"]
    done = restic("forget", f"--host={HOST}", "--group-by=host", *kept)
    if done.code != 0:
        raise BackupError(f"Old snapshots of the data folders were not removed: {done.reason()}.")
    write(state() / "last.json", {"at": now(), "snapshot": taken, "pruned": today})
    return f"The data folders were backed up: snapshot {taken[:8]}{' as ' + label if label else ''}."


def snapshot(folder: Path, label: str) -> str:
    """Take a snapshot; return its id."""
    # Of a run that was killed. A lock of one that lives stays.
    restic("unlock", seconds=ASK_SECONDS)
    # Accounts have other numbers on another host.
    tags = [f"{name}={who.pw_uid}.{who.pw_gid}" for name, who in accounts().items()]
    tags += [f"label={label}"] if label else []
    words = ["backup", f"--host={HOST}", *(f"--tag={tag}" for tag in tags), str(folder)]
    done = restic(*words)
    # What an application removes while it is read is no fault: then it was there no more.
    gone = [line for line in done.output.splitlines() if line.startswith("error:")]
    if done.code not in {0, 3} or (done.code == 3 and not all("no such file" in line for line in gone)):
        raise BackupError(f"The data folders were not backed up: {done.reason()}.")
    found = snapshots()
    if not found:
        raise BackupError("The data folders were not backed up: restic has no snapshot.")
    return str(found[-1]["id"])


def accounts() -> dict[str, pwd.struct_passwd]:
    """Return the accounts of the site that this host has."""
    names = os.environ["BACKUP_ACCOUNTS"].split(",")
    return {who.pw_name: who for who in pwd.getpwall() if who.pw_name in names}


def verify_files() -> str:
    """Read a part of all snapshots back; return what came of it.

    Raises:
        BackupError: something is missing or changed.
    """
    found = snapshots()
    if not found:
        return "There is no snapshot of the data folders yet."
    done = restic("check", f"--read-data-subset={READ_BACK}")
    if done.code != 0:
        raise BackupError(f"The backups of the data folders are not whole: {done.reason()}.")
    write(state() / "last.json", {"at": now(), "snapshots": len(found)})
    return f"The backups of the data folders are whole: {len(found)} snapshots, {READ_BACK} of them read back."


# ── A trial ──────────────────────────────────────────────────────────────────────────────────────

TABLES = "SELECT schemaname || '.' || relname FROM pg_stat_user_tables"
ROWS = """
SELECT count(*), coalesce(sum((xpath('/row/n/text()', query_to_xml(
  format('SELECT count(*) AS n FROM %I.%I', schemaname, relname), false, true, '')))[1]::text::bigint), 0)
FROM pg_stat_user_tables
"""


def settle(name: str) -> str:
    """Give a name to this moment of the database, and wait until the repository has all that was written before.

    Returns:
        What is wrong where it has not; then it need not be known yet.
    """
    file = psql(f"SELECT pg_walfile_name(pg_create_restore_point('{name}'))")
    psql("SELECT pg_switch_wal()")
    until = time.monotonic() + ARCHIVED_SECONDS
    while time.monotonic() < until:
        last, failed = psql("SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver").split("|")
        # Of the same timeline, or a younger one: both sort as texts.
        if last[:24] >= file:
            return ""
        time.sleep(0.2)
    return f"{file} is not in the repository yet" + (f", {failed} was refused: {archiver_said()}" if failed else "")


def archiver_said() -> str:
    """Return why the last file of the log was not taken, by the log of the server."""
    try:
        there = cluster()
        log = Path(f"/var/log/postgresql/postgresql-{there.version}-{there.name}.log").read_text(errors="replace")
    except (OSError, BackupError):
        return "its log says why"
    return Done(1, "\n".join(log.splitlines()[-200:])).reason()


def verify() -> str:
    """Restore the last backup, and all that came after it, into a database of its own; return what came of it.

    Raises:
        BackupError: that is not to be had.
    """
    clear()
    there, found, scratch = cluster(), info(), state() / "scratch"
    if not found.get("backup"):
        raise BackupError("There is no backup of the database to be restored for a trial.")
    last = found["backup"][-1]
    enough_room(state(), last["info"]["size"])
    tables = set(psql(TABLES, os.environ["BACKUP_DATABASE"]).split())
    libraries = psql("SHOW shared_preload_libraries")
    name = f"trial-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if fault := settle(name):
        raise BackupError(f"What is written to the database does not reach the repository: {fault}.")
    for part in ("data", "socket", "spool", "tablespaces"):
        (scratch / part).mkdir(mode=0o700, parents=True)
    # Where the account of the site comes in, later.
    (scratch / "socket").chmod(0o755)
    # It must not archive into the repository that it comes from, nor take what the live one has fetched.
    done = pgbackrest(
        "restore",
        f"--pg1-path={scratch}/data",
        f"--spool-path={scratch}/spool",
        f"--tablespace-map-all={scratch}/tablespaces",
        "--archive-mode=off",
        "--type=name",
        f"--target={name}",
        "--target-action=promote",
    )
    if done.code != 0:
        raise BackupError(f"The last backup of the database could not be restored: {done.reason()}.")
    configure(scratch, there, libraries)
    with served(there, scratch):
        missing = sorted(tables - set(psql(TABLES, os.environ["BACKUP_DATABASE"], f"{scratch}/socket").split()))
        if missing:
            raise BackupError(f"What was restored from {last['label']} has no {', '.join(missing[:5])}.")
        counted, rows = psql(ROWS, os.environ["BACKUP_DATABASE"], f"{scratch}/socket").split("|")
    write(scratch / "found.json", {"label": last["label"], "tables": int(counted), "rows": int(rows)})
    return f"Restored for a trial: {last['label']} and what came after it, {rows} rows in {counted} tables."


def enough_room(folder: Path, size: int) -> None:
    """Refuse a copy of the database for which there is no room."""
    needed, free = size + size // 10 + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise BackupError(
            f"A copy of the database needs {needed // 2**20} MB beside it, and {folder} has {free // 2**20} MB free: "
            "make room."
        )


def configure(scratch: Path, there: Cluster, libraries: str) -> None:
    """Write the settings of a server for a trial: for those of the live one the host may have no room twice."""
    control = run(there.program("pg_controldata"), f"{scratch}/data", quiet=True).output
    prepared = re.search(r"max_prepared_xacts setting: +(\d+)", control)
    settings = {
        "data_directory": f"{scratch}/data",
        "hba_file": f"{scratch}/hba.conf",
        "ident_file": f"{scratch}/ident.conf",
        "listen_addresses": "",
        "unix_socket_directories": f"{scratch}/socket",
        "port": "5432",
        "shared_buffers": "64MB",
        "shared_preload_libraries": libraries,
        "max_prepared_transactions": prepared[1] if prepared else "0",
        "archive_mode": "off",
        # Nobody asks before it is whole; so it need not have as much of everything as the live one.
        "hot_standby": "off",
        "fsync": "off",
        # Its sandbox lets no memory become code.
        "jit": "off",
        "logging_collector": "off",
        # The journal says who came.
        "log_connections": "on",
    }
    (scratch / "site.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
    (scratch / "hba.conf").write_text(
        "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
    )
    (scratch / "ident.conf").write_text("")


@contextmanager
def served(there: Cluster, scratch: Path) -> Iterator[None]:
    """Have the server of a trial as a child of ours, when it has become whole.

    Args:
        there: the live one.
        scratch: where it is.

    Raises:
        BackupError: it does not become whole.
    """
    words = [there.program("postgres"), "-D", f"{scratch}/data", "-c", f"config_file={scratch}/site.conf"]
    said = scratch / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    try:
        while not is_whole(f"{scratch}/socket"):
            if process.poll() is not None:
                why = Done(1, said.read_text(errors="replace")).reason()
                raise BackupError(f"What was restored does not become a database: {why}.")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def is_whole(folder: str = "/run/postgresql") -> bool:
    """Say whether a server answers, and has come to the end of what it recovers.

    Args:
        folder: where its socket is.
    """
    try:
        return psql("SELECT pg_is_in_recovery()", folder=folder) == "f"
    except BackupError:
        return False


def check() -> str:
    """Let the release that serves look at what was restored; return what came of it.

    Both run in a network of their own, in which the database of the trial is where the live one is elsewhere: on the
    socket, and on 127.0.0.1. However a project says where its database is, it cannot be the live one.

    Raises:
        BackupError: the release does not like it.
    """
    there, scratch = cluster(), state() / "scratch"
    found = read(scratch / "found.json")
    release = Path(os.environ["BACKUP_RELEASE"]).resolve()
    if release.is_dir():
        alone = ["--property=PrivateNetwork=yes", f"--property=BindPaths={scratch}/socket:/run/postgresql"]
        start = ["systemd-run", "--quiet", "--collect", *alone]
        server = [*start, f"--unit={SERVER}", "--service-type=notify", "--property=User=postgres", "--"]
        server += [there.program("postgres"), "-D", f"{scratch}/data", "-c", f"config_file={scratch}/site.conf"]
        server += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=/run/postgresql"]
        done = run(*server, seconds=ASK_SECONDS)
        if done.code != 0:
            raise BackupError(f"The database of the trial does not start again: {done.reason()}.")
        manage = [*start, f"--unit={ASKED}", "--wait", "--pipe", *as_the_site(release), "celeriac.manage"]
        asked = run(*manage, "check", "--database", "default")
        if asked.code == 0:
            # Which asks the database.
            asked = run(*manage, "showmigrations", quiet=True)
        run("systemctl", "stop", SERVER, quiet=True)
        if asked.code != 0:
            raise BackupError(f"`manage.py check` does not like what was restored: {asked.reason()}.")
    write(state() / "last.json", {"at": now(), **found})
    asked_too = ", manage.py check" if release.is_dir() else ""
    size = f"{found['rows']} rows in {found['tables']} tables"
    return f"What was restored is a database of the site: {found['label']}, {size}{asked_too}."


def as_the_site(release: Path) -> Iterator[str]:
    """Yield options and words of systemd-run for a module of a release, to be named behind, as its processes run."""
    account = os.environ["BACKUP_ACCOUNTS"].split(",")[0]
    code = release / os.environ["BACKUP_CODE"]
    serving = Path("/etc/systemd/system/gunicorn.service")
    unit = serving.readlink().stem if serving.is_symlink() else ""
    own = Path("/etc/site/environments") / unit / Path(os.environ["BACKUP_ENVIRONMENT"]).name
    properties = {
        "JoinsNamespaceOf": f"{SERVER}.service",
        "User": account,
        "Group": account,
        "WorkingDirectory": str(code),
        "EnvironmentFile": str(own if unit and own.exists() else os.environ["BACKUP_ENVIRONMENT"]),
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "ProtectSystem": "strict",
        "RuntimeMaxSec": "600",
    }
    yield from (f"--property={name}={value}" for name, value in properties.items())
    yield from (f"--setenv=PYTHONPATH={code}", f"--setenv=STATIC_ROOT={release}/static", "--setenv=HOME=/tmp")
    yield from ("--setenv=PYTHONDONTWRITEBYTECODE=1", f"--setenv=PATH={release}/venv/bin:/usr/bin:/bin", "--")
    yield from (f"{release}/venv/bin/python", "-m")


def clear() -> str:
    """Remove what a trial has left; return nothing to be said."""
    if os.geteuid() == 0:
        run("systemctl", "stop", ASKED, SERVER, quiet=True)
    shutil.rmtree(state() / "scratch", ignore_errors=True)
    return ""


# ── A restore ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """What is restored.

    Attributes:
        to: what was asked for.
        options: of pgBackRest.
        label: of the backup of the database that it begins with.
        size: of the database, in bytes.
        snapshot: of the data folders, none where there is none.
        says: the same, for people.
        until: the time of the database (Unix time); None for the present.
    """

    to: str
    options: list[str]
    label: str
    size: int
    snapshot: str
    says: str
    until: float | None = None


def time_in(text: str) -> datetime | None:
    """Return the time that a text is, UTC where it does not say; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def plan(to: str, there: Cluster, *, folders: bool = True) -> Plan:
    """Return what is restored where somebody asks for `latest`, for a time, for a label, or for a restore point.

    Args:
        to: what was asked for.
        there: the cluster of this host.
        folders: whether the data folders are restored, too.

    Raises:
        BackupError: it is not there.
    """
    found = info()
    backups: list[dict[str, Any]] = found.get("backup", [])
    if not backups:
        raise BackupError("The repository has no backup of the database.")
    of_label = {each["label"]: each for each in backups}
    of_label |= {each["annotation"]["label"]: each for each in backups if each.get("annotation", {}).get("label")}
    point, way = POINT.fullmatch(to), on_the_way(found)
    wanted = time_in(point[2] if point else to)
    if to == "latest":
        chosen, options, until, says = way[-1], [], None, "the database with all that has reached the repository"
    elif to in of_label:
        chosen = of_label[to]
        # On the timeline of that backup: pgBackRest says so to PostgreSQL by itself.
        options, until = ["--type=immediate"], chosen["timestamp"]["stop"]
        says = f"the database of backup {chosen['label']}, {moment(until)}"
    elif wanted:
        # A point was made later in its second than its name says: a backup that ended in that one may be behind it.
        earlier = [each for each in way if each["timestamp"]["stop"] <= wanted.timestamp() - bool(point)]
        if not earlier or wanted > datetime.now(UTC):
            raise BackupError(
                f"There is no way back to {moment(wanted.timestamp())}: it must be behind "
                f"{moment(way[0]['timestamp']['stop'])}, when the oldest backup ended, and not in the future."
            )
        chosen, until = earlier[-1], wanted.timestamp()
        options = ["--type=time", f"--target={wanted.astimezone(UTC):%F %T.%f}+00"]
        says = f"the database of {moment(until)}"
        if point:
            options = ["--type=name", f"--target={to}"]
            says += f", from before the migrations of release {point[1]}"
    else:
        raise BackupError(
            f"`{to}` is neither latest, nor a time (2027-01-31T12:00, UTC), nor a backup, nor a restore point. "
            f"There are: {', '.join([*list(of_label)[-10:], *points()[-5:]])}."
        )
    [version] = [each["version"] for each in found["db"] if each["id"] == chosen["database"]["id"]]
    if version != there.version:
        raise BackupError(
            f"The backup is one of PostgreSQL {version}, and this host has {there.version}: "
            "restore it on the Debian that it came from, and upgrade there."
        )
    taken = snapshot_of(to, until) if folders else None
    says += f", and the data folders of {moment(stamp(taken['time']))}" if taken else ", and no data folders"
    options += ["--target-action=promote"] if options else []
    return Plan(
        to=to,
        options=[f"--set={chosen['label']}", *options],
        label=chosen["label"],
        size=chosen["info"]["size"],
        snapshot=taken["id"] if taken else "",
        says=says,
        until=until,
    )


def points() -> list[str]:
    """Return the restore points that releases have made in front of their migrations, the oldest first."""
    try:
        return [str(each["name"]) for each in json.loads(POINTS.read_text())]
    except (OSError, ValueError):
        return []


def forget_points(until: float | None) -> None:
    """Forget the points that are behind a moment to which the database has gone back: no way leads there any more."""
    if until is None or not POINTS.exists():
        return
    limit = f"{datetime.fromtimestamp(until, UTC):%FT%TZ}"
    write(POINTS, [each for each in json.loads(POINTS.read_text()) if each["at"] <= limit])


def on_the_way(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the backups that lead to the present: not those of a time that a restore has gone back behind.

    Args:
        found: what the repository has.
    """
    backups: list[dict[str, Any]] = found["backup"]
    last = backups[-1]
    line = timeline(last)
    place = f"archive/{STANZA}/{last_version(found)}/{line:08X}.history"
    said = pgbackrest("repo-get", place, "--log-level-console=off", seconds=ASK_SECONDS, quiet=True).output
    # A line for each timeline before, and where it was left (timelines: PostgreSQL's manual, 26.3).
    left = {int(old): lsn(where) for old, where in re.findall(r"(?m)^(\d+)\t([0-9A-F]+/[0-9A-F]+)\t", said)}
    return [
        each for each in backups if timeline(each) == line or lsn(each["lsn"]["stop"]) <= left.get(timeline(each), 0)
    ]


def last_version(found: Mapping[str, Any]) -> str:
    """Return what the repository calls the database of the last backup: `17-1`."""
    last = found["backup"][-1]["database"]["id"]
    [version] = [each["version"] for each in found["db"] if each["id"] == last]
    return f"{version}-{last}"


def timeline(backup: Mapping[str, Any]) -> int:
    """Return the timeline that a backup is of: the name of a file of its log begins with it."""
    return int(backup["archive"]["stop"][:8], 16)


def lsn(text: str) -> int:
    """Return a place in the log as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def snapshot_of(to: str, until: float | None) -> dict[str, Any] | None:
    """Return the snapshot of the data folders that belongs to a database.

    Args:
        to: what was asked for, which may be the label of one.
        until: the time of the database (Unix time); None for the present.

    Returns:
        That of the label, or the last one before that time, or the first one behind it; None where there is none.
    """
    found = snapshots() or []
    labelled = [each for each in found if f"label={to}" in (each.get("tags") or [])]
    earlier = [each for each in found if until is None or stamp(each["time"]) <= until + 1]
    fitting = labelled or earlier or found[:1]
    return fitting[-1] if fitting else None


def stamp(text: str) -> float:
    """Return the Unix time of what restic writes: RFC 3339, with nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def restore() -> str:
    """Restore what was asked for, or say what it would be; return what came of it.

    Nothing of the site is changed before all of it was fetched. The database that is there is put aside, and is put
    back where the other one does not become whole. People are told to wait meanwhile.

    What is asked for (`REQUEST`): `to`, and whether it is done (`go`). `maintenance` is what people are told, where
    nginx is here. With `for_rollback` it is the database alone, and neither the site is started nor people are let in:
    that is for a release that fits it. Where that one fails, `back` lets it not have been.

    Raises:
        BackupError: all is as it was before.
    """
    request = read(REQUEST)
    if not request:
        raise BackupError("Nothing was asked for: playbooks/restore.yml does.")
    there, for_rollback = cluster(), bool(request.get("for_rollback"))
    mend()
    if request.get("back"):
        REQUEST.unlink()
        return take_back(there)
    wanted = plan(str(request["to"]), there, folders=not for_rollback)
    if not request["go"]:
        write(ANSWER, asdict(wanted))
        return f"It would be restored: {wanted.says}."
    side, aside = beside(there)
    FOR_ROLLBACK.unlink(missing_ok=True)
    enough_room(side.parent, 0 if side.exists() else wanted.size)
    fetch_database(there, wanted, side)
    run("systemctl", "stop", *TIMERS, *OTHERS, quiet=True)
    print("The site is stopped.", flush=True)
    let_people_wait(request.get("maintenance"))
    stop_site()
    kept = keep_present()
    if wanted.snapshot:
        fetch_files(wanted.snapshot)
    swap(there, side, aside)
    write(state() / "last.json", {"at": now(), "to": wanted.to, "label": wanted.label, "snapshot": wanted.snapshot})
    if for_rollback:
        write(FOR_ROLLBACK, {"at": now(), "to": wanted.to})
    SWAPPED.unlink(missing_ok=True)
    REQUEST.unlink()
    done = f"{wanted.says}. The database from before is kept in {aside}{kept}."
    if for_rollback:
        run("systemctl", "start", *SOCKETS, *TIMERS)
        return f"Restored: {done}"
    forget_points(wanted.until)
    fault = mismatch()
    if MAINTENANCE.exists():
        write(MAINTENANCE, {**read(MAINTENANCE), "why": fault})
    if fault and MAINTENANCE.exists():
        # What waits for workers would fail in them.
        run("systemctl", "start", *SOCKETS, *TIMERS)
    else:
        run("systemctl", "start", *SITE, *TIMERS)
        let_people_in()
    # Whoever goes back again from here needs one that this way began with.
    run("systemctl", "start", "--no-block", "backup-database.service")
    return f"Restored: {done} {fault}".strip()


def mismatch() -> str:
    """Return what is to be said where the release that serves is not the one of the database, empty where it is."""
    release = Path(os.environ["BACKUP_RELEASE"]).resolve()
    if not release.is_dir():
        return ""
    words = ["systemd-run", "--quiet", "--collect", f"--unit={ASKED}", "--wait", "--pipe", *as_the_site(release)]
    said = run(*words, "celeriac.release", "fits", quiet=True).output
    found = re.search(rf"(?m)^{NOT_ITS_OWN}: (.*)", said)
    if not found:
        return ""
    waiting = "People still wait, and workers are paused, until a deploy or a rollback has passed. "
    return (
        f"The database is not the one of release {release.name}, which is there to serve: {found[1]}. "
        f"{waiting if MAINTENANCE.exists() else ''}playbooks/deploy.yml migrates what it lacks. To have the release of "
        "then: playbooks/rollback.yml, or playbooks/deploy.yml with its code."
    )


def let_people_wait(wanted: Mapping[str, Any] | None) -> None:
    """Have people told by nginx to wait, where they are not told already.

    Args:
        wanted: as `of_restore` in plugins/module_utils/site_maintenance.py has it; None where nginx is not here.
    """
    if not wanted or (MAINTENANCE.exists() and (WAITING / "server.conf").exists()):
        return
    if not MAINTENANCE.exists():
        write(MAINTENANCE, wanted["state"])
    WAITING.mkdir(mode=0o755, exist_ok=True)
    for name, (text, mode) in wanted["files"].items():
        (WAITING / name).touch(mode=mode)
        (WAITING / name).write_text(text)
    done = run("nginx", "-t", "-q")
    if done.code != 0:
        raise BackupError(f"Nothing was changed, nginx refuses its files: {done.reason()}.")
    run("systemctl", "reload", "nginx")
    until = time.monotonic() + ASK_SECONDS
    while time.monotonic() < until and not all(waits(wanted["domain"]) for _ in range(REQUESTS_IN_A_ROW)):
        time.sleep(0.1)


def waits(domain: str) -> bool:
    """Say whether a stranger is told to wait, or finds nothing that answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=domain) as connection,
        ):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n".encode())
            return b" 503 " in connection.recv(64)
    except OSError:
        return True


def let_people_in() -> None:
    """End the maintenance that a restore has begun; one that somebody else began goes on."""
    now = read(MAINTENANCE)
    if now.get("then") != "off" or now.get("paused") or now.get("why"):
        return
    for path in WAITING.glob("*.conf"):
        path.unlink()
    run("systemctl", "reload", "nginx")
    # Its old processes may still be asked for the page.
    time.sleep(1)
    shutil.rmtree(WAITING, ignore_errors=True)
    MAINTENANCE.unlink()


def take_back(there: Cluster) -> str:
    """Let a restore for a rollback not have been, where there was one; return what was done."""
    if not FOR_ROLLBACK.exists():
        return ""
    run("systemctl", "stop", *SITE, *TIMERS, *OTHERS, quiet=True)
    swap_back(there)
    FOR_ROLLBACK.unlink()
    run("systemctl", "start", *SOCKETS, *TIMERS)
    run("systemctl", "start", "--no-block", "backup-database.service")
    return "The database from before the restore is in its place again."


def swap_back(there: Cluster) -> None:
    """Put the database from before a restore in its place again, and wait until it serves.

    What was restored may have begun a timeline, which the repository knows: whoever restores later would be led there.
    Then the one from before begins a younger one.

    Raises:
        BackupError: it does not serve.
    """
    side, aside = beside(there)
    run("systemctl", "stop", there.unit)
    if aside.exists():
        if there.data.exists():
            shutil.rmtree(side, ignore_errors=True)
            there.data.rename(side)
        if begun(side) > current(there, aside):
            begin_a_timeline(aside)
        aside.rename(there.data)
        shutil.rmtree(side, ignore_errors=True)
    run("systemctl", "start", there.unit)
    until = time.monotonic() + ASK_SECONDS
    while not is_whole():
        if time.monotonic() > until:
            raise BackupError(f"The database from before is in its place, and {there.unit} does not serve it.")
        time.sleep(0.2)


def begun(data: Path) -> int:
    """Return the youngest timeline that a cluster knows of."""
    return max((int(path.stem, 16) for path in (data / "pg_wal").glob("*.history")), default=0)


def current(there: Cluster, data: Path) -> int:
    """Return the timeline that a cluster was on when it was stopped."""
    said = run(there.program("pg_controldata"), str(data), quiet=True).output
    found = re.search(r"Latest checkpoint's TimeLineID: +(\d+)", said)
    return int(found[1]) if found else 0


def begin_a_timeline(data: Path) -> None:
    """Let a cluster that was stopped recover to its own end, and begin a timeline that nobody has."""
    own = data / "postgresql.auto.conf"
    lines = {f"recovery_target{name}": "" for name in ("", "_name", "_time", "_xid", "_lsn")}
    lines |= {"recovery_target_timeline": "current", "recovery_target_action": "promote", "restore_command": ASKS}
    text = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
    owner = own.stat()
    with own.open("a") as stream:  # the last one counts
        stream.write(f"# After a restore that was taken back\n{text}")
    signal_file = data / "recovery.signal"
    signal_file.touch(mode=0o600)
    os.chown(signal_file, owner.st_uid, owner.st_gid)


def beside(there: Cluster) -> tuple[Path, Path]:
    """Return where a restored database becomes whole, and where the one from before is kept."""
    return there.data.with_name(f"{there.name}.restored"), there.data.with_name(f"{there.name}.before-restore")


def fetch_database(there: Cluster, wanted: Plan, side: Path) -> None:
    """Fetch the database, while the site serves; what an interrupted run has fetched is there already."""
    if any((there.data / "pg_tblspc").glob("*")):
        raise BackupError("The database has tablespaces, which this does not restore: pgbackrest(1) does.")
    run("install", "--directory", "--mode=0700", "--owner=postgres", "--group=postgres", str(side), quiet=True)
    words = [f"--pg1-path={side}", f"--recovery-option=restore_command={ASKS}", *wanted.options]
    done = pgbackrest("restore", "--delta", *words)
    if done.code != 0:
        shutil.rmtree(side, ignore_errors=True)
        raise BackupError(f"Nothing was changed, the database could not be fetched: {done.reason()}.")


def stop_site() -> None:
    """Stop all processes of the site, and whoever came for a while."""
    done = run("systemctl", "stop", *SITE)
    if done.code != 0:
        raise BackupError(f"The site does not stop: {done.reason()}.")


def keep_present() -> str:
    """Bring to the repository what it has not yet of the present; return what of that did not go, for people."""
    faults, folder = [], Path(os.environ["BACKUP_DATA"])
    try:
        if not info_is_of(psql("SELECT system_identifier FROM pg_control_system()")):
            return ""  # a host that was made anew
        if fault := settle(f"before-restore-{now()}"):
            faults.append(fault)
    except BackupError as error:
        faults.append(str(error).rstrip("."))
    try:
        if folder.is_dir() and snapshots() is not None:
            snapshot(folder, f"before-restore-{now()}")
    except BackupError as error:
        faults.append(str(error).rstrip("."))
    return f". Not all of what was there before is in the repository: {'; '.join(faults)}" if faults else ""


def info_is_of(system: str) -> bool:
    """Say whether the repository has backups of a database, by its identifier."""
    return any(str(each.get("system-id")) == system for each in info().get("db", []))


def fetch_files(taken: str) -> None:
    """Bring the data folders of a snapshot back. What came after it stays: it is in nobody's way."""
    done = restic("restore", taken, "--target=/")
    if done.code != 0:
        raise BackupError(f"The database was not changed, the data folders could not be fetched: {done.reason()}.")
    [found] = [each for each in snapshots() or [] if each["id"] == taken]
    renumber({name: who for name, _, who in (tag.partition("=") for tag in found.get("tags") or [])})


def renumber(numbers: Mapping[str, str]) -> None:
    """Give what was fetched to the accounts of this host, where they had other numbers on the one that it comes from.

    Args:
        numbers: of user and group, with a dot between, by the name of the account.
    """
    users: dict[str, str] = {}
    groups: dict[str, str] = {}
    for name, who in accounts().items():
        user, _, group = numbers.get(name, "").partition(".")
        users |= {user: str(who.pw_uid)} if user else {}
        groups |= {group: str(who.pw_gid)} if group else {}
    if all(old == new for old, new in [*users.items(), *groups.items()]):
        return

    def renumbered(found: re.Match[str]) -> str:
        numbers_of = groups if found[2] == "group" else users
        return str(found[1]) + numbers_of.get(found[3], str(found[3]))

    words = ["getfacl", "--recursive", "--physical", "--numeric", "--absolute-names", os.environ["BACKUP_DATA"]]
    lists = run(*words, quiet=True).output
    lists = re.sub(r"(?m)^((?:# |default:)?(owner|user|group): ?)(\d+)", renumbered, lists)
    done = run("setfacl", "--restore=-", text=lists)
    if done.code != 0:
        raise BackupError(f"The data folders could not be given to the accounts of this host: {done.reason()}.")


def swap(there: Cluster, side: Path, aside: Path) -> None:
    """Put the fetched database in the place of the one that is there, and wait until it is whole.

    Raises:
        BackupError: it does not become whole, and the one from before is there again.
    """
    run("systemctl", "stop", there.unit)
    shutil.rmtree(SPOOL, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)
    write(SWAPPED, {"since": now()})
    if there.data.exists():
        there.data.rename(aside)
    side.rename(there.data)
    log = Path(f"/var/log/postgresql/postgresql-{there.version}-{there.name}.log")
    before = log.stat().st_size if log.exists() else 0
    run("systemctl", "start", there.unit, quiet=True)
    while not is_whole():
        if run("systemctl", "is-active", there.unit, quiet=True).output.strip() in {"failed", "inactive"}:
            said = Done(1, log.read_bytes()[before:].decode(errors="replace")).reason()
            if "before configured recovery target was reached" in said:
                said = "the repository ends before that moment, or has no way to it; its end is -e to=latest"
            raise BackupError(f"What was fetched does not become a database: {said}. The one from before serves again.")
        time.sleep(0.2)


def mend() -> str:
    """Undo what a restore has left that did not get to its end; return what was done."""
    there = cluster()
    _, aside = beside(there)
    lost = not there.data.exists() and aside.exists()
    if lost or SWAPPED.exists():
        swap_back(there)
        SWAPPED.unlink(missing_ok=True)
    request = read(REQUEST)
    if os.environ.get("SERVICE_RESULT") and request.get("go"):
        # Of the unit itself, in whatever way it has ended.
        REQUEST.unlink()
        run("systemctl", "start", there.unit, *TIMERS, *SITE, quiet=True)
        let_people_in()
    return "The database from before is in its place again." if lost else ""


COMMANDS: Mapping[str, Callable[[], str]] = {
    "database": backup_database,
    "files": backup_files,
    "verify": verify,
    "check": check,
    "clear": clear,
    "verify-files": verify_files,
    "restore": restore,
    "mend": mend,
}


def main() -> None:
    """Run one of them."""
    try:
        said = COMMANDS[sys.argv[1]]()
    except BackupError as error:
        print(" ".join(str(error).split()), flush=True)
        sys.exit(error.code)
    if said:
        print(said, flush=True)


if __name__ == "__main__":
    main()
