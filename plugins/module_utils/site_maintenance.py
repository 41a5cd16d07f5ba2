"""Maintenance: nginx answers people with 503, and workers and beat are paused or not.

What is wanted is written down first (`STATE`) and forgotten last, so a run that was interrupted is seen in the status,
and mended by the same command again. What nginx does is in a folder of its own, which its site file reads where there
is something in it: no other run knows of it, and none ends it by accident. A paused process is stopped, as one is that
drains, and the boot does not know it; its unit and its alias stay as they are.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_checks import PAUSE_SECONDS, Deadline, Nginx
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import (
    MaintenanceError,
    SiteError,
    UnhealthyError,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import WEB
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import RUNNING, Process, described
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run, Systemd, newest_change

STATE = Path("/etc/site/maintenance.json")
# `roles/nginx/templates/site.conf.j2` reads what is in it.
FOLDER = Path("/etc/nginx/site-maintenance")
CERTIFICATE = "/etc/nginx/site.crt"
NGINX = "nginx.service"
COOKIE = "maintenance_token"
# What stands below it is written into no log and given to no project, in maintenance or not.
DOOR = "/-/maintenance/"
# While nginx is reloaded, its old processes may answer one more.
REQUESTS_IN_A_ROW = 5

# The token is a regular expression here: nginx compares other texts without regard to case.
FOR_ALL = """\
map $cookie_{cookie} $site_in_maintenance {{
    default 1;
    "~^{token}$" 0;
}}
"""
FOR_THE_SERVER = """\
# Before a location is chosen, so it holds for all of them.
if ($uri ~ ^{door}) {{ break; }}
if ($site_in_maintenance) {{ return 503; }}
error_page 503 {door}page;
location = {door}page {{
    internal;
    alias {folder}/page.html;
    default_type text/html;
    charset utf-8;
    add_header Retry-After {retry_after_seconds} always;
    add_header Cache-Control no-store always;
}}
location = {door}{token} {{
    access_log off;
    add_header Set-Cookie "{cookie}={token}; Path=/; Secure; HttpOnly; SameSite=Lax" always;
    add_header Cache-Control no-store always;
    add_header Referrer-Policy no-referrer always;
    return 303 /;
}}
"""
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Back soon</title>
<style>
  body { margin: 20vh auto 0; max-width: 32rem; padding: 0 1rem; font: 1.1rem/1.6 system-ui, sans-serif; }
  @media (prefers-color-scheme: dark) { body { background: #16181a; color: #e8e8e8; } }
</style>
<h1>Back soon</h1>
<p>This site is being worked on, and will be here again in a little while.</p>
</html>
"""


@dataclass(frozen=True)
class Maintenance:
    """What a host is in, as it was written down.

    Attributes:
        since: when it began (UTC, ISO 8601).
        by: who began it.
        paused: whether workers and beat are.
        token: who knows it gets through.
        then: what the deploy that began it, or paused the processes in it, does when it ends: "off" or "run". Empty
            where an operator decides.
        why: what is wrong, where it goes on because something is; empty where nothing is known.
    """

    since: str
    by: str
    paused: bool
    token: str = field(repr=False)
    then: str = ""
    why: str = ""

    @property
    def cookie(self) -> dict[str, str]:
        """The header with which a request gets through."""
        return {"Cookie": f"{COOKIE}={self.token}"}


def in_maintenance() -> Maintenance | None:
    """Return what this host is in, None where it serves as ever."""
    return Maintenance(**json.loads(STATE.read_text())) if STATE.exists() else None


def refuse_paused() -> None:
    """Refuse what needs workers, while they are paused by an operator.

    Raises:
        MaintenanceError: they are.
    """
    now = in_maintenance()
    if now and now.paused and not now.then:
        raise MaintenanceError(
            f"Workers and beat are paused, for maintenance since {now.since} by {now.by}, and no release can be "
            "checked without them. End it (`playbooks/maintenance.yml -e state=off`), or let them run while people "
            "wait (`-e state=on -e processes=run`): then a deploy works as ever, and maintenance goes on."
        )


