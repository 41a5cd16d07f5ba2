"""What is a finding, who is told of it when, and that nobody is told too much or false things."""

from __future__ import annotations

import ast
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from ansible_collections.celeriac.site.plugins.module_utils import site_alerts, site_findings, site_lock
from ansible_collections.celeriac.site.plugins.module_utils.site_alerts import Finding, News
from ansible_collections.celeriac.site.plugins.module_utils.site_report import file_systems

from testkit.loading import load
from testkit.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "ansible_collections.celeriac.site.plugins.module_utils"
PROGRAM = ROOT / "roles/site_alerts/files/site_alerts.py"
ALERTS = load(PROGRAM)
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BETWEEN = timedelta(minutes=5)
LIMITS = {"disk_percent": 90, "queue_seconds": 3600, "backup_hours": 50, "beat_seconds": 20}
SLOW = Finding("slow", site_findings.PROCESSES, "celery-worker is inactive", "systemctl restart celery-worker")
AT_ONCE = Finding("fast", site_findings.PROCESSES, "gunicorn is failed", "journalctl -u gunicorn", looks=1)
LONG = Finding("long", site_findings.WITHIN, "the queue celery has not been empty", "look", seconds=1200)
BLIND = {site_findings.PROCESSES, site_findings.WITHIN}


