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
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import RUNNING, Process, described
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run, Systemd, newest_change

NGINX = "nginx.service"
COOKIE = "maintenance_token"
# What stands below it is written into no log and given to no project, in maintenance or not.
DOOR = "/-/maintenance/"
# While nginx is reloaded, its old processes may answer one more.
REQUESTS_IN_A_ROW = 5

# The token is a regular expression here: nginx compares other texts without regard to case.
FOR_ALL = """\
map $cookie_{cookie} ${word}_in_maintenance {{
    default 1;
    "~^{token}$" 0;
}}
"""
FOR_THE_SERVER = """\
# Before a location is chosen, so it holds for all of them.
if ($uri ~ ^{door}) {{ break; }}
if (${word}_in_maintenance) {{ return 503; }}
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


def state_of(names: Names) -> Path:
    """Return where it is written down that a site is in maintenance."""
    return names.etc / "maintenance.json"


def folder_of(names: Names) -> Path:
    """Return what nginx reads meanwhile (`roles/nginx/templates/site.conf.j2`)."""
    return names.certificate.with_name(f"{names.word}-maintenance")


def in_maintenance(names: Names) -> Maintenance | None:
    """Return what a site is in on this host, None where it serves as ever."""
    state = state_of(names)
    return Maintenance(**json.loads(state.read_text())) if state.exists() else None


def refuse_paused(names: Names) -> None:
    """Refuse what needs workers, while they are paused by an operator.

    Args:
        names: those of the site.

    Raises:
        MaintenanceError: they are.
    """
    now = in_maintenance(names)
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
        self._names = site.names
        self._state = state_of(site.names)
        self._folder = folder_of(site.names)
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
        before = in_maintenance(self._names)
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
                    self._state.unlink()
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
        before = in_maintenance(self._names)
        if before and before.paused:
            self._resume()
        opened = self._open()
        self._state.unlink(missing_ok=True)
        return opened or before is not None

    def _write_down(self, wanted: Maintenance) -> None:
        if in_maintenance(self._names) != wanted:
            write_atomically(self._state, json.dumps(asdict(wanted)).encode(), 0o600)

    # ---- nginx

    def _close(self, wanted: Maintenance, page: str, retry_after_seconds: int) -> bool:
        files = files_of(self._names, wanted.token, page, retry_after_seconds)
        self._folder.mkdir(mode=0o755, exist_ok=True)
        for name, (text, mode) in files.items():
            path = self._folder / name
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
        nginx, file = Nginx(self._site.domain, "127.0.0.1", str(self._names.certificate)), self._folder / "page.html"
        page = file.read_bytes() if file.exists() else None
        return sum(nginx.request("GET", "/").body == page for _ in range(REQUESTS_IN_A_ROW))

    def _open(self) -> bool:
        if not self._web or not self._folder.exists():
            return False
        # The folder stays until nginx has seen that they are gone, and the page until nobody is sent it.
        for path in self._folder.glob("*.conf"):
            path.unlink()
        changed = self._reload()
        Deadline(self._site.timeout).eventually(self._is_opened)
        shutil.rmtree(self._folder)
        return changed

    def _reload(self) -> bool:
        """Let nginx read its files where it has not; return whether it had not."""
        started = self._systemd.started_at(NGINX, reloads=True)
        if started and newest_change([self._folder, *self._folder.iterdir()]) <= started:
            return False
        code, _, error = self._run(["nginx", "-t", "-q"])
        if code != 0:
            raise MaintenanceError(f"nginx refuses its files: {error.strip()}")
        self._systemd.call("reload-or-restart", NGINX)
        return True

    # ---- Workers and beat

    def _to_pause(self) -> Iterator[Process]:
        for process in described(self._systemd, self._site.processes, self._names):
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


def files_of(names: Names, token: str, page: str, retry_after_seconds: int) -> dict[str, tuple[str, int]]:
    """Return what nginx reads in a maintenance, by the name of the file: its text, and who may read it.

    Args:
        names: those of the site.
        token: who knows it gets through.
        page: what people see, HTML.
        retry_after_seconds: when a program may ask again.
    """
    words = {"cookie": COOKIE, "door": DOOR, "folder": folder_of(names), "token": token, "word": names.word}
    return {
        "page.html": (page, 0o644),
        # They know the token, and only the master reads them.
        "http.conf": (FOR_ALL.format(**words), 0o600),
        "server.conf": (FOR_THE_SERVER.format(retry_after_seconds=retry_after_seconds, **words), 0o600),
    }


def of_restore(by: str, choices: Mapping[str, Any], site: Site) -> dict[str, Any]:
    """Return the maintenance that a restore begins and ends, for the program that does it.

    Args:
        by: who restores.
        choices: `page`, `token` and `retry_after_seconds`.
        site: what is known about it.
    """
    state = Maintenance(now(), f"a restore of {by}", paused=False, token=choices["token"], then="off")
    files = files_of(site.names, choices["token"], choices["page"] or PAGE, int(choices["retry_after_seconds"]))
    return {"state": asdict(state), "files": files, "domain": site.domain}


class OfDeploy:
    """A maintenance for the time of a deploy; one that was killed leaves it to the next, whatever that is.

    Args:
        run: to run commands.
        site: what is known about it.
    """

    def __init__(self, run: Run, site: Site) -> None:
        self._run = run
        self._site = site
        self._names = site.names

    def _switch(self, *, web: bool) -> Switch:
        return Switch(self._run, self._site, web=web)

    def begin(self, by: str, choices: Mapping[str, Any]) -> None:
        """Let people wait, and the workers end what they run.

        Args:
            by: who deploys.
            choices: `page`, `token` and `retry_after_seconds`.
        """
        before = in_maintenance(self._names) or Maintenance(
            now(), f"a deploy of {by}", paused=False, token="", then="off"
        )
        wanted = replace(before, paused=True, token=choices["token"], then=before.then or "run")
        web = any(process.kind == WEB for process in described(Systemd(self._run), self._site.processes, self._names))
        self._switch(web=web).on(wanted, choices["page"], int(choices["retry_after_seconds"]))

    def hold(self) -> None:
        """Pause again what was started meanwhile: the maintenance goes on without the deploy."""
        if before := in_maintenance(self._names):
            self._switch(web=False).on(before, "", 0)

    def hold_or_end(self) -> str:
        """Behind a restore, which cannot pause a process for good: go on with its maintenance where it has left one.

        Returns:
            Why it has left one, empty for none.
        """
        before = in_maintenance(self._names)
        if before and before.why:
            self._switch(web=False).on(replace(before, paused=True, then=before.then or "run"), "", 0)
            return before.why
        self.end()
        return ""

    def end(self) -> None:
        """Let all be as it was before a deploy began a maintenance, or paused the processes in one."""
        before = in_maintenance(self._names)
        if before and before.then == "off":
            self._switch(web=folder_of(self._names).exists()).off()
        elif before and before.then == "run":
            self._switch(web=False).on(replace(before, paused=False, then="", why=""), "", 0)


def now() -> str:
    """Return the time, as it is written down."""
    return f"{datetime.now(UTC):%FT%TZ}"