class Switch:
    """Brings a host into maintenance, and out of it.

    Args:
        run: to run commands.
        site: what is known about it.
        web: whether nginx is on this host.
    """

    def __init__(self, run: Run, site: Site, *, web: bool) -> None:
        self._run = run
        self._systemd = Systemd(run)
        self._site = site
        self._web = web

    def on(self, wanted: Maintenance, page: str, retry_after_seconds: int) -> bool:
        """Answer people with 503, then pause the processes or let them run; return whether anything was changed.

        Args:
            wanted: what shall be.
            page: what people see, HTML; empty for ours.
            retry_after_seconds: when a program may ask again.

        Raises:
            SiteError: it could not be done, and where the host was not in maintenance before, it is not now.
        """
        before = in_maintenance()
        if wanted.paused:
            self._refuse_unfinished()
        # Not written down as running before all of them do.
        resumes = bool(before and before.paused and not wanted.paused)
        changed = before != wanted
        if not resumes:
            self._write_down(wanted)
        if self._web:
            try:
                changed = self._close(wanted, page or PAGE, retry_after_seconds) or changed
            except (SiteError, OSError):
                if before is None:
                    self._open()
                    STATE.unlink()
                raise
        if wanted.paused:
            changed = self._pause() or changed
        elif resumes:
            self._resume()
            self._write_down(wanted)
        return changed

    def off(self) -> bool:
        """Let the processes run, then let people in; return whether anything was changed.

        Raises:
            SiteError: a process does not start, or nginx does not read its files; people still wait.
        """
        before = in_maintenance()
        if before and before.paused:
            self._resume()
        opened = self._open()
        STATE.unlink(missing_ok=True)
        return opened or before is not None

    def _write_down(self, wanted: Maintenance) -> None:
        if in_maintenance() != wanted:
            write_atomically(STATE, json.dumps(asdict(wanted)).encode(), 0o600)

    # ---- nginx

    def _close(self, wanted: Maintenance, page: str, retry_after_seconds: int) -> bool:
        files = files_of(wanted.token, page, retry_after_seconds)
        FOLDER.mkdir(mode=0o755, exist_ok=True)
        for name, (text, mode) in files.items():
            path = FOLDER / name
            if not path.exists() or path.read_bytes() != text.encode():
                write_atomically(path, text.encode(), mode)
        changed = self._reload()
        Deadline(self._site.timeout).eventually(self._is_closed)
        return changed

    def _is_closed(self) -> None:
        """Ask as a stranger would.

        Raises:
            UnhealthyError: there is another answer than the page.
        """
        if self._pages_seen() < REQUESTS_IN_A_ROW:
            raise UnhealthyError("GET /: the answer is not that of the maintenance")

    def _is_opened(self) -> None:
        if self._pages_seen():
            raise UnhealthyError("GET /: the answer is that of the maintenance")

    def _pages_seen(self) -> int:
        """Return how many of a few requests are answered with the page of the maintenance."""
        nginx, file = Nginx(self._site.domain, "127.0.0.1", CERTIFICATE), FOLDER / "page.html"
        page = file.read_bytes() if file.exists() else None
        return sum(nginx.request("GET", "/").body == page for _ in range(REQUESTS_IN_A_ROW))

    def _open(self) -> bool:
        if not self._web or not FOLDER.exists():
            return False
        # The folder stays until nginx has seen that they are gone, and the page until nobody is sent it.
        for path in FOLDER.glob("*.conf"):
            path.unlink()
        changed = self._reload()
        Deadline(self._site.timeout).eventually(self._is_opened)
        shutil.rmtree(FOLDER)
        return changed

    def _reload(self) -> bool:
        """Let nginx read its files where it has not; return whether it had not."""
        started = self._systemd.started_at(NGINX, reloads=True)
        if started and newest_change([FOLDER, *FOLDER.iterdir()]) <= started:
            return False
        code, _, error = self._run(["nginx", "-t", "-q"])
        if code != 0:
            raise MaintenanceError(f"nginx refuses its files: {error.strip()}")
        self._systemd.call("reload-or-restart", NGINX)
        return True

    # ---- Workers and beat

    def _to_pause(self) -> Iterator[Process]:
        for process in described(self._systemd, self._site.processes):
            if process.recorded() and process.kind.pauses:
                yield process

    def _refuse_unfinished(self) -> None:
        if found := [process.candidate() for process in self._to_pause() if process.candidate()]:
            raise MaintenanceError(f"A switch has not ended ({', '.join(found)}): run the deploy again, then this.")

    def _pause(self) -> bool:
        """Stop them and wait for the tasks that they run; return whether any ran, or would have at the next boot."""
        units, changed = [], False
        for process in self._to_pause():
            changed = process.leave_to_hand() or changed
            if not process.timed:
                units += [*process.running(), *process.draining()]
            elif self._systemd.state(process.timer) in RUNNING:
                units.append(process.timer)
        if changed:
            self._systemd.call("daemon-reload")
        if units:
            self._systemd.call("stop", *units)
        for process in self._to_pause():
            # What a timer has started is told nothing, and has a limit of its own.
            while process.timed and process.running():
                time.sleep(PAUSE_SECONDS)
        return changed or bool(units)

    def _resume(self) -> None:
        to_start = []
        for process in self._to_pause():
            unit = process.recorded()
            if not process.timed and self._systemd.state(unit) == "deactivating":
                # It drains and cannot be called back: another of its kind takes over.
                unit = process.add_again(unit)
            process.point(unit, candidate=False)
            to_start.append(process.timer if process.timed else unit)
        self._systemd.call("daemon-reload")
        if to_start := [unit for unit in to_start if self._systemd.state(unit) not in RUNNING]:
            self._systemd.start(*to_start)