class Mailbox:
    """Somebody who is told, and the looks before that; the clock stands between them."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.known: dict[str, Any] = {}
        self.away = False

    def look(self, *found: Finding, blind: set[str] | None = None) -> str:
        """Let a look find something; return what is told: `new slow, gone fast`."""
        self.now += BETWEEN
        self.known = site_alerts.look(self.known, found, blind or set(), self.now)
        news = site_alerts.news(self.known, self.now)
        if not news.due or self.away:
            return ""
        self.known = site_alerts.told(self.known, news, self.now)
        return said(news)


def said(news: News) -> str:
    """Return news as a line."""
    parts = {"new": news.new, "gone": news.gone, "still": news.lasting}
    return ", ".join(f"{word} {entry['key']}" for word, entries in parts.items() for entry in entries)


@pytest.fixture
def mailbox() -> Mailbox:
    """Somebody who knows nothing yet."""
    return Mailbox()


# ── Who is told when ─────────────────────────────────────────────────────────────────────────────


def test_of_a_healthy_host_nothing_is_told(mailbox: Mailbox) -> None:
    assert [mailbox.look() for _ in range(600)] == [""] * 600


def test_what_lasts_is_told_once_and_once_when_it_is_over(mailbox: Mailbox) -> None:
    told = [mailbox.look(SLOW) for _ in range(20)] + [mailbox.look() for _ in range(20)]

    assert [each for each in told if each] == ["new slow", "gone slow"]
    assert told[1] == "new slow"
    assert told[21] == "gone slow"
    assert mailbox.known == {}


def test_what_has_failed_is_told_at_once(mailbox: Mailbox) -> None:
    assert mailbox.look(AT_ONCE) == "new fast"


def test_what_must_last_is_told_when_it_has(mailbox: Mailbox) -> None:
    told = [mailbox.look(LONG) for _ in range(6)]
    assert told == ["", "", "", "", "new long", ""]


def test_a_look_without_it_lets_what_must_last_begin_anew(mailbox: Mailbox) -> None:
    told = [mailbox.look(LONG) for _ in range(4)] + [mailbox.look()] + [mailbox.look(LONG) for _ in range(4)]
    assert [*filter(None, told)] == []


def test_what_comes_and_goes_is_not_told(mailbox: Mailbox) -> None:
    assert {mailbox.look(*found) for found in ((SLOW,), ()) * 50} == {""}


def test_what_fails_and_comes_back_each_time_is_told_once(mailbox: Mailbox) -> None:
    told = [mailbox.look(*found) for found in ((AT_ONCE,), ()) * 50]
    assert [*filter(None, told)] == ["new fast"]


def test_while_it_lasts_there_is_a_reminder_a_day_of_all_in_one(mailbox: Mailbox) -> None:
    told = [mailbox.look(AT_ONCE), mailbox.look(AT_ONCE, SLOW)]
    told += [mailbox.look(AT_ONCE, SLOW) for _ in range(3 * 24 * 12)]

    assert [*filter(None, told)] == ["new fast", "new slow, still fast", *["still fast, still slow"] * 2]


def test_what_could_not_be_sent_is_told_later(mailbox: Mailbox) -> None:
    mailbox.away = True
    assert {mailbox.look(AT_ONCE, SLOW) for _ in range(5)} == {""}
    mailbox.away = False

    assert mailbox.look(AT_ONCE, SLOW) == "new fast, new slow"

    mailbox.away = True
    assert {mailbox.look() for _ in range(5)} == {""}
    mailbox.away = False
    assert mailbox.look() == "gone fast, gone slow"
    assert mailbox.look() == ""


def test_what_is_not_seen_is_neither_new_nor_gone(mailbox: Mailbox) -> None:
    assert mailbox.look(AT_ONCE) == "new fast"

    told = [mailbox.look(blind=BLIND) for _ in range(20)]

    assert {*told} == {""}
    assert [mailbox.look(), mailbox.look()] == ["", "gone fast"]


def test_what_is_not_seen_has_not_lasted_meanwhile(mailbox: Mailbox) -> None:
    assert {mailbox.look(LONG), mailbox.look(LONG)} == {""}

    told = [mailbox.look(blind=BLIND) for _ in range(20)] + [mailbox.look(LONG) for _ in range(5)]

    assert [*filter(None, told)] == ["new long"]
    assert told[-1] == "new long"


def test_a_line_says_what_since_when_and_what_to_do(mailbox: Mailbox) -> None:
    mailbox.look(AT_ONCE)

    assert [site_alerts.line(entry) for entry in mailbox.known.values()] == [
        "gunicorn is failed, since 2026-03-01 12:05 UTC: journalctl -u gunicorn"
    ]


# ── What is a finding ────────────────────────────────────────────────────────────────────────────

UNIT = {"unit": "celery-worker-0123456789ab.service", "state": "active", "says": ""}
DISK = {"path": "/", "free_bytes": 2**30, "used_percent": 89, "inodes_percent": 1}
BACKUP = {"last": {"at": "2026-03-01T02:30:00Z"}, "why_not": ""}
ARCHIVER = {"fails": False, "waiting": 0}
DATABASE = {"here": "one", "leads": "two", "state": "streaming", "error": ""}
WELL: dict[str, Any] = {
    "site": "default",
    "release": "0123456789ab",
    "processes": ["celery-worker", "periodic"],
    "maintenance": None,
    "busy": "",
    "units": {"celery-worker": UNIT},
    "timers": {"periodic": {"failed": None, "timer": "active"}},
    "candidates": [],
    "daemons": {"nginx.service": "active"},
    "disks": [DISK],
    "certificate": "2026-06-01T00:00:00Z",
    "renewal": None,
    "member": None,
    "database": None,
    "backup": {"units": {"backup-database": BACKUP, "backup-files": BACKUP}, "archiver": ARCHIVER},
    "queues": {"celery": 0},
    "broker": {"transport": "celeriac", "memory": 0.1, "parked": 0},
    "ledger": {"beat_is_late": []},
}


def found(**changed: Any) -> list[Finding]:
    """Return what is wrong with a host that is well but for this."""
    findings: list[Finding] = site_findings.findings(WELL | changed, site_findings.Limits(**LIMITS), BEGAN)
    return findings


def backup(archiver: dict[str, Any] = ARCHIVER, **changed: Any) -> dict[str, Any]:
    """Return the backups of a report, that of the database changed."""
    return {"backup": {"units": {"backup-database": BACKUP | changed}, "archiver": archiver}}


def timer(**changed: Any) -> dict[str, Any]:
    """Return the timers of a report, one of them changed."""
    return {"timers": {"periodic": {"failed": None, "timer": "active"} | changed}}


def unit(**changed: Any) -> dict[str, Any]:
    """Return the units of a report, the worker changed."""
    return {"units": {"celery-worker": UNIT | changed}}


def test_a_healthy_host_has_no_finding() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changed", "what", "todo"),
    [
        (unit(state="failed"), "celery-worker is failed", "journalctl -u celery-worker-0123456789ab.service"),
        (unit(state="inactive"), "celery-worker is inactive", "systemctl restart celery-worker"),
        (unit(state="activating"), "celery-worker is activating", "systemctl restart celery-worker"),
        (unit(says="last tick 1772366379, 1 entries"), "celery-worker does not tick", "systemctl restart"),
        ({"units": {}}, "celery-worker is not there", "playbooks/deploy.yml"),
        (timer(failed="exit-code"), "last run of periodic has failed", "journalctl -t periodic"),
        (timer(timer="inactive"), "periodic.timer is inactive", "systemctl start periodic.timer"),
        ({"daemons": {"nginx.service": "inactive"}}, "nginx.service is inactive", "systemctl restart nginx.service"),
        ({"disks": [DISK | {"used_percent": 90}]}, "/ is 90 % full, 1024 MB are free", "du -xh"),
        ({"disks": [DISK | {"inodes_percent": 90}]}, "90 % of its inodes", "--inodes"),
        ({"certificate": "2026-03-21T00:00:00Z"}, "the certificate ends at 2026-03-21 00:00 UTC", "playbooks/edge.yml"),
        ({"certificate": "2026-02-21T00:00:00Z"}, "the certificate has ended", "playbooks/edge.yml"),
        (
            {"certificate": "2026-03-21T00:00:00Z", "renewal": {"why_not": "Nobody answers."}},
            "it was not renewed: Nobody answers.",
            "systemctl start nginx-acme",
        ),
        ({"database": DATABASE | {"leads": None}}, "nobody leads the database", "patronictl"),
        ({"database": DATABASE | {"state": "start failed"}}, "the database here is start failed", "patronictl"),
        ({"database": DATABASE | {"error": "no route"}}, "Patroni does not answer: no route", "patronictl"),
        ({"member": "2026-03-21T00:00:00Z"}, "know this one until 2026-03-21 00:00 UTC", "site.yml"),
        (backup(last={"at": "2026-02-27T09:00:00Z"}), "went well is of 2026-02-27T09:00:00Z", "playbooks/backup.yml"),
        (backup(last=None), "is of no time", "playbooks/backup.yml"),
        (backup(why_not="Full."), "backup-database has failed: Full.", "systemctl start backup-database"),
        (backup({"fails": True, "waiting": 7}), "7 files wait", "playbooks/backup.yml"),
        ({"queues": {"celery": 5}}, "the queue celery has not been empty, 5 wait", "site-celery inspect active"),
        ({"broker": WELL["broker"] | {"parked": 2}}, "2 tasks are parked", "site-manage task parked"),
        ({"broker": WELL["broker"] | {"memory": 0.8}}, "the broker is 80 % full", "more memory"),
        ({"ledger": {"beat_is_late": ["nightly"]}}, "beat is late with nightly", "journalctl -t celery-beat"),
        ({"error": "no answer"}, "the web processes do not say", "journalctl -t gunicorn"),
        ({"candidates": ["gunicorn-1.service"]}, "a switch has not ended", "playbooks/deploy.yml"),
        (
            {"maintenance": {"why": "The database is not the release's.", "paused": True}},
            "people wait: The database is not the release's.",
            "playbooks/status.yml",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_finding_with_what_to_do(changed: dict[str, Any], what: str, todo: str) -> None:
    (finding,) = found(**changed)

    assert what in finding.what
    assert todo in finding.todo


@pytest.mark.parametrize(
    "changed",
    [
        unit(state="reloading"),
        {"certificate": None},
        {"member": "2026-04-21T00:00:00Z"},
        {"database": DATABASE},
        # One that renews itself may have few days by nature.
        {"certificate": "2026-03-05T00:00:00Z", "renewal": {"why_not": ""}},
        # One that does not may be tried again for some days.
        {"certificate": "2026-03-29T00:00:00Z", "renewal": {"why_not": "Nobody answers."}},
        {"backup": None},
        {"queues": None, "broker": None, "ledger": None},
        {"release": None, "units": {}, "timers": {}},
        {"maintenance": {"why": "", "paused": True}, **unit(state="inactive"), "queues": {"celery": 9}},
    ],
)
def test_what_is_as_it_may_be_is_no_finding(changed: dict[str, Any]) -> None:
    assert found(**changed) == []


@pytest.mark.parametrize("state", ["failed", "inactive"])
def test_what_a_deploy_or_a_restore_stops_is_no_finding(state: str) -> None:
    amiss = {"daemons": {"nginx.service": state}, "candidates": ["gunicorn-1.service"], "error": "no answer"}
    assert found(busy="a restore", **unit(state=state), **amiss) == []


def test_a_disk_is_told_in_a_deploy_and_in_a_maintenance() -> None:
    full = {"disks": [DISK | {"used_percent": 95}]}
    assert found(busy="a deploy", **full)
    assert found(maintenance={"why": "", "paused": True}, **full)


def test_a_host_that_cannot_be_looked_at_is_a_finding_and_nothing_else_is_gone() -> None:
    report = {"site": "default", "failed": "SystemdError: no"}

    (finding,) = site_findings.findings(report, site_findings.Limits(**LIMITS), BEGAN)

    assert "cannot be looked at: SystemdError: no" in finding.what
    assert site_findings.blind(report) == {*BLIND, site_findings.HOST, site_findings.DAEMONS}
    assert finding.area not in site_findings.blind(report)


def test_where_the_web_processes_do_not_answer_what_they_know_is_not_gone() -> None:
    assert site_findings.blind(WELL | {"error": "no answer"}) == {site_findings.WITHIN}
    assert site_findings.blind(WELL) == set()


def test_only_what_has_failed_is_told_at_once() -> None:
    assert [finding.looks for finding in found(**unit(state="failed"))] == [1]
    assert [finding.looks for finding in found(**unit(state="inactive"))] == [2]


def test_a_file_system_is_looked_at_once_and_one_to_come_by_the_folder_above(tmp_path: Path) -> None:
    (one,) = file_systems([tmp_path, tmp_path / "a/b", tmp_path / "c"])
    assert one["path"] == str(tmp_path)


def test_a_deploy_is_seen_while_it_lives(tmp_path: Path) -> None:
    lock = tmp_path / "deploy.lock"
    assert site_lock.who_holds(lock) == ""
    with site_lock.locked(lock, "a deploy"):
        assert site_lock.who_holds(lock).startswith("a deploy, since ")
    lock.write_text(lock.read_text().replace(f"pid {os.getpid()}", "pid 4194304"))
    assert site_lock.who_holds(lock) == ""


# ── How it is told ───────────────────────────────────────────────────────────────────────────────

SETTINGS: dict[str, Any] = {
    "host": "h1",
    "domain": "www.mysite.test",
    "e-mail": {"to": "ops@mysite.test"},
    "webhook": "",
    "limits": LIMITS,
}


class Post:
    """What is sent, and whether it arrives."""

    def __init__(self) -> None:
        self.sent: list[News] = []
        self.away = False

    def __call__(self, settings: Any, news: News) -> None:
        """Take something."""
        if self.away:
            raise ALERTS.NotToldError("nobody is there.")
        self.sent.append(news)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    """The way of e-mails."""
    post = Post()
    monkeypatch.setattr(ALERTS, "WAYS", {"e-mail": post, "webhook": post})
    return post


@pytest.fixture
def tell(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Tell of a report, as the unit does: five minutes later each time."""
    state, runtime = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    runtime.mkdir()
    now = BEGAN

    def tell(**changed: Any) -> None:
        nonlocal now
        now += BETWEEN
        (runtime / "report.json").write_text(json.dumps(WELL | changed))
        ALERTS.tell(SETTINGS, state, runtime, now)

    yield tell


