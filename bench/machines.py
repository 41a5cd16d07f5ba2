"""The machines that are measured: copies of one bare base image, gone when the program ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stack.load import Load, Plan
from stack.releases import Release, Workshop

from bench.sizes import QUICK, Sizes
from bench.timing import PROGRAMS, ROOT, Run, output_of, tell, timed

# What the reference gets of this repository: the project and what it imports, the lock files, and itself.
REFERENCE_FILES = "site runtime/celeriac requirements.txt bench/reference.sh"

MEMORY = Path("/dev/shm")
# What this computer must have free before machines are kept in memory, GiB.
PLENTY = 12


@dataclass(frozen=True)
class Host:
    """A machine to measure on, and the inventory that names it."""

    name: str
    address: str
    folder: Path
    lab: Lab

    @property
    def inventory(self) -> Path:
        """The demo's inventory, with secrets of its own."""
        return self.folder / "inventory"

    @property
    def control_path(self) -> Path:
        """Where ssh keeps its open connections: not for the next machine with this address."""
        return self.folder / "ssh"

    @property
    def root(self) -> list[str]:
        """The words before a command that root is to run there."""
        return [*self.lab.machine_command, "ssh", "--user", "root", self.name]

    def ansible(self, program: str, *arguments: str, **environment: str) -> Run:
        """Time one of Ansible's programs on this machine."""
        if self.lab.profile:
            environment["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
            environment["PROFILE_TASKS_TASK_OUTPUT_LIMIT"] = "10"
            environment["ANSIBLE_VERBOSITY"] = "1"  # with the result of each task
        environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(self.control_path)
        return timed(PROGRAMS / program, f"-i{self.inventory}", *arguments, **environment)

    def converge(self, *arguments: str, **environment: str) -> Run:
        """Time the whole stack."""
        return self.ansible("ansible-playbook", "site.yml", *arguments, **environment)

    def ping(self, **environment: str) -> Run:
        """Time the least that Ansible can do."""
        return self.ansible("ansible", "all", "--module-name=ping", **environment)

    def deploy(self, release: Release, *arguments: str) -> Run:
        """Time a deploy of a release."""
        return self.ansible("ansible-playbook", "playbooks/deploy.yml", *release.arguments, *arguments)

    def rollback(self) -> Run:
        """Time the way back to the release before."""
        return self.ansible("ansible-playbook", "playbooks/rollback.yml")

    def reference(self) -> Run:
        """Time the hand-written script, with the sending of the project."""
        files = f"git ls-files -z --cached --others --exclude-standard {REFERENCE_FILES}"
        remote = shlex.join([*self.root, f"tar -x && exec sh bench/reference.sh {self.address}"])
        pipe = f"{files} | tar -c --null --files-from=- | {remote}"
        return timed("sh", "-c", pipe, **self.lab.environment)

    def deploy_by_script(self, release: Release) -> Run:
        """Time a deploy of a release onto a host that the hand-written script has made."""
        return timed("sh", "bench/deploy.sh", release.source, *self.root, **self.lab.environment)

    def shell(self, command: str) -> str:
        """Let root run a shell command there, and return what it printed."""
        return output_of(*self.root, command, **self.lab.environment)

    @cached_property
    def certificate(self) -> str:
        """What its browsers have to trust, PEM."""
        return self.shell("cat /etc/nginx/site.crt")

    def load(self, seconds: float) -> Load:
        """Return a steady load on its site that has not begun; the site must have the app `probe`.

        Args:
            seconds: its end, if nobody ends it before.
        """
        requests, tasks = self.lab.sizes.load
        plan = Plan(
            self.address,
            self.address,
            self.certificate,
            token="",
            requests=requests,
            tasks=tasks,
            seconds=seconds,
            task_path="/probe/send/",
        )
        return Load(plan, self.folder / "answers.txt")

    def executed(self) -> list[tuple[str, float]]:
        """Return the tasks that were executed, by id, and when each ended (Unix time)."""
        query = "SELECT task, extract(epoch FROM at) FROM probe_run"
        rows = self.shell(f"runuser -u site -- psql --no-psqlrc --csv --tuples-only site --command='{query}'")
        return [(task, float(at)) for task, at in re.findall(r"(?m)^([0-9a-f-]{36}),([\d.]+)$", rows)]


class Lab:
    """Makes machines for measures, and removes them.

    Args:
        debian: their release, "12" or "13".
        rounds: how often to measure; None leaves it to the measure.
        sizes: of the measures. With those of `QUICK` all measures share a machine for each side.
        profile: ask Ansible where the time goes.
    """

    machine_command = ("/usr/bin/env", "python3", "bin/machine")

    def __init__(self, debian: str, rounds: int | None, sizes: Sizes, *, profile: bool) -> None:
        self.debian = debian
        self.rounds = rounds
        self.sizes = sizes
        self._shares = sizes is QUICK
        self.profile = profile
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=place()))
        self.environment = {"CELERIAC_MACHINES": os.environ.get("CELERIAC_MACHINES") or str(self.folder / "machines")}
        # With the app that takes tasks over HTTP, and writes down what was executed.
        self.workshop = Workshop(self.folder / "releases", probe=True)
        self._made: list[str] = []
        self._kept: dict[str, Host] = {}

    @property
    def is_quick(self) -> bool:
        """Whether all measures share a machine for each side, for no figures are wanted."""
        return self._shares

    def machine(self, *words: str) -> str:
        """Run bin/machine and return what it printed."""
        return output_of(*self.machine_command, *words, **self.environment)

    def make(self) -> Host:
        """Return a new bare machine that has finished booting."""
        # The folder of the machines may be one that others use too.
        name = f"{self.folder.name.replace('_', '-').lower()}-{len(self._made) + 1}"
        self._made.append(name)
        self.machine("up", name, "--debian", self.debian)
        host = Host(name, self.machine("address", name).strip(), self.folder / name, self)
        of_the_demo = shutil.ignore_patterns("host_vars", ".secrets")
        shutil.copytree(ROOT / "inventory/demo", host.inventory, ignore=of_the_demo)
        (host.inventory / "host_vars").mkdir()
        (host.inventory / "host_vars/demo.json").write_text(self.machine("inventory", name))
        host.control_path.mkdir(mode=0o700)
        return host

    @contextlib.contextmanager
    def bare(self, side: str) -> Iterator[Host]:
        """Lend a new bare machine; where measures share theirs it stays, as what was made of it.

        Args:
            side: "ours" or "reference".
        """
        host = self.make()
        try:
            yield host
        finally:
            if not self._shares:
                self._hang_up(host.name)
                self.machine("down", host.name)
        self._kept[side] = host

    @cached_property
    def converged(self) -> Host:
        """A machine with the whole stack, for measures that leave it as it is; the first waits for it."""
        if self._shares and (kept := self._kept.get("ours")):
            return kept
        tell("  making a machine with the whole stack")
        host = self.make()
        host.converge()
        self._kept["ours"] = host
        return host

    @cached_property
    def deployed(self) -> Host:
        """A machine with the whole stack, for measures that deploy to it."""
        if self._shares:
            host = self.converged
        else:
            tell("  making a machine with the whole stack, to deploy to")
            host = self.make()
            host.converge(*self.workshop.make().arguments)
        # The first release had none before it to take over from, this one has.
        host.deploy(self.workshop.make())
        return host

    @cached_property
    def scripted(self) -> Host:
        """A machine that the hand-written script has made, for deploys by script."""
        tell("  making a machine with bench/reference.sh, to deploy to by script")
        kept = self._kept.get("reference") if self._shares else None
        host = kept or self.make()
        if kept is None:
            host.reference()
        # The app that the load needs notes the release, which the script does not have.
        host.shell("echo CELERIAC_RELEASE=none >> /etc/site/environment")
        host.deploy_by_script(self.workshop.make())
        return host

    def close(self) -> None:
        """Remove everything, also what an interrupted measure has left half-made."""
        for name in self._made:
            self._hang_up(name)
        if self._made:
            self.machine("down", *self._made)
        shutil.rmtree(self.folder)

    def _hang_up(self, name: str) -> None:
        """End the connections that ssh keeps open for the next run."""
        for socket in self.folder.glob(f"{name}/ssh/*"):
            command = ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "-"]
            subprocess.run(command, capture_output=True, check=False)


def place() -> Path:
    """Return where to keep machines that live for minutes: memory, where there is plenty, is faster than a disk."""
    available = int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0])  # KiB
    if available >= PLENTY * 2**20 and MEMORY.is_dir():
        # Without set-uid programs there is no sudo.
        refused = os.ST_NOSUID | os.ST_NOEXEC | os.ST_NODEV
        if not os.statvfs(MEMORY).f_flag & refused:
            return MEMORY
    return Path("/var/tmp")  # /tmp may be memory, and a machine is a gigabyte