def files_of(token: str, page: str, retry_after_seconds: int) -> dict[str, tuple[str, int]]:
    """Return what nginx reads in a maintenance, by the name of the file: its text, and who may read it.

    Args:
        token: who knows it gets through.
        page: what people see, HTML.
        retry_after_seconds: when a program may ask again.
    """
    names = {"cookie": COOKIE, "door": DOOR, "folder": FOLDER, "token": token}
    return {
        "page.html": (page, 0o644),
        # They know the token, and only the master reads them.
        "http.conf": (FOR_ALL.format(**names), 0o600),
        "server.conf": (FOR_THE_SERVER.format(retry_after_seconds=retry_after_seconds, **names), 0o600),
    }


def of_restore(by: str, choices: Mapping[str, Any], domain: str) -> dict[str, Any]:
    """Return the maintenance that a restore begins and ends, for the program that does it.

    Args:
        by: who restores.
        choices: `page`, `token` and `retry_after_seconds`.
        domain: the name of the site.
    """
    state = Maintenance(now(), f"a restore of {by}", paused=False, token=choices["token"], then="off")
    files = files_of(choices["token"], choices["page"] or PAGE, int(choices["retry_after_seconds"]))
    return {"state": asdict(state), "files": files, "domain": domain}


class OfDeploy:
    """A maintenance for the time of a deploy; one that was killed leaves it to the next, whatever that is.

    Args:
        run: to run commands.
        site: what is known about it.
    """

    def __init__(self, run: Run, site: Site) -> None:
        self._run = run
        self._site = site

    def _switch(self, *, web: bool) -> Switch:
        return Switch(self._run, self._site, web=web)

    def begin(self, by: str, choices: Mapping[str, Any]) -> None:
        """Let people wait, and the workers end what they run.

        Args:
            by: who deploys.
            choices: `page`, `token` and `retry_after_seconds`.
        """
        before = in_maintenance() or Maintenance(now(), f"a deploy of {by}", paused=False, token="", then="off")
        wanted = replace(before, paused=True, token=choices["token"], then=before.then or "run")
        web = any(process.kind == WEB for process in described(Systemd(self._run), self._site.processes))
        self._switch(web=web).on(wanted, choices["page"], int(choices["retry_after_seconds"]))

    def hold(self) -> None:
        """Pause again what was started meanwhile: the maintenance goes on without the deploy."""
        if before := in_maintenance():
            self._switch(web=False).on(before, "", 0)

    def hold_or_end(self) -> str:
        """Behind a restore, which cannot pause a process for good: go on with its maintenance where it has left one.

        Returns:
            Why it has left one, empty for none.
        """
        before = in_maintenance()
        if before and before.why:
            self._switch(web=False).on(replace(before, paused=True, then=before.then or "run"), "", 0)
            return before.why
        self.end()
        return ""

    def end(self) -> None:
        """Let all be as it was before a deploy began a maintenance, or paused the processes in one."""
        before = in_maintenance()
        if before and before.then == "off":
            self._switch(web=FOLDER.exists()).off()
        elif before and before.then == "run":
            self._switch(web=False).on(replace(before, paused=False, then="", why=""), "", 0)


def now() -> str:
    """Return the time, as it is written down."""
    return f"{datetime.now(UTC):%FT%TZ}"
