"""What `site-alerts.service` runs: a look at the host, and who is told of it. `site-alerts test` runs the last, too.

======  ==========================================================================================================
look    as root, and without a word to anybody: writes what the status says of the host to RUNTIME_DIRECTORY
tell    without any right: compares that with what was told, and tells what is new, what is gone, what lasts a day
test    the same account: sends a message to each, to see whether it arrives
======  ==========================================================================================================

`tell` notes what it is about to have told before it does, under another name, and gives that its name behind it: what
cannot be noted any more is not sent again and again. On a full disk it is noted in memory, until the next boot.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils import site_alerts, site_backup, site_findings
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_lock import who_holds
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import RUNNING
from ansible_collections.celeriac.site.plugins.module_utils.site_report import Report, file_systems
from ansible_collections.celeriac.site.plugins.module_utils.systemd import UNIT_DIRECTORY, Systemd

REPORT = "report.json"
# Where what fills up is kept; where several are on one file system, the first gives it its name.
PLACES = ("/", "/var", "/var/lib/postgresql", "/var/lib/redis", "/var/lib/rabbitmq", "/var/log", "/tmp", "/var/tmp")
# A cluster is ours that has our settings, or our sandbox: another one is somebody else's.
CLUSTERS = Path("/etc/postgresql")
# A server that does not answer is asked again by the next look.
ANSWER_SECONDS = 30
COMMAND_SECONDS = 60


class NotToldError(Exception):
    """Something did not arrive; the message says why, in a line."""


# ---- look


def run(words: list[str]) -> tuple[int, str, str]:
    """Run a command as `AnsibleModule.run_command` does: its status, and what it said."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, "", str(error)
    return done.returncode, done.stdout, done.stderr


