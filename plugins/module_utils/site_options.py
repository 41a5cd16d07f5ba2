"""What the modules of a release are given, with its types: read once, passed on frozen.

Nothing has a default here: what is chosen has it in `roles/*/defaults`, what is derived in
`playbooks/group_vars/all/facts.yml`. The documentation of the options is in `plugins/doc_fragments/site.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import Hook, read_hooks
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names


@dataclass(frozen=True)
class Site:
    """What has to be known about the site on a host: `site_on_host` in the derived facts.

    Attributes:
        name: what the inventory calls it.
        root: the folder of all releases.
        owner: the account that owns the releases, builds them and migrates the database.
        group: the group of the accounts that run the processes.
        code: where Python finds the project in a release.
        python: the interpreter that runs it.
        environment_files: the environment of the steps of a release.
        processes: the processes that the host runs, by name.
        socket: where the web processes accept.
        monitor_socket: where the monitor accepts.
        domain: the name of the site.
        health_path: the page of the project that answers 200 while the site is well.
        static_url: where nginx serves the static files.
        token: what opens the runtime's own pages.
        monitor_username: the name of the log-in to the monitor.
        monitor_password: its password.
        beat_seconds: how old the last tick of beat may be.
        beat_hosts: how many hosts have a beat, of which one sends.
        timeout: how long answers may take to become the right ones, in seconds.
        kept: how many releases are kept.
    """

    name: str
    root: Path
    owner: str
    group: str
    code: str
    python: Path
    environment_files: tuple[Path, ...]
    processes: tuple[str, ...]
    socket: Path
    monitor_socket: Path
    domain: str
    health_path: str
    static_url: str
    token: str = field(repr=False)
    monitor_username: str
    monitor_password: str = field(repr=False)
    beat_seconds: int
    beat_hosts: int
    timeout: int
    kept: int

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Site:
        """Return what the option `site` of a module says."""
        site = params["site"]
        paths = {name: Path(site[name]) for name in ("root", "python", "socket", "monitor_socket")}
        lists = {
            "environment_files": tuple(map(Path, site["environment_files"])),
            "processes": tuple(site["processes"]),
        }
        return cls(**{**site, **paths, **lists})

    @property
    def names(self) -> Names:
        """What is called after it."""
        return Names(self.name)


@dataclass(frozen=True)
class Fault:
    """An injected fault: a transaction fails after a step.

    Attributes:
        step: the step; empty for no fault.
        how: "kill" and "stop" are what happens to its process; empty for an error.
    """

    step: str = ""
    how: str = ""

    @classmethod
    def from_text(cls, text: str) -> Fault:
        """Return the fault that is written as `STEP` or `STEP:HOW`."""
        step, _, how = text.partition(":")
        return cls(step, how)


@dataclass(frozen=True)
class Order:
    """What a transaction is to do.

    Attributes:
        kind: "deploy" or "rollback".
        release: which release; empty for a rollback to the one before.
        by: who does it.
        host: what the inventory calls the host.
        hooks: the operator's commands, by the point at which they run.
        fault: an injected one.
        maintenance: what people see while it migrates, and how some get in; empty where they are let in.
        reverse: (rollback) whether migrations may be taken back.
        accept_loss: (rollback) whether the database may become the one from before them.
        part: where several hosts take a release together, the part of it that this is: "begin", "record" or "undo";
            empty for all of it.
    """

    kind: str
    release: str
    by: str
    host: str
    hooks: Mapping[str, tuple[Hook, ...]] = field(default_factory=dict)
    fault: Fault = field(default_factory=Fault)
    maintenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    reverse: bool = False
    accept_loss: bool = False
    part: str = ""

    @classmethod
    def from_params(cls, kind: str, params: Mapping[str, Any]) -> Order:
        """Return the order of a module of this kind."""
        hooks = read_hooks(params["hooks"], params["hook_timeout_seconds"])
        fault = Fault.from_text(params.get("fault", ""))
        maintenance = params.get("maintenance") or {}
        maintenance = maintenance if maintenance.get("token") else {}
        reverse = params.get("migrations") == "reverse"
        ways = reverse, bool(params.get("accept_loss"))
        who = params["release"], params["by"], params["host"]
        return cls(kind, *who, hooks, fault, maintenance, *ways, params.get("part", ""))


@dataclass(frozen=True)
class Shipment:
    """What a release is made from.

    Attributes:
        archive: a tar file with the folders `app` and `runtime`, and `requirements.txt`; None while it is only asked
            what is to be done.
        index_environment_file: the environment that tells uv of other indexes than PyPI.
        uv_requirements: pinned and hashed requirement lines for uv.
        build_commands: the operator's commands that build a part of it; no shell reads their words.
        wheels: the files that the virtualenv and uv are made from, by their names; none where hosts ask an index.
        check: when it is checked, a key of `site_build.CHECKED`.
        rehearsal_database: where its migrations are tried first; empty for nowhere.
        origin: what is noted about where it came from.
        way_back: whether migrations that cannot be taken back need a restore point that is in the repository.
    """

    archive: Path | None
    index_environment_file: Path
    uv_requirements: str
    build_commands: tuple[tuple[str, ...], ...]
    wheels: tuple[str, ...]
    check: str
    origin: Mapping[str, Any]
    rehearsal_database: str = ""
    way_back: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Shipment:
        """Return what the module `site_release` has."""
        archive = Path(params["archive"]) if params["archive"] else None
        commands = tuple(tuple(map(str, words)) for words in params["build_commands"])
        index = Path(params["index_environment_file"])
        wheels = tuple(params["wheels"])
        of_release = params["uv_requirements"], commands, wheels, params["check"], params["origin"]
        return cls(archive, index, *of_release, params["rehearsal_database"], params["way_back"])


def site_spec() -> dict[str, dict[str, Any]]:
    """Return the option that says what has to be known about the site."""
    options: dict[str, dict[str, Any]] = {
        "name": {"type": "str"},
        "root": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "code": {"type": "str"},
        "python": {"type": "path"},
        "environment_files": {"type": "list", "elements": "path"},
        "processes": {"type": "list", "elements": "str"},
        "socket": {"type": "path"},
        "monitor_socket": {"type": "path"},
        "domain": {"type": "str"},
        "health_path": {"type": "str"},
        "static_url": {"type": "str"},
        "token": {"type": "str", "no_log": True},
        "monitor_username": {"type": "str"},
        "monitor_password": {"type": "str", "no_log": True},
        "beat_seconds": {"type": "int"},
        "beat_hosts": {"type": "int"},
        "timeout": {"type": "int"},
        "kept": {"type": "int"},
    }
    required = {name: {**option, "required": True} for name, option in options.items()}
    return {"site": {"type": "dict", "required": True, "options": required}}


def order_spec() -> dict[str, dict[str, Any]]:
    """Return the options that each module with a transaction has."""
    types = {"release": "str", "by": "str", "host": "str", "hooks": "dict", "hook_timeout_seconds": "int"}
    return {
        **{name: {"type": kind, "required": True} for name, kind in types.items()},
        "maintenance": maintenance_spec(),
        **site_spec(),
    }


def part_spec() -> dict[str, dict[str, Any]]:
    """Return the options that say which part of a transaction this is, where several hosts do it together."""
    return {
        "part": {"type": "str", "choices": ["", "begin", "record", "undo"], "default": ""},
        "why": {"type": "str", "default": ""},
    }


def maintenance_spec() -> dict[str, Any]:
    """Return the option that says what people are told who wait."""
    options: dict[str, Any] = {
        "page": {"type": "str"},
        "token": {"type": "str", "no_log": True},
        "retry_after_seconds": {"type": "int"},
    }
    return {"type": "dict", "required": True, "options": options}