FAILED = unit(state="failed")


def test_what_was_told_is_known_to_the_next_look(tell: Callable[..., None], post: Post) -> None:
    for changed in (FAILED, FAILED, {}, {}, {}):
        tell(**changed)

    assert [said(news) for news in post.sent] == ["new unit celery-worker", "gone unit celery-worker"]


def test_what_did_not_arrive_is_sent_by_the_next_look(tell: Callable[..., None], post: Post) -> None:
    post.away = True
    for _ in range(3):
        with pytest.raises(ALERTS.NotToldError, match="nobody is there"):
            tell(**FAILED)
    post.away = False

    tell(**FAILED)
    tell(**FAILED)

    (news,) = post.sent
    assert [entry["since"] for entry in news.new] == ["2026-03-01T12:05:00Z"]


def test_on_a_full_disk_it_is_told_once_too(
    tell: Callable[..., None], post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().parent.name == "state":
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for _ in range(3):
        tell(**FAILED)
    monkeypatch.undo()
    monkeypatch.setattr(ALERTS, "WAYS", {"e-mail": post, "webhook": post})
    for changed in (FAILED, {}, {}):
        tell(**changed)

    assert [said(news) for news in post.sent] == ["new unit celery-worker", "gone unit celery-worker"]
    assert [path.name for path in (tmp_path / "run").glob("e-mail.json")] == []


def test_where_nothing_can_be_noted_nothing_is_sent(
    tell: Callable[..., None], post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ALERTS.NotToldError, match="noted nowhere"):
        tell(**FAILED)

    assert post.sent == []


def test_what_root_leaves_goes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step without rights owns the folder, and might have been taken over."""
    (tmp_path / "of-root").write_text("whole")
    (tmp_path / "look.json").write_text("{}")
    (tmp_path / ALERTS.REPORT).symlink_to("of-root")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(ALERTS, "look", lambda chosen: WELL)

    assert ALERTS.main(["look", str(tmp_path / "look.json")]) == 0

    assert (tmp_path / "of-root").read_text() == "whole"
    assert json.loads((tmp_path / ALERTS.REPORT).read_text()) == WELL


def test_an_e_mail_has_a_line_for_each_finding() -> None:
    entry = {"key": "a", "what": "the disk\nis full", "since": "2026-03-01T12:00:00Z", "todo": "du -x /"}
    news = News([entry], [entry | {"what": "b"}], [entry | {"what": "c"}], due=True)

    assert ALERTS.subject(SETTINGS, news) == "[www.mysite.test] 1 new, 1 gone, 1 still: the disk is full"
    assert [line for line in ALERTS.body(SETTINGS, news).splitlines() if line.startswith("- ")] == [
        "- the disk is full, since 2026-03-01 12:00 UTC: du -x /",
        "- b (it is no more)",
        "- c, since 2026-03-01 12:00 UTC: du -x /",
    ]


ENTRY = {"key": "a", "what": "the disk is full", "since": "2026-03-01T12:00:00Z", "todo": "du -x /"}
NEWS = News([ENTRY], [ENTRY], [], due=True)


class Chat(BaseHTTPRequestHandler):
    """Takes a webhook, or does not."""

    status = 204
    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        """Answer."""
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def chat() -> Iterator[dict[str, Any]]:
    """What is chosen for a webhook to a server that is there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SETTINGS | {"webhook": f"http://127.0.0.1:{server.server_port}/hooks/secret"}
        server.shutdown()


def test_a_webhook_has_host_site_and_findings(chat: dict[str, Any]) -> None:
    ALERTS.post(chat, NEWS)

    said = {"what": "the disk is full", "since": "2026-03-01T12:00:00Z", "do": "du -x /"}
    findings = [{"state": "new", **said}, {"state": "gone", **said}]
    assert Chat.got[-1] == {"host": "h1", "site": "www.mysite.test", "findings": findings}


def test_a_webhook_that_is_refused_did_not_arrive_and_its_address_is_not_told(
    chat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "status", 500)
    with pytest.raises(ALERTS.NotToldError, match="answers with 500") as refused:
        ALERTS.post(chat, NEWS)
    with pytest.raises(ALERTS.NotToldError, match="does not answer") as away:
        ALERTS.post(chat | {"webhook": f"http://127.0.0.1:{free_port()}/hooks/secret"}, NEWS)

    assert "secret" not in f"{refused.value}{away.value}"


# Only so that no certificate is needed: preflight refuses that.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_a_log_in_that_a_mail_server_refuses_is_named_without_the_password() -> None:
    def knows(*words: object) -> AuthResult:
        return AuthResult(success=False, handled=False)

    options: dict[str, Any] = {"authenticator": knows, "auth_required": True, "auth_require_tls": False}
    server = Controller(object(), hostname="127.0.0.1", port=free_port(), **options)
    server.start()
    try:
        mail = {"to": "ops@mysite.test", "from": "ops@mysite.test", "server": "127.0.0.1", "port": server.port}
        log_in = {"tls": "none", "user": "mysite", "password": "secret"}
        with pytest.raises(ALERTS.NotToldError, match="does not know site_alerts_smtp_user") as refused:
            ALERTS.mail(SETTINGS | {"e-mail": mail | log_in}, NEWS)
    finally:
        server.stop()
    assert "secret" not in str(refused.value)


def imported(file: Path) -> Iterator[str]:
    """Yield what of our modules a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module).removeprefix(f"{PACKAGE}.")


def test_the_host_gets_all_that_the_program_imports_and_nothing_else() -> None:
    needed: set[str] = set()
    files = [PROGRAM]
    while files:
        new = {*imported(files.pop())} - needed
        needed |= new
        files += [ROOT / f"plugins/module_utils/{name}.py" for name in new]

    given = yaml.safe_load((ROOT / "roles/site_alerts/vars/main.yml").read_text())["__site_alerts_modules"]

    assert given == sorted(needed)
