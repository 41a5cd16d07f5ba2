"""A site on a machine, with the app `probe` in it: deployed, loaded, broken and asked again and again."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from stack.load import Plan
from stack.machine import PROCESSES, Machine
from stack.play import Play
from stack.playbook import REPOSITORY, Run
from stack.releases import Release, Workshop
from stack.web import Answer, Website
from testkit.waiting import eventually

MACHINE = REPOSITORY / "bin/machine"
DOMAIN = "www.site.test"
# Long, so that no busy computer can stretch a test until something ends by itself: each lets its own tasks end.
DRAIN_SECONDS = 900
TASK_SECONDS = 800
# Short, so that a test can wait for them.
START_SECONDS = 20
WATCHDOG_SECONDS = 15
# Less than the memory of the host, and more than a process may need for it.
UPLOAD_MB = 200
CHOICES = {
    "site_domain": DOMAIN,
    "site_data_folders": ["media", "invoices"],
    "site_media_url": "/media/",
    "site_private_folders": ["invoices"],
    "nginx_client_max_body_mb": UPLOAD_MB + 1,
    "site_drain_seconds": DRAIN_SECONDS,
    "site_start_timeout_seconds": START_SECONDS,
    "site_watchdog_seconds": WATCHDOG_SECONDS,
    "site_migrate_timeout_seconds": 15,
    "site_task_time_limit_seconds": TASK_SECONDS,
    "site_task_soft_time_limit_seconds": TASK_SECONDS - 10,
    "site_task_soft_shutdown_seconds": 5,
}
TICK = "tick"
# One that comes later than this says nothing about the step of the schedule: a worker that was killed had it.
TICK_SECONDS = 10
# What a test asks in Python, where the schedule is. The dispatcher looks at it every five seconds.
SCHEDULE = f"""
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
PeriodicTask.objects.update_or_create(
    name="{TICK}",
    defaults=dict(interval=second, task="probe.quick", args='["{TICK}"]', expire_seconds={TICK_SECONDS}),
)
"""
# In an order that does not depend on how the folders came to be.
DATA = """
cd /srv/site/data
find . -type f -print0 | sort -z | xargs -0 sha256sum
find . -print0 | sort -z | xargs -0 getfacl
"""


@dataclass(frozen=True)
class Tick:
    """One run of the schedule of one second: when it was sent, when it ended (Unix time), its id, and where it ran."""

    sent: float
    ended: float
    task: str
    release: str


class Site:
    """The site, and the releases that it is given.

    Args:
        machine: where it is.
        workshop: makes the releases.
        folder: for logs.
    """

    def __init__(self, machine: Machine, workshop: Workshop, folder: Path) -> None:
        self.machine = machine
        self.workshop = workshop
        self.folder = folder
        self._plays = 0
        self._known: dict[str, Release] = {}

    # Deploys

    def converge(self) -> Run:
        """Bring the whole stack, with a first release and the schedule."""
        run = self.start("site.yml", *self.make().arguments).wait()
        assert run.status == 0, run.output
        self.machine.feed(SCHEDULE, "site-manage", "shell", "--no-imports")
        eventually(lambda: self.runs(TICK), 30)
        return run

    def make(self, *edits: Callable[[Path], None]) -> Release:
        """Make a release that has not been deployed."""
        release = self.workshop.make(*edits)
        self._known[release.name] = release
        return release

    def start(self, playbook: str, *arguments: str) -> Play:
        """Start a playbook."""
        self._plays += 1
        log = self.folder / f"play-{self._plays}.log"
        return Play(playbook, self.machine.inventory, *arguments, log=log)

    def ping(self) -> float:
        """Return how long the least that Ansible can do takes, in seconds."""
        began = time.monotonic()
        words = ["ansible", "--inventory", str(self.machine.inventory), "--module-name=ping", "all"]
        subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began

    def start_deploy(self, release: Release, *arguments: str, whole: bool = False) -> Play:
        """Start to deploy a release.

        Args:
            release: it, good or bad.
            *arguments: more of ansible-playbook.
            whole: with the roles that describe the processes too, half the work of Ansible: for a test that chooses
                something that is theirs. The transaction is the same.
        """
        tags = () if whole else ("--tags", "always")
        return self.start("playbooks/deploy.yml", *release.arguments, *tags, *arguments)

    def deploy(self, release: Release, *arguments: str, whole: bool = False) -> Run:
        """Deploy a release, good or bad."""
        return self.start_deploy(release, *arguments, whole=whole).wait()

    def healthy(self) -> Release:
        """Return the release that serves; where it does not, a good one is deployed."""
        current = self.current()
        if current in self._known and not self.faults(current):
            return self._known[current]
        release = self.make()
        run = self.deploy(release)
        assert run.status == 0, run.output
        return release

    def stopped_deploy(self, release: str) -> int:
        """Return the process on the host that deploys a release and was told to stand still; 0 for none."""
        said = self.machine.root.run("cat /srv/site/deploy.lock").stdout
        found = re.search(rf"release {release} .*pid (\d+)", said)
        if not found or not self.machine.root.run(f"grep '^State:.T' /proc/{found[1]}/status").succeeded:
            return 0
        return int(found[1])

    def cut_power(self) -> None:
        """Let the host lose its power, and boot again."""
        for command in ("kill", "up"):
            subprocess.run([MACHINE, command, self.machine.name], check=True)

    # What serves

    def current(self) -> str:
        """Return the release that the link for people points to."""
        return Path(self.machine.root.check_output("readlink /srv/site/current")).name

    def faults(self, release: str) -> list[str]:
        """Return what is missing for a release to be the one that serves: nothing, where it does."""
        names = " ".join(PROCESSES)
        shown = self.machine.root.check_output(f"systemctl show --property=Id,ActiveState,SubState {names}")
        found = []
        for name, block in zip(PROCESSES, shown.split("\n\n"), strict=True):
            properties = dict(line.split("=", 1) for line in block.splitlines())
            unit, state = properties["Id"], f"{properties['ActiveState']} ({properties['SubState']})"
            # The second unit of a release has a number: the first one was draining when it was called back.
            of_the_release = re.fullmatch(rf"{name}-{release}(-\d+)?\.service", unit)
            if not of_the_release or state != "active (running)":
                found.append(f"{name} stands for {unit}, which is {state}")
        if self.current() != release:
            found.append(f"current is {self.current()}")
        return found

    def traces(self, release: str) -> list[str]:
        """Return the processes that run from a release, and its units that are loaded."""
        # The brackets keep the question from finding itself.
        pattern = f"[/]releases/{release}/"
        processes = f"grep --files-with-matches --no-messages '{pattern}' /proc/[0-9]*/cmdline"
        folders = f"find /proc/[0-9]*/cwd -maxdepth 0 -lname '*{pattern}*' 2> /dev/null"
        units = f"systemctl list-units --plain --no-legend '*{release}*'"
        found: str = self.machine.root.check_output(f"{processes}; {folders}; {units}")
        return found.splitlines()

    def wait_until_serving(self, release: str, seconds: float) -> None:
        """Wait until a release is the one that serves."""
        self._wait_until_empty(lambda: self.faults(release), seconds)

    def wait_until_gone(self, release: str, seconds: float) -> None:
        """Wait until nothing runs from a release."""
        self._wait_until_empty(lambda: self.traces(release), seconds)

    def _wait_until_empty(self, probe: Callable[[], list[str]], seconds: float) -> None:
        with suppress(AssertionError):  # its message would say only that it is not so
            eventually(lambda: not probe(), seconds)
        left = probe()
        assert not left, "; ".join(left)

    def files(self, release: str) -> list[str]:
        """Return what the host keeps of a release: its directory, and its units."""
        places = "/srv/site/releases /etc/systemd/system /run/systemd /etc/site"
        found: str = self.machine.root.check_output(f"find {places} -maxdepth 2 -name '*{release}*'")
        return found.splitlines()

    def passed(self) -> set[str]:
        """Return all releases that ever served, by the history of the host."""
        lines = self.machine.root.check_output("cat /srv/site/history.jsonl").splitlines()
        return {entry["release"] for entry in map(json.loads, lines) if entry["outcome"] == "serving"}

    def units(self) -> dict[str, str]:
        """Return the state of all units of all releases."""
        patterns = " ".join(f"'{name}-*.service'" for name in PROCESSES)
        lines = self.machine.root.check_output(f"systemctl list-units --all --plain --no-legend {patterns}")
        return {words[0]: words[2] for words in map(str.split, lines.splitlines())}

    # Tasks

    @cached_property
    def web(self) -> Website:
        """A browser without a log-in."""
        certificate = self.machine.root.check_output("cat /etc/nginx/site.crt")
        return Website(DOMAIN, self.machine.address, certificate)

    def forget_certificate(self) -> None:
        """Let the browser trust the one that the site has now."""
        self.__dict__.pop("web", None)

    def postgres(self, query: str) -> str:
        """Return what the database says to the administrator of the server."""
        psql = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "site")
        return self.machine.feed(query, "runuser", "--user=postgres", "--", *psql).strip()

    def data(self) -> str:
        """Return what is in the data folders: what each file holds, and who may do what with it."""
        return self.machine.feed(DATA)

    @cached_property
    def token(self) -> str:
        """What opens the health endpoints."""
        # The lookup adds a salt on the line of a password that was ever hashed.
        return (self.machine.inventory.parent / ".secrets/health_token").read_text().split()[0]

    def plan(self, *, requests: float = 40, tasks: float = 20, seconds: float = 900, probe: bool = False) -> Plan:
        """Return the plan of a load.

        Args:
            requests: per second.
            tasks: per second.
            seconds: its end.
            probe: send the task that never expires and notes each execution, instead of the health check's.
        """
        plan = Plan(DOMAIN, self.machine.address, self.web.certificate, self.token, requests, tasks, seconds)
        return replace(plan, task_path="/probe/send/") if probe else plan

    def post(self, path: str, content: object) -> Answer:
        """Send a JSON document to the site."""
        return self.web.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})

    def send(
        self,
        task: str,
        *arguments: object,
        count: int = 1,
        countdown: float | None = None,
        queue: str | None = None,
    ) -> list[str]:
        """Send a task so many times, and return the ids."""
        asked = {"name": task, "args": arguments, "count": count, "countdown": countdown, "queue": queue}
        answer = self.post("/probe/send/", asked)
        assert answer.status == 202, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    def broadcast(self, command: str, worker: str, **arguments: object) -> None:
        """Send a command to one worker."""
        content = {"command": command, "arguments": arguments, "destination": [worker]}
        assert self.post("/probe/broadcast/", content).status == 202

    def sql(self, query: str) -> list[list[str]]:
        """Return the rows of a query."""
        words = ("runuser", "--user=site", "--", "psql", "--no-psqlrc", "--csv", "--tuples-only", "--quiet", "site")
        return [line.split(",") for line in self.machine.feed(query, *words).splitlines()]

    def runs(self, name: str, since: float = 0) -> list[tuple[float, str, str, str]]:
        """Return when, with which id, in which release and with which marker executions of a name ended."""
        rows = self.sql(
            "SELECT extract(epoch FROM at), task, release, marker FROM probe_run"
            f" WHERE name = '{name}' AND at >= to_timestamp({since}) ORDER BY at"
        )
        return [(float(at), task, release, marker) for at, task, release, marker in rows]

    def executed(self, ids: Iterable[str]) -> Counter[str]:
        """Return how often tasks of `probe` were executed."""
        wanted = set(ids)
        rows = self.sql("SELECT task, count(*) FROM probe_run GROUP BY task")
        return Counter({task: int(count) for task, count in rows if task in wanted})

    def executions(self, since: float = 0) -> Counter[str]:
        """Return how often each `celeriac.ping` succeeded, by what the workers say in the journal."""
        lines = self.machine.root.check_output(
            f"journalctl --identifier=celery-worker --output=cat --since=@{int(since)}"
            r" | grep --only-matching 'Task celeriac.ping\[.*\] succeeded' || true"
        )
        return Counter(line.partition("[")[2].partition("]")[0] for line in lines.splitlines())

    def ticks(self, since: float, until: float) -> list[Tick]:
        """Return the executions of the schedule of one second that ended in a window of time (Unix time)."""
        runs = [run for run in self.runs(TICK, since) if run[0] <= until]
        assert len(runs) > 1, f"the schedule ran {len(runs)} times in {until - since:.0f} s"
        return [
            Tick(datetime.fromisoformat(expires).timestamp() - TICK_SECONDS, at, task, release)
            for at, task, release, expires in runs
        ]

    def journal(self, name: str, since: float) -> str:
        """Return what a process and systemd said of it, in whatever release, from a time on (Unix time)."""
        words: str = self.machine.root.check_output(
            f"journalctl --no-pager --output=short-iso-precise --since=@{since:.3f} --unit='{name}-*' --unit={name}"
        )
        return words

    def node(self) -> str:
        """Return what Celery calls the worker that serves."""
        return f"{self.machine.show('celery-worker', 'Id').removesuffix('.service')}@{self.machine.name}"

    def queues(self) -> dict[str, int]:
        """Return the lengths of the queues, as the health endpoint sees them."""
        lengths: dict[str, int] = self._workers_and_queues()["queues"]
        return lengths

    def workers(self) -> dict[str, Any]:
        """Return the workers that answer, by their names."""
        found: dict[str, Any] = self._workers_and_queues()["workers"]
        return found

    def broker(self) -> dict[str, Any]:
        """Return how the broker is."""
        found: dict[str, Any] = self._workers_and_queues()["broker"]
        return found

    def _workers_and_queues(self) -> dict[str, Any]:
        answer = self.web.get("/-/celeriac/workers", {"Authorization": f"Bearer {self.token}"})
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def works(self, seconds: float) -> float:
        """Wait until a task that is sent now is executed, and return how long that took in seconds."""
        began = time.monotonic()
        [task] = self.send("probe.quick", "works")
        eventually(lambda: self.executed([task]), seconds)
        return time.monotonic() - began