def look(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of the host.

    Args:
        chosen: the site, as modules have it, with `daemons` and `folders` beside it.
    """
    site = Site.from_params(chosen)
    try:
        # Before and behind it: what is at work meanwhile may have stopped something.
        busy = _busy(Systemd(run), site)
        return Report(run, site).read() | _beside(site, chosen, busy)
    except (SiteError, OSError, ValueError, LookupError) as error:
        return {"site": site.name, "failed": " ".join(f"{type(error).__name__}: {error}".split())}


def _beside(site: Site, chosen: Mapping[str, Any], busy: str) -> dict[str, Any]:
    """Return what the status does not say."""
    systemd = Systemd(run)
    daemons = [*chosen["daemons"], *_clusters()] if chosen["cluster"] else chosen["daemons"]
    data = site.root / "data"
    folders = [*data.iterdir()] if data.is_dir() else []
    return {
        "processes": site.processes,
        "daemons": systemd.states(daemons),
        "disks": file_systems([site.root, *folders, *map(Path, (*PLACES, *chosen["folders"]))]),
        "busy": busy or _busy(systemd, site),
    }


def _clusters() -> list[str]:
    by_settings = [path.relative_to(CLUSTERS).parts for path in CLUSTERS.glob("*/*/conf.d/site.conf")]
    found = {f"postgresql@{version}-{cluster}.service" for version, cluster, *_ in by_settings}
    by_sandbox = UNIT_DIRECTORY.glob("postgresql@*.service.d/site.conf")
    one_of_several = UNIT_DIRECTORY.glob("patroni@*.service.d/site.conf")
    return sorted(found | {path.parent.name.removesuffix(".d") for path in (*by_sandbox, *one_of_several)})


def _busy(systemd: Systemd, site: Site) -> str:
    """Return what is at work that stops and starts processes; empty for nothing."""
    if systemd.state(f"{site_backup.RESTORE}.service") in RUNNING:
        return "a restore"
    return who_holds(site.root / "deploy.lock")


# ---- tell


def tell(settings: Mapping[str, Any], state: Path, runtime: Path, now: datetime) -> None:
    """Tell everybody what there is to tell.

    Args:
        settings: who is told, and how.
        state: what was told, for each way.
        runtime: where the look has left its report, and what was told where `state` takes nothing.
        now: when the look was.

    Raises:
        NotToldError: it did not arrive somewhere, which will be tried again.
    """
    report = json.loads((runtime / REPORT).read_text())
    found = site_findings.findings(report, site_findings.Limits(**settings["limits"]), now)
    faults = []
    for way, send in WAYS.items():
        if not settings[way]:
            continue
        memory = Memory(way, state, runtime)
        known = site_alerts.look(memory.read(), found, site_findings.blind(report), now)
        news = site_alerts.news(known, now)
        if not news.due:
            memory.write(known)
            continue
        try:
            memory.write(site_alerts.told(known, news, now), after=partial(send, settings, news))
        except NotToldError as error:
            faults.append(str(error))
            with suppress(NotToldError):
                memory.write(known)
    if faults:
        raise NotToldError(" ".join(faults))


class Memory:
    """What a way knows.

    Args:
        way: its name.
        state: on the disk.
        runtime: in memory, for a disk that is full.
    """

    def __init__(self, way: str, state: Path, runtime: Path) -> None:
        self._places = [folder / f"{way}.json" for folder in (state, runtime)]

    def read(self) -> dict[str, Any]:
        """Return it; nothing where nothing, or nothing that can be read, was noted."""
        there = [path for path in self._places if path.exists()]
        for path in sorted(there, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            with suppress(OSError, ValueError):
                found: dict[str, Any] = json.loads(path.read_text())
                return found
        return {}

    def write(self, known: Mapping[str, Any], after: Callable[[], None] = lambda: None) -> None:
        """Note it, whole or not at all.

        Args:
            known: it.
            after: is done before it counts, and may fail.

        Raises:
            NotToldError: it can be noted nowhere, and `after` was not done.
        """
        place = self._prepare(known)
        after()
        place.with_suffix(".new").replace(place)
        for other in self._places:
            if other != place:
                with suppress(OSError):
                    other.unlink(missing_ok=True)

    def _prepare(self, known: Mapping[str, Any]) -> Path:
        fault: OSError | None = None
        for place in self._places:
            try:
                with place.with_suffix(".new").open("w") as file:
                    json.dump(known, file)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                fault = error
            else:
                return place
        raise NotToldError(f"What is told can be noted nowhere, so nobody is: {fault}.")


# ---- How


def subject(settings: Mapping[str, Any], news: site_alerts.News) -> str:
    """Return what stands above an e-mail."""
    counts = {"new": len(news.new), "gone": len(news.gone), "still": len(news.lasting)}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    first = next((entry["what"] for entry in (*news.new, *news.lasting, *news.gone)), "")
    text = f"[{settings['domain']}] {said}: {first}"
    return " ".join(text.split())[:200]


def body(settings: Mapping[str, Any], news: site_alerts.News) -> str:
    """Return an e-mail: a line for each finding."""
    parts = [f"Host {settings['host']}, site {settings['domain']}"]
    for head, entries in (("New", news.new), ("Gone", news.gone), ("Still there", news.lasting)):
        if entries:
            parts.append("\n".join([f"{head}:", *(f"- {' '.join(_line(head, entry).split())}" for entry in entries)]))
    return "\n\n".join(parts) + "\n"


def _line(head: str, entry: Mapping[str, Any]) -> str:
    return f"{entry['what']} (it is no more)" if head == "Gone" else site_alerts.line(entry)


def mail(settings: Mapping[str, Any], news: site_alerts.News) -> None:
    """Send an e-mail.

    Raises:
        NotToldError: no server has taken it.
    """
    _send_mail(settings, subject(settings, news), body(settings, news))


def _send_mail(settings: Mapping[str, Any], above: str, text: str) -> None:
    chosen = settings[site_alerts.E_MAIL]
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = chosen["from"], chosen["to"], above
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=settings["domain"])
    # No answering machine answers it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    where = f"{chosen['server']}:{chosen['port']}"
    try:
        with _server(chosen, settings["domain"]) as server:
            if chosen["user"]:
                server.login(chosen["user"], chosen["password"])
            server.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise NotToldError(
            f"{where} does not know site_alerts_smtp_user with this password ({error.smtp_code})."
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotToldError(f"No e-mail by {where}: {' '.join(str(error).split())}.") from None


def _server(chosen: Mapping[str, Any], name: str) -> smtplib.SMTP:
    """Return the server, over TLS where that is chosen."""
    context = ssl.create_default_context()
    # Its own name is not looked up: a DNS that is away would take minutes.
    if chosen["tls"] == "tls":
        return smtplib.SMTP_SSL(chosen["server"], chosen["port"], name, timeout=ANSWER_SECONDS, context=context)
    server = smtplib.SMTP(chosen["server"], chosen["port"], name, timeout=ANSWER_SECONDS)
    if chosen["tls"] == "starttls":
        server.starttls(context=context)
    return server


def post(settings: Mapping[str, Any], news: site_alerts.News) -> None:
    """Send a webhook.

    Raises:
        NotToldError: nobody has taken it.
    """
    parts = {"new": news.new, "gone": news.gone, "lasting": news.lasting}
    _send_post(
        settings,
        [
            {"state": state, "what": entry["what"], "since": entry["since"], "do": entry["todo"]}
            for state, entries in parts.items()
            for entry in entries
        ],
    )


def _send_post(settings: Mapping[str, Any], found: list[dict[str, Any]]) -> None:
    content = {"host": settings["host"], "site": settings["domain"], "findings": found}
    request = urllib.request.Request(
        settings[site_alerts.WEBHOOK], json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        raise NotToldError(f"site_alerts_webhook answers with {error.code}.") from None
    except OSError as error:
        # Not its address, which often is a secret.
        raise NotToldError(f"site_alerts_webhook does not answer: {getattr(error, 'reason', error)}.") from None


WAYS: Mapping[str, Callable[[Mapping[str, Any], site_alerts.News], None]] = {
    site_alerts.E_MAIL: mail,
    site_alerts.WEBHOOK: post,
}


def test(settings: Mapping[str, Any]) -> None:
    """Send a message to everybody who is told.

    Raises:
        NotToldError: one did not arrive.
    """
    text = f"A test of {settings['host']}: what is wrong there will come here."
    if chosen := settings[site_alerts.E_MAIL]:
        _send_mail(settings, f"[{settings['domain']}] a test", f"{text}\n")
        print(f"A test message went to {chosen['to']}; {chosen['server']}:{chosen['port']} has taken it.")
    if settings[site_alerts.WEBHOOK]:
        _send_post(settings, [{"state": "test", "what": text, "since": None, "do": ""}])
        print("A test message went to site_alerts_webhook, which has taken it.")


def main(words: list[str]) -> int:
    """Do what the word says; return the status."""
    if words[0] == "look":
        report = look(json.loads(Path(words[1]).read_text()))
        # Not through a link that the step without rights may have left there.
        write_atomically(Path(os.environ["RUNTIME_DIRECTORY"]) / REPORT, json.dumps(report).encode(), 0o644)
        return 0
    settings = json.loads((Path(os.environ["CREDENTIALS_DIRECTORY"]) / "settings").read_text())
    try:
        if words[0] == "test":
            test(settings)
        else:
            tell(
                settings, Path(os.environ["STATE_DIRECTORY"]), Path(os.environ["RUNTIME_DIRECTORY"]), datetime.now(UTC)
            )
    except NotToldError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
