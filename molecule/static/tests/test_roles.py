"""Specs equal defaults, templates render, playbooks are lists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from ast import literal_eval
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
COLLECTION = "celeriac.site."
PLAYBOOKS = [ROOT / "site.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]
# What a play may say. No vars, no tasks, no handlers: logic lives in roles.
PLAY_KEYS = {
    "name", "hosts", "become", "gather_facts", "any_errors_fatal", "connection", "roles", "serial",
    "strategy", "tags", "order", "max_fail_percentage",
}  # fmt: skip
# Options of a release that have what `site_files` makes.
FILES = ("files", "files_of_owner")
# Where a role of this repository calls another one.
INCLUDES = ("ansible.builtin.include_role", "ansible.builtin.import_role")


class Reader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain values."""


Reader.add_multi_constructor("!", lambda loader, suffix, node: getattr(node, "value", None))


def read(path: Path) -> Any:
    """A YAML file as plain data."""
    return yaml.load(path.read_text(), Loader=Reader)  # Reader is a SafeLoader.


def options_of(role: str) -> dict[str, dict[str, Any]]:
    """The options of a role's main entry point."""
    specs = read(ROOT / "roles" / role / "meta" / "argument_specs.yml")
    options: dict[str, dict[str, Any]] = specs["argument_specs"].get("main", {}).get("options") or {}
    return options


def defaults_files() -> dict[str, Path]:
    """The defaults of each role that leaves something to choose."""
    files = {role: ROOT / "roles" / role / "defaults" / "main.yml" for role in ROLES}
    return {role: file for role, file in files.items() if file.exists()}


def defaults_of(role: str) -> dict[str, Any]:
    """The defaults of a role."""
    file = defaults_files().get(role)
    return (read(file) or {}) if file else {}


def task_files(role: str) -> Iterator[Path]:
    """The files with tasks or handlers of a role."""
    for folder in ("tasks", "handlers"):
        yield from sorted((ROOT / "roles" / role / folder).glob("*.yml"))


def tasks_of(file: Path) -> Iterator[dict[str, Any]]:
    """All tasks of a file, those inside of blocks too."""
    return flat(read(file) or [])


def flat(tasks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All tasks, those inside of blocks with the variables of these, too."""
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            for inner in flat(task.get(part, [])):
                yield {**inner, "vars": {**task.get("vars", {}), **inner.get("vars", {})}}


def plays() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every entry of every playbook, with its file."""
    for file in PLAYBOOKS:
        for entry in read(file):
            yield file, entry


def calls() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every call of one role by another: the name called, and the variables passed."""
    for role in ROLES:
        for file in task_files(role):
            for task in tasks_of(file):
                for include in INCLUDES:
                    if include in task:
                        yield task[include]["name"].removeprefix(COLLECTION), task.get("vars", {})


# ── Specs and defaults ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_have_the_same_values(role: str) -> None:
    options = options_of(role).items()
    specified = {name: spec["default"] for name, spec in options if "default" in spec}
    assert defaults_of(role) == specified


@pytest.mark.parametrize("role", ROLES)
def test_an_option_has_a_default_or_is_required(role: str) -> None:
    unclear = [name for name, spec in options_of(role).items() if ("default" in spec) == bool(spec.get("required"))]
    assert not unclear


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_type_and_a_description(role: str) -> None:
    poor = [
        name
        for name, spec in options_of(role).items()
        if "type" not in spec or not str(spec.get("description", "")).endswith((".", "]"))
    ]
    assert not poor


@pytest.mark.parametrize("role", ROLES)
def test_every_option_begins_with_the_word_of_its_role(role: str) -> None:
    assert [name for name in options_of(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_number_says_its_unit(role: str) -> None:
    words = ("timeout", "interval", "delay", "limit", "size", "memory", "disk")
    assert [
        name for name, spec in options_of(role).items() if spec.get("type") in ("int", "float") and name.endswith(words)
    ] == []


@pytest.mark.parametrize("role", defaults_files())
def test_above_each_default_stands_what_it_is_for(role: str) -> None:
    lines = defaults_files()[role].read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+:", line):
            # Values of one kind may share a comment: the paragraph counts.
            blanks = [at for at, text in enumerate(lines[:number]) if not text.strip()]
            paragraph = lines[max(blanks, default=0) : number]
            if not any(text.startswith("#") for text in paragraph):
                bare.append(line)
    assert not bare


# ── Playbooks ────────────────────────────────────────────────────────────────────────────────────


def test_every_role_is_in_a_playbook_or_is_called_by_one_that_is() -> None:
    named = [
        entry["role"] if isinstance(entry, dict) else entry for _, play in plays() for entry in play.get("roles", [])
    ]
    listed = {name.removeprefix(COLLECTION) for name in named}
    assert set(ROLES) - listed - {name for name, _ in calls()} == set()
    assert listed <= set(ROLES)


@pytest.mark.parametrize("file", [ROOT / "site.yml", ROOT / "playbooks" / "site.yml"], ids=("first", "whole"))
def test_site_is_a_table_of_contents(file: Path) -> None:
    for entry in read(file):
        assert set(entry) <= {"name", "ansible.builtin.import_playbook", "tags"}
        assert (file.parent / entry["ansible.builtin.import_playbook"]).is_file()


def test_preflight_comes_first() -> None:
    first = read(ROOT / "playbooks" / "site.yml")[0]
    assert first["ansible.builtin.import_playbook"] == "preflight.yml"
    assert [entry["ansible.builtin.import_playbook"] for entry in read(ROOT / "site.yml")] == ["playbooks/site.yml"]


def test_what_is_ours_is_named_with_its_collection() -> None:
    """A short name is found in the clone's folder only by what somebody else's ansible.cfg says."""
    plugins = [path.stem for folder in ("action", "modules") for path in (ROOT / "plugins" / folder).glob("*.py")]
    roles = {entry["role"] for _, play in plays() for entry in play.get("roles", [])}
    modules = {key for role in ROLES for file in task_files(role) for task in tasks_of(file) for key in task}
    called = {task[include]["name"] for role in ROLES for file in task_files(role) for task in tasks_of(file)
              for include in INCLUDES if include in task}  # fmt: skip
    assert {*ROLES, *plugins} & (roles | called | modules) == set()


@pytest.mark.parametrize("file", PLAYBOOKS, ids=lambda file: file.name)
def test_a_playbook_is_a_list_of_roles(file: Path) -> None:
    for entry in read(file):
        assert entry.get("name"), entry
        if "ansible.builtin.import_playbook" not in entry:
            assert set(entry) <= PLAY_KEYS
            assert entry["roles"]


def test_every_play_stops_the_run_at_the_first_failure() -> None:
    # But the status: a host that does not answer hides nothing of the others.
    real = [play for file, play in plays() if "roles" in play and file.name != "status.yml"]
    assert [play["name"] for play in real if play.get("any_errors_fatal") is not True] == []


def test_no_play_gathers_facts_that_nobody_reads() -> None:
    """Gathering costs each host a round trip and half a second; preflight knows what we need."""
    real = [play for _, play in plays() if "roles" in play]
    assert [play["name"] for play in real if play.get("gather_facts") is not False] == []


def test_a_playbook_reads_and_checks_the_choices_once() -> None:
    """Each time takes 0.2 s. So it is one play, whose roles say for which of its hosts they are."""
    reads = Counter(file.name for file, play in plays() for entry in play.get("roles", [])
                    if entry["role"] == f"{COLLECTION}site")  # fmt: skip
    assert set(reads.values()) == {1}


def test_a_process_is_run_by_the_hosts_of_its_group(loader: DataLoader, tmp_path: Path) -> None:
    known = variables_for(loader, "site", tmp_path)
    processes = read(ROOT / "playbooks" / "group_vars" / "all" / "facts.yml")["site_own_processes"]
    groups = {process["name"].replace("-", "_"): process["group"] for process in processes}
    entries = {
        entry["role"].removeprefix(COLLECTION): (play["hosts"].split(":"), entry.get("when"))
        for play in read(ROOT / "playbooks" / "processes.yml")
        for entry in play["roles"]
    }
    assert groups.keys() <= entries.keys()
    for role, group in groups.items():
        hosts, when = entries[role]
        assert group in hosts
        for groups_of_host in ([group], sorted(set(hosts) - {group})):
            templar = Templar(loader=loader, variables=known | {"group_names": groups_of_host})
            assert templar.evaluate_conditional(trust_as_template(when)) is (group in groups_of_host)


def test_tags_are_on_the_entries_of_roles() -> None:
    untagged = [
        (file.name, play["name"], entry)
        for file, play in plays()
        for entry in play.get("roles", [])
        if not (isinstance(entry, dict) and entry.get("tags"))
    ]
    assert not untagged


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ROLES)
def test_every_task_has_a_name_that_is_no_command(role: str) -> None:
    commands = re.compile(r"^(\w+ \| )?(Install|Template|Copy|Create|Configure|Set|Ensure|Enable|Start|Run)\b")
    for file in task_files(role):
        for task in tasks_of(file):
            assert task.get("name"), f"{file}: {task}"
            assert file.parent.name == "handlers" or not commands.match(task["name"]), task["name"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_never_asks_which_hosts_are_in_a_group(role: str) -> None:
    """One host and a cluster differ in derived facts, nowhere else."""
    files = [*task_files(role), *(ROOT / "roles" / role).glob("templates/**/*.j2")]
    files += (ROOT / "roles" / role).glob("vars/*.yml")
    assert [file for file in files if re.search(r"\bgroups[\[.]", file.read_text())] == []


# ── Templates ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def loader() -> DataLoader:
    """Ansible's own loader, as in a run of a playbook."""
    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    return loader


def variables_for(loader: DataLoader, role: str, folder: Path) -> dict[str, Any]:
    """What a template of a role may read: defaults, derived facts, and what a run itself knows.

    Args:
        loader: Ansible's loader.
        role: The role that renders.
        folder: Where secrets are made.
    """
    merged: dict[str, Any] = {}
    files = list(defaults_files().values())
    files += sorted((ROOT / "playbooks" / "group_vars" / "all").glob("*.yml"))
    files += sorted((ROOT / "roles" / role / "vars").glob("*.yml"))
    for file in files:
        merged |= loader.load_from_file(str(file), trusted_as_template=True) or {}
    return merged | {
        "ansible_check_mode": False,
        "ansible_managed": "Ansible managed",
        "group_names": ["web", "workers", "beat", "monitor", "broker", "database"],
        "__patroni_found": {"stdout_lines": ["17", "data"]},
        "__keepalived_route": {"stdout": '[{"dev": "eth1"}]'},
        "__site_timers_item": {"key": "periodic", "value": {"every": "hourly"}},
        "groups": {"monitor": ["h1"], "broker": ["h1"], "database": ["h1"]},
        "hostvars": {"h1": {"ansible_host": "10.0.0.1"}},
        "inventory_dir": str(folder),
        "inventory_hostname": "h1",
        "playbook_dir": str(ROOT / "playbooks"),
        "role_path": str(ROOT / "roles" / role),
        "site_domain": "www.mysite.test",
    }


def render(loader: DataLoader, template: Path, variables: dict[str, Any]) -> str:
    """A template as Ansible's own engine renders it, where what is undefined is an error."""
    templar = Templar(loader=loader, variables=variables)
    lookup = lookup_loader.get("ansible.builtin.template", loader=loader, templar=templar)
    text: str = lookup.run([str(template)], variables)[0]
    return text


ROLE_TEMPLATES = sorted((ROOT / "roles").glob("*/templates/**/*.j2"))
by_template = pytest.mark.parametrize("template", ROLE_TEMPLATES, ids=lambda path: f"{path.parts[-3]}/{path.name}")


def texts_of(loader: DataLoader, folder: Path, template: Path) -> list[str]:
    """A role's template as each of its uses renders it: once, for each item of a loop, or as it is looked up."""
    role = template.relative_to(ROOT / "roles").parts[0]
    variables = variables_for(loader, role, folder)
    for file in task_files(role):
        for task in loader.load_from_file(str(file), trusted_as_template=True) or []:
            if template.name in str(task) and "loop" in task:
                items = Templar(loader=loader, variables=variables).template(task["loop"])
                own = variables | task.get("vars", {})
                return [render(loader, template, own | {"item": item}) for item in items]
    looked_up = re.compile(re.escape(f"'{template.name}', template_vars=") + r"({.*?})\)")
    own_values = [literal_eval(each) for file in task_files(role) for each in looked_up.findall(file.read_text())]
    return [render(loader, template, variables | own) for own in own_values or [{}]]


UNITS = [(variables["systemd_service_name"], variables) for name, variables in calls()
         if name == "systemd_service" and "{{" not in variables.get("systemd_service_name", "{{")]  # fmt: skip


@by_template
def test_a_template_renders_from_defaults(loader: DataLoader, tmp_path: Path, template: Path) -> None:
    for text in texts_of(loader, tmp_path, template):
        assert text.strip()
        assert "{{" not in text
        assert "{%" not in text


@by_template
def test_a_file_on_a_host_says_who_wrote_it(loader: DataLoader, tmp_path: Path, template: Path) -> None:
    # Redis reads every line of this file as a user.
    has_comments = template.name != "users.acl.j2"
    for text in texts_of(loader, tmp_path, template):
        assert "Ansible managed" in text or not has_comments


def caller(name: str) -> str:
    """The role that asks for a unit."""
    return next(
        role
        for role in ROLES
        for file in task_files(role)
        for task in tasks_of(file)
        if task.get("vars", {}).get("systemd_service_name") == name
    )


def passed_for(loader: DataLoader, name: str) -> dict[str, Any]:
    """What the role of a process passes for its unit."""
    file = next(file for file in task_files(caller(name)) if name in file.read_text())
    trusted = loader.load_from_file(str(file), trusted_as_template=True)
    return next(task["vars"] for task in flat(trusted) if task.get("vars", {}).get("systemd_service_name") == name)


def unit_text(loader: DataLoader, folder: Path, name: str, **choices: Any) -> str:
    """The unit of a process by choices, from the call of its role."""
    variables = variables_for(loader, caller(name), folder)
    variables |= variables_for(loader, "systemd_service", folder) | passed_for(loader, name) | choices
    return render(loader, ROOT / "templates" / "systemd" / "service.j2", variables)


UNIT_NAMES = [name for name, _ in UNITS]


def test_the_four_processes_share_the_unit() -> None:
    assert sorted(UNIT_NAMES) == ["celery-beat", "celery-worker", "flower", "gunicorn"]


def pool_text(loader: DataLoader, folder: Path, pool: dict[str, Any], **choices: Any) -> str:
    """The unit of a pool of workers, from the call of its role."""
    passed = passed_for(loader, "celery-worker-{{ __celery_worker_pool.key }}")
    name, facts = "celery-worker-mail", [{"name": "celery-worker-mail", "kind": "worker"}]
    variables = variables_for(loader, "celery_worker", folder) | variables_for(loader, "systemd_service", folder)
    variables |= passed | {"__celery_worker_pool": {"key": "mail", "value": pool}, "systemd_service_name": name}
    return render(
        loader, ROOT / "templates" / "systemd" / "service.j2", variables | {"site_all_processes": facts} | choices
    )


def test_what_a_pool_does_not_say_is_as_it_is_for_the_plain_worker(loader: DataLoader, tmp_path: Path) -> None:
    choices = {"celery_worker_concurrency": 7, "celery_worker_memory_max": "1G", "celery_worker_log_level": "debug"}
    plain = unit_text(loader, tmp_path, "celery-worker", **choices)
    pool = pool_text(loader, tmp_path, {"queues": ["mail"]}, **choices)

    changed = {line.strip(" \\") for line in set(pool.splitlines()) ^ set(plain.splitlines()) if "--" in line}
    assert changed == {'"--queues=mail"'}
    assert "\nQueue=mail\n" in pool
    assert "Queue=" not in plain


def test_a_pool_has_what_is_said_of_it(loader: DataLoader, tmp_path: Path) -> None:
    said = {"queues": ["mail", 'a"b%c$'], "autoscale": [8, 2], "prefetch": 4, "nice": 10, "pool": "prefork"}
    limits = {"time_limit_seconds": 60, "soft_time_limit_seconds": 50, "max_tasks_per_child": 0, "memory_high": "300M"}
    text = pool_text(loader, tmp_path, said | limits, celery_worker_autoscale=[4, 1])

    for words in ("--autoscale=8,2", "--prefetch-multiplier=4", "--time-limit=60", "--soft-time-limit=50",
                  '"--queues=mail,a\\"b%%c$$"', "Nice=10", "MemoryHigh=300M"):  # fmt: skip
        assert words in text
    for words in ("--concurrency", "--max-tasks-per-child", "MemoryMax"):
        assert words not in text
    assert "--concurrency=3" in pool_text(
        loader, tmp_path, {"queues": ["a"], "concurrency": 3}, celery_worker_autoscale=[4, 1]
    )


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_runs_from_its_release_only(loader: DataLoader, tmp_path: Path, name: str) -> None:
    text = unit_text(loader, tmp_path, name)
    assert "{{" not in text
    assert "ExecStart=/srv/site/releases/@RELEASE@/venv/bin/" in text
    assert "/srv/site/current" not in text


def test_a_project_below_its_source_runs_where_its_modules_are(loader: DataLoader, tmp_path: Path) -> None:
    text = unit_text(loader, tmp_path, "celery-worker", site_source_folder="src")
    assert "WorkingDirectory=/srv/site/releases/@RELEASE@/app/src\n" in text
    assert "Environment=PYTHONPATH=/srv/site/releases/@RELEASE@/app/src " in text


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_has_each_directive_in_a_section_that_knows_it(loader: DataLoader, tmp_path: Path, name: str) -> None:
    sections: dict[str, list[str]] = {}
    section = ""
    joined = unit_text(loader, tmp_path, name).replace("\\\n", " ")
    for line in joined.splitlines():
        if line.startswith("["):
            section = line
        elif line.strip() and not line.startswith("#"):
            assert re.match(r"[A-Z][A-Za-z]+=", line), line
            sections.setdefault(section, []).append(line.partition("=")[0])
    assert list(sections) == ["[Unit]", "[Service]", "[X-Celeriac]", "[Install]"]
    assert "StartLimitIntervalSec" in sections["[Unit]"]
    assert {"ExecStart", "Restart", "NoNewPrivileges", "ProtectSystem"} <= set(sections["[Service]"])


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_may_write_to_the_folders_that_were_chosen_and_to_no_other(
    loader: DataLoader, tmp_path: Path, name: str
) -> None:
    def writable(**choices: Any) -> list[str]:
        return re.findall(r"^ReadWritePaths=(.*)$", unit_text(loader, tmp_path, name, **choices), re.MULTILINE)

    assert writable() == []
    assert writable(site_data_folders=["media", "keys"]) == ["/srv/site/data/media", "/srv/site/data/keys"]


def test_beat_keeps_its_runs_in_a_folder_of_its_own_that_all_releases_share(loader: DataLoader, tmp_path: Path) -> None:
    text = unit_text(loader, tmp_path, "celery-beat")
    (folder,) = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    (file,) = re.findall(r"--schedule=(\S+)", text)
    assert "@" not in folder
    assert Path(file).parent == Path("/var/lib", folder)


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_does_not_go_down_with_its_broker(loader: DataLoader, tmp_path: Path, name: str) -> None:
    text = unit_text(loader, tmp_path, name)
    tied = re.findall(r"^(?:Requires|BindsTo|Requisite)=.*$", text, re.MULTILINE)
    assert [line for line in tied if "redis" in line or "postgres" in line] == []


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_has_a_limit_of_memory_where_one_is_chosen(loader: DataLoader, tmp_path: Path, name: str) -> None:
    """And no line where none is: another text would replace the process."""
    role = name.replace("-", "_")
    assert "Memory" not in unit_text(loader, tmp_path, name).replace("MemoryDenyWriteExecute", "")

    text = unit_text(loader, tmp_path, name, **{f"{role}_memory_high": "600M", f"{role}_memory_max": "1.5G"})

    service = text.partition("[Service]")[2].partition("[X-Celeriac]")[0].splitlines()
    assert [line for line in service if re.match("Memory(High|Max)=", line)] == ["MemoryHigh=600M", "MemoryMax=1.5G"]


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_no_secret_is_in_a_unit(loader: DataLoader, tmp_path: Path, name: str) -> None:
    """Unit files are world-readable, and a command line is in everyone's `ps`."""
    with_all = {"site_database_login": "password"}
    text = unit_text(loader, tmp_path, name, **with_all)
    secrets = [file.read_text().strip() for file in tmp_path.rglob("*") if file.is_file()]
    variables = variables_for(loader, "systemd_service", tmp_path) | with_all
    templar = Templar(loader=loader, variables=variables)
    names = [key for key in variables if re.search(r"(password|secret|secret_key|token)$", key)]
    secrets += [str(templar.template(variables[key])) for key in names]
    assert names
    assert [secret for secret in secrets if secret and secret in text] == []


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_process_knows_its_boot_and_its_unit(loader: DataLoader, tmp_path: Path, name: str) -> None:
    """With the boot it proves that another process is dead. `%n` could be the alias, of which there may be two."""
    lines = unit_text(loader, tmp_path, name).splitlines()
    assert "Environment=CELERIAC_BOOT_ID=%b CELERIAC_UNIT=@UNIT@.service" in lines


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_process_stops_before_what_it_writes_to(loader: DataLoader, tmp_path: Path, name: str) -> None:
    """Else what it finishes while the host goes down has no result."""
    (after,) = re.findall(r"^After=(.*)$", unit_text(loader, tmp_path, name), re.MULTILINE)
    assert {"postgresql.service", "redis-server.service", "redis-server@results.service"} <= set(after.split())


# ── Results in Redis ─────────────────────────────────────────────────────────────────────────────


def value_of(loader: DataLoader, folder: Path, role: str, expression: str, **choices: Any) -> Any:
    """What a role makes of choices."""
    variables = variables_for(loader, role, folder) | choices
    return Templar(loader=loader, variables=variables).template(trust_as_template(f"{{{{ {expression} }}}}"))


@pytest.mark.parametrize(
    ("choice", "cached", "port", "told"),
    [
        ("redis", False, [6380], "redis://site:%24a%2Fb@127.0.0.1:6380/0"),
        ("django-db", False, [], "django-db"),
        ("django-db", True, [6380], "django-db"),
        ("project", False, [], ""),
        ("project", True, [6380], ""),
    ],
)
def test_results_have_a_redis_of_their_own(
    loader: DataLoader, tmp_path: Path, choice: str, cached: bool, port: list[int], told: str
) -> None:
    """Where they or what is cached are in Redis; its port is wanted nowhere else, and a project is not sent to it."""
    chosen = {"site_result_backend": choice, "site_redis_cache": cached}
    choices = chosen | {"site_redis_password": "$a/b"}
    wanted = value_of(loader, tmp_path, "preflight_host", "__preflight_host_results_ports", **chosen)
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", **choices)

    assert [item["port"] for item in wanted] == port
    assert given["CELERIAC_RESULT_BACKEND"] == told
    (listed,) = [
        entry
        for _, play in plays()
        for entry in play.get("roles", [])
        if isinstance(entry, dict) and entry["role"] == f"{COLLECTION}redis_results"
    ]
    assert value_of(loader, tmp_path, "redis_results", listed["when"], **chosen) is bool(port)


# ── The broker ───────────────────────────────────────────────────────────────────────────────────────

LOGIN = {"site_redis_password": "r p", "site_rabbitmq_password": "$a/b@", "site_secret_key": "k"}
HERE = "@127.0.0.1:5672/site"


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({}, {"REDIS_PORT": "6379"}),
        (
            {"site_broker": "rabbitmq"},
            {"CELERIAC_BROKER_URL": "amqp://site_MARK:%24a%2Fb%40" + HERE, "CELERIAC_CONSUMER_SECONDS": "604800"},
        ),
        (
            {"site_broker": "rabbitmq", "site_result_backend": "redis"},
            {"CELERIAC_BROKER_URL": "amqp://site_MARK:%24a%2Fb%40" + HERE, "REDIS_PORT": "6380"},
        ),
        (
            {"site_broker": "rabbitmq", "site_broker_before": "redis"},
            {
                "CELERIAC_BROKER_URL": "amqp://site_MARK:%24a%2Fb%40" + HERE,
                "CELERIAC_BROKER_BEFORE_URL": "redis://site:r%20p@127.0.0.1:6379/0",
                "REDIS_PORT": "6379",
            },
        ),
        (
            {"site_broker": "redis", "site_broker_before": "rabbitmq"},
            {"CELERIAC_BROKER_BEFORE_URL": "amqp://site_MARK:%24a%2Fb%40" + HERE, "REDIS_PORT": "6379"},
        ),
        (
            {"site_broker": "amqps://me@mq.mysite.org:5671/v", "site_broker_password": "a/b@\\1"},
            {"CELERIAC_BROKER_URL": "amqps://me:a%2Fb%40%5C1@mq.mysite.org:5671/v"},
        ),
        ({"site_broker": "redis://10.0.0.1/2"}, {"CELERIAC_BROKER_URL": "redis://10.0.0.1/2"}),
    ],
)
def test_a_process_is_told_of_the_broker_that_was_chosen(
    loader: DataLoader, tmp_path: Path, choices: dict[str, str], told: dict[str, str]
) -> None:
    """And of no other; nor of a Redis that is not there."""
    names = {"CELERIAC_BROKER_URL", "CELERIAC_BROKER_BEFORE_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"}
    chosen = LOGIN | choices
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", **chosen)
    user = value_of(loader, tmp_path, "site_host", "site_rabbitmq_user", **chosen)

    wanted = {name: text.replace("site_MARK", user) for name, text in told.items()}
    assert {name: str(given[name]) for name in wanted} == wanted
    expected = {*wanted} | ({"REDIS_HOST", "REDIS_PASSWORD"} if "REDIS_PORT" in wanted else set())
    assert given.keys() & names == expected & names


@pytest.mark.parametrize(
    ("choices", "roles"),
    [
        ({}, {"redis"}),
        ({"site_broker": "rabbitmq"}, {"rabbitmq"}),
        ({"site_broker": "rabbitmq", "site_broker_before": "redis"}, {"redis", "rabbitmq"}),
        ({"site_broker": "amqp://10.0.0.1"}, set()),
    ],
)
def test_a_host_has_the_brokers_that_it_needs(
    loader: DataLoader, tmp_path: Path, choices: dict[str, str], roles: set[str]
) -> None:
    listed = {
        entry["role"].removeprefix(COLLECTION): entry["when"]
        for _, play in plays()
        for entry in play.get("roles", [])
        if isinstance(entry, dict) and entry["role"] in {f"{COLLECTION}redis", f"{COLLECTION}rabbitmq"}
    }
    assert {name for name, when in listed.items() if value_of(loader, tmp_path, name, when, **choices)} == roles
    ports = value_of(loader, tmp_path, "preflight_host", "__preflight_host_ports", **choices)
    owners = {port["owner"] for port in ports if port["group"] == "broker"}
    assert owners == roles | ({"epmd"} if "rabbitmq" in roles else set())


def test_where_it_is_not_chosen_rabbitmq_costs_one_task() -> None:
    (task,) = (ROOT / "roles/rabbitmq/tasks/main.yml").read_text().split("- name:")[1:]
    assert "include_tasks" in task


@pytest.mark.parametrize("choices", [{"site_broker": "rabbitmq"}, {"site_broker": "redis"}])
def test_memory_is_wanted_for_the_broker_that_is_there(
    loader: DataLoader, tmp_path: Path, choices: dict[str, Any]
) -> None:
    at_times = value_of(loader, tmp_path, "preflight_host", "site_memory_at_times_mb", **choices)
    assert {name for name in at_times if "server" in name} == {f"a full {choices['site_broker']}-server"}


def test_what_an_inventory_says_of_the_environment_wins(loader: DataLoader, tmp_path: Path) -> None:
    given = value_of(
        loader,
        tmp_path,
        "site_host",
        "__site_host_process_environment",
        site_environment={"REDIS_PORT": "7000", "TIME_ZONE": None, "NOBODYS": None},
    )

    assert given["REDIS_PORT"] == "7000"
    assert not {"TIME_ZONE", "NOBODYS"} & given.keys()
    assert "SECRET_KEY" in given


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_process_has_its_own_environment_over_the_site_s(loader: DataLoader, tmp_path: Path, name: str) -> None:
    """Its settings are loaded by `celeriac.settings`, which must stay what Django is given."""
    role = name.replace("-", "_")
    passed = passed_for(loader, name)["systemd_service_own_environment"]
    chosen = {"A": "$b", "C": None, "DJANGO_SETTINGS_MODULE": "config.own", "FLOWER_MAX_TASKS": "5"}
    given = value_of(loader, tmp_path, role, "passed", passed=passed, **{f"{role}_environment": chosen})
    text = unit_text(loader, tmp_path, name, systemd_service_own_environment=given)
    own = value_of(
        loader, tmp_path, "systemd_service", "__systemd_service_environment", systemd_service_own_environment=given
    )

    files = ["/etc/site/environment", f"/etc/site/{name}.environment"]
    assert re.findall(r"(?m)^EnvironmentFile=(.*)$", text) == files
    assert "\nUnsetEnvironment=C\n" in text
    assert {"A": "$b", "CELERIAC_SETTINGS_MODULE": "config.own", "FLOWER_MAX_TASKS": "5"}.items() <= own.items()
    assert not {"C", "DJANGO_SETTINGS_MODULE"} & own.keys()
    assert ("CELERIAC_FLOWER_LOGIN" in own) == (name == "flower")
    assert "UnsetEnvironment" not in unit_text(loader, tmp_path, name)


def test_nothing_in_the_environment_has_a_meaning_for_celery(loader: DataLoader, tmp_path: Path) -> None:
    """It lets some of its own variables outrank a project's settings, and projects read the others."""
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment")

    assert [name for name in given if name.startswith("CELERY")] == []


def test_a_ready_value_is_that_of_the_account_that_reads_it(loader: DataLoader, tmp_path: Path) -> None:
    """The steps of a release run as the owner, who is another role in the database; what is the same is given once."""
    environment = trust_as_template(
        "{{ {'DB_USER': site_database_user, 'DB_URL': 'postgresql://' ~ site_database_user ~ '@/' ~ site_database,"
        " 'BROKER': site_broker_url, 'A': 'b', 'TIME_ZONE': None} }}"
    )
    choices = {"site_environment": environment, "site_redis_password": "a b:/?#@%é"}
    of_processes = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", **choices)
    of_steps = value_of(loader, tmp_path, "site_host", "__site_host_deploy_environment", **choices)

    assert (of_processes["DB_USER"], of_processes["DB_URL"]) == ("site", "postgresql://site@/site")
    assert (of_steps["DB_USER"], of_steps["DB_URL"]) == ("site_deploy", "postgresql://site_deploy@/site")
    assert not {"BROKER", "A", "TIME_ZONE"} & of_steps.keys()
    assert "CELERIAC_ADMIN_PASSWORD" in of_steps
    broker = urlsplit(of_processes["BROKER"])
    assert (unquote(broker.password or ""), broker.username, broker.port) == ("a b:/?#@%é", "site", 6379)


def test_a_setting_is_that_of_the_account_that_reads_it(loader: DataLoader, tmp_path: Path) -> None:
    """A project that reads no environment logs in to the database, too."""
    login = {
        "USER": trust_as_template("{{ site_database_user }}"),
        "PASSWORD": trust_as_template("{{ site_database_password }}"),
    }
    settings = {"DATABASES": {"default": login}, "A": '$"é'}
    choices = {
        "site_settings": settings,
        "site_media_url": "/files/",
        "site_database_login": "password",
        "vault_database_password": "processes'",
        "vault_database_owner_password": "owner's",
        "site_secret_key": "a key",
    }
    names = ("__site_host_process_environment", "__site_host_deploy_environment")
    given = [value_of(loader, tmp_path, "site_host", name, **choices)["CELERIAC_SETTINGS"] for name in names]
    logins = [json.loads(text).pop("DATABASES")["default"] for text in given]
    same = [{name: value for name, value in json.loads(text).items() if name != "DATABASES"} for text in given]

    known = value_of(loader, tmp_path, "postgresql", "__postgresql_users", **choices)
    assert [login["PASSWORD"] for login in logins] == ["processes'", "owner's"]
    assert {login["USER"]: login["PASSWORD"] for login in logins} == known
    assert same == [{"MEDIA_ROOT": "/srv/site/data/media", "MEDIA_URL": "/files/", "A": '$"é'}] * 2

    settings_of_all = {"site_settings": {"LANGUAGE_CODE": "de"}}
    assert "CELERIAC_SETTINGS" not in value_of(loader, tmp_path, "site_host", names[1], **settings_of_all)


def test_a_user_of_the_database_is_that_of_an_account_and_of_a_password(loader: DataLoader, tmp_path: Path) -> None:
    """The database knows those that the environment names, and a changed password is another user's."""
    environment = trust_as_template("{{ {'DB_USER': site_database_user, 'DB_PASSWORD': site_database_password} }}")

    def given(password: str) -> list[dict[str, str]]:
        choices = {
            "site_environment": environment,
            "site_database_login": "password",
            "vault_database_password": password,
            "vault_database_owner_password": "owner's",
            "site_secret_key": "a key",
        }
        names = ("__site_host_process_environment", "__site_host_deploy_environment")
        found = [value_of(loader, tmp_path, "site_host", name, **choices) for name in names]
        known = value_of(loader, tmp_path, "postgresql", "__postgresql_users", **choices)
        assert known == {each["DB_USER"]: each["DB_PASSWORD"] for each in found}
        return found

    (process, owner), (changed, same) = given("a"), given("b")
    assert (process["DB_PASSWORD"], owner["DB_PASSWORD"], changed["DB_PASSWORD"]) == ("a", "owner's", "b")
    assert re.fullmatch("site_[0-9a-f]{8}", process["DB_USER"])
    assert re.fullmatch("site_deploy_[0-9a-f]{8}", owner["DB_USER"])
    assert changed["DB_USER"] != process["DB_USER"]
    assert same["DB_USER"] == owner["DB_USER"]
    assert value_of(loader, tmp_path, "postgresql", "__postgresql_users") == {}


def test_a_file_of_the_inventory_is_made_for_each_account_that_reads_it(loader: DataLoader, tmp_path: Path) -> None:
    """What is the same for both is there once, whatever it looks like."""
    texts = {
        "ini": "user={{ site_database_user }}\n",
        "json": '{"broker": "{{ site_broker_url }}"}',
        "number": "{{ 7 }}",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    choices = {"site_files": {f"etc/{name}": name for name in texts}, "site_redis_password": "p"}
    made = value_of(loader, tmp_path, "site_release", "site_rendered_files", **choices)
    of_owner = value_of(loader, tmp_path, "site_release", "site_rendered_files_of_owner", **choices)

    assert made == {
        "etc/ini": "user=site\n",
        "etc/json": '{"broker": "redis://site:p@127.0.0.1:6379/0"}',
        "etc/number": "7",
    }
    assert of_owner == {"etc/ini": "user=site_deploy\n"}

    (tmp_path / "ini").write_text("{{ site_database_user }} {{ site_database_password }}")
    login = {
        "site_database_login": "password",
        "vault_database_password": "processes'",
        "vault_database_owner_password": "owner's",
        "site_secret_key": "a key",
    }
    names = ("site_rendered_files", "site_rendered_files_of_owner")
    texts_of = [value_of(loader, tmp_path, "site_release", name, **choices, **login)["etc/ini"] for name in names]
    known = value_of(loader, tmp_path, "postgresql", "__postgresql_users", **login)
    assert [text.split()[1] for text in texts_of] == ["processes'", "owner's"]
    assert dict(text.split() for text in texts_of) == known
    assert value_of(loader, tmp_path, "site_release", "site_rendered_files") == {}


@pytest.mark.parametrize(("queues", "asked"), [([], ""), (["mail", "letters"], "mail")])
def test_workers_are_asked_where_they_consume(
    loader: DataLoader, tmp_path: Path, queues: list[str], asked: str
) -> None:
    """A deploy would be undone for want of an answer."""
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", celery_worker_queues=queues)

    assert given["CELERIAC_PING_QUEUE"] == asked


# ── Settings ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choices", "settings"),
    [
        ({}, {}),
        ({"site_media_url": "/files/"}, {"MEDIA_ROOT": "/srv/site/data/media", "MEDIA_URL": "/files/"}),
        (
            {"site_media_url": "/files/", "site_settings": {"MEDIA_ROOT": "/mnt", "WORDS": ["é", True, None, "$x"]}},
            {"MEDIA_ROOT": "/mnt", "MEDIA_URL": "/files/", "WORDS": ["é", True, None, "$x"]},
        ),
    ],
)
def test_settings_reach_the_processes_as_they_were_chosen(
    loader: DataLoader, tmp_path: Path, choices: dict[str, Any], settings: dict[str, Any]
) -> None:
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", **choices)

    assert (given["DJANGO_SETTINGS_MODULE"], given["CELERIAC_SETTINGS_MODULE"]) == (
        "celeriac.settings",
        "TimeOut.settings",
    )
    assert json.loads(given["CELERIAC_SETTINGS"]) == settings


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choices", "settings"),
    [
        ({}, {}),
        ({"gunicorn_workers": 10}, {"max_connections": 106}),
        ({"gunicorn_workers": 10, "postgresql_settings": {"max_connections": 300}}, {"max_connections": 300}),
        ({"postgresql_settings": {"work_mem": "8MB"}}, {"work_mem": "8MB"}),
    ],
)
def test_postgresql_has_room_for_all_connections(
    loader: DataLoader, tmp_path: Path, choices: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Also in a play that runs none of the processes. Debian's own number does for most: no restart for those."""
    variables = variables_for(loader, "postgresql", tmp_path)
    for name in ("gunicorn_workers", "gunicorn_threads", "celery_worker_concurrency"):
        del variables[name]
    found = Templar(loader=loader, variables=variables | choices).template(
        trust_as_template("{{ __postgresql_settings }}")
    )

    assert found == settings


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yml")), ids=lambda path: path.stem)
def test_an_example_chooses_what_there_is(example: Path) -> None:
    choices = read(example)
    assert choices.keys() <= {name for role in defaults_files() for name in options_of(role)}
    files = choices.get("site_files", {}).values()
    assert [name for name in files if not (example.parent / name.removeprefix(".")).is_file()] == []


@pytest.mark.parametrize("of", ["migrate", "static"])
def test_a_command_is_that_of_the_account_that_runs_it(loader: DataLoader, tmp_path: Path, of: str) -> None:
    """Not of the processes, which have another user of the database."""
    environment, named = "__site_host_deploy_environment", f"CELERIAC_{of.upper()}_COMMANDS"
    choices = {f"site_{of}_commands": [["grant", trust_as_template("{{ site_database_user }}")]]}
    given = value_of(loader, tmp_path, "site_host", environment, site_user="shop", **choices)
    assert given[named] == "grant shop_deploy"


@pytest.mark.parametrize(
    ("role", "options"), [("site_release", ["hooks", "build_commands"]), ("site_rollback", ["hooks"])]
)
def test_a_hook_is_that_of_the_account_that_runs_it(
    loader: DataLoader, tmp_path: Path, role: str, options: list[str]
) -> None:
    """And so is a command that builds. A file for the processes, in the same task, is theirs."""
    user = trust_as_template("{{ site_database_user }}")
    (tmp_path / "user").write_text(user)
    choices = {
        "site_user": "shop",
        "site_release_hooks": {"before_switch": [user]},
        "site_build_commands": [["grant", user]],
        "site_files": {"user": "user"},
    }
    tasks = loader.load_from_file(str(ROOT / "roles" / role / "tasks/main.yml"), trusted_as_template=True)
    for task in [each for each in tasks if f"{COLLECTION}{role}" in each]:
        variables = variables_for(loader, role, tmp_path) | choices | task["vars"]
        module = task[f"{COLLECTION}{role}"]
        given = {name: Templar(loader=loader, variables=variables).template(module[name]) for name in options}

        expected = {"hooks": {"before_switch": ["shop_deploy"]}, "build_commands": [["grant", "shop_deploy"]]}
        assert given == {name: expected[name] for name in options}
        if role == "site_release":
            files = [Templar(loader=loader, variables=variables).template(module[name]) for name in FILES]
            assert files == [{"user": "shop"}, {"user": "shop_deploy"}]


@pytest.mark.parametrize("of", ["migrate", "static"])
def test_the_commands_of_a_step_arrive_as_they_are_chosen(loader: DataLoader, tmp_path: Path, of: str) -> None:
    words = ["themes", "--name=a 'b' \"c\" $d"]
    given = value_of(
        loader,
        tmp_path,
        "site_host",
        f"__site_host_deploy_environment.CELERIAC_{of.upper()}_COMMANDS",
        **{f"site_{of}_commands": [["migrate"], [*words, 3]]},
    )
    assert [shlex.split(line) for line in given.splitlines()] == [["migrate"], [*words, "3"]]


# ── The operator's commands ──────────────────────────────────────────────────────────────────────


def test_site_manage_runs_in_what_was_built_last_until_a_release_has_passed(loader: DataLoader, tmp_path: Path) -> None:
    """By what it gives to systemd, which a program in its place prints."""
    shown = tmp_path / "bin/systemd-run"
    shown.parent.mkdir()
    shown.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shown.chmod(0o755)
    root, command = tmp_path / "site", tmp_path / "site-manage"
    choices = {
        "site_root": str(root),
        "site_releases": str(root / "releases"),
        "command": "manage",
    }
    template = ROOT / "roles/site_host/templates/site-command.j2"
    command.write_text(render(loader, template, variables_for(loader, "site_host", tmp_path) | choices))

    def run(word: str = "check") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{shown.parent}:{os.environ['PATH']}"}
        words = ["sh", str(command), word]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert run().returncode == 1
    assert run().stderr == "site-manage: no release was built on this host yet\n"

    for number, name in enumerate(["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"]):
        (root / "releases" / name / "venv/bin").mkdir(parents=True)
        if name[0] != "c":  # of which only the code is there
            program = root / "releases" / name / "venv/bin/python"
            program.symlink_to("/usr/bin/python3")
            os.utime(program, (number, number), follow_symlinks=False)
    ran = run()
    assert ran.returncode == 0, ran.stderr
    python = f"{root}/releases/bbbbbbbbbbbb/venv/bin/python"
    assert ran.stdout.splitlines()[-4:] == [python, "-m", "celeriac.manage", "check"]
    assert "--property=EnvironmentFile=/etc/site/environment" in ran.stdout.splitlines()
    assert "--setenv=CELERIAC_RELEASE=bbbbbbbbbbbb" in ran.stdout.splitlines()
    assert "no release has passed on this host yet; this is bbbbbbbbbbbb" in ran.stderr

    release = root / "releases/bbbbbbbbbbbb"
    (release / "owner/etc").mkdir(parents=True)
    for name in ("etc/a.ini", "b.ini"):
        (release / "owner" / name).touch()
    of_each = {f"{release}/owner/{name}:{release}/app/{name}" for name in ("etc/a.ini", "b.ini")}
    assert "BindReadOnlyPaths" not in run().stdout  # runs as the account of the processes
    (bound,) = (line for line in run("migrate").stdout.splitlines() if "BindReadOnlyPaths" in line)
    # systemd takes a space at an end for a path.
    assert set(bound.removeprefix("--property=BindReadOnlyPaths=").split(" ")) == of_each


# ── Nginx ────────────────────────────────────────────────────────────────────────────────────────


def site_conf(loader: DataLoader, folder: Path, **choices: Any) -> str:
    """The site in nginx, by choices."""
    return render(
        loader,
        ROOT / "roles/nginx/templates/site.conf.j2",
        variables_for(loader, "nginx", folder) | choices,
    )


@pytest.mark.parametrize("chosen", [{}, {"gunicorn_timeout_seconds": 120}])
def test_nginx_waits_for_a_page_as_long_as_it_may_take(
    loader: DataLoader, tmp_path: Path, chosen: dict[str, int]
) -> None:
    """Also in a play that does not run the role whose choice it is."""
    variables = variables_for(loader, "nginx", tmp_path)
    default = variables.pop("gunicorn_timeout_seconds")
    text = render(
        loader,
        ROOT / "roles/nginx/templates/site.conf.j2",
        variables | chosen,
    )

    seconds = chosen.get("gunicorn_timeout_seconds", default)
    assert re.findall(r"proxy_(?:read|send)_timeout (\w+);", text)[:2] == [f"{seconds}s"] * 2


def test_what_asks_for_a_websocket_is_let_through_where_the_project_has_any(loader: DataLoader, tmp_path: Path) -> None:
    """And nothing else that would change the protocol; the application hears the same of a visitor."""
    texts = [site_conf(loader, tmp_path, site_asgi_application=asgi) for asgi in ("", "a.asgi:application")]
    headers = [re.findall(r"proxy_set_header (\S+) (.+);", locations(text)["/"]) for text in texts]
    assert headers[0] == []
    assert "$http_upgrade" not in texts[0]
    of_server = dict(re.findall(r"(?m)^    proxy_set_header (\S+) (.+);", texts[1]))
    changed = {"Upgrade": "$websocket", "Connection": "$connection_of_websocket"}
    assert dict(headers[1]) == of_server | changed
    assert re.findall(r'\$http_upgrade \$websocket \{\n +default "";\n +"~\*\^websocket\$" websocket;\n\}', texts[1])
    assert [name for name, text in locations(texts[1]).items() if "$websocket" in text] == ["/"]
    # nginx refuses a size of buckets behind the first map, and it reads what all sites share before them.
    assert "map_hash_bucket_size" in (ROOT / "roles/nginx/templates/shared.conf.j2").read_text()
    assert "map_hash_bucket_size" not in texts[1]


def test_an_event_loop_serves_a_project_on_asgi(loader: DataLoader, tmp_path: Path) -> None:
    """For as long as its websockets were promised, which a unit that is stopped waits for."""
    chosen = {"site_asgi_application": "a.asgi:application", "gunicorn_websocket_drain_seconds": 100}
    plain, asgi = (unit_text(loader, tmp_path, "gunicorn", **choices) for choices in ({}, chosen))
    for text, words, stops in (
        (plain, ["--worker-class=gthread", "--graceful-timeout=60", "celeriac.web.wsgi:application"], 75),
        (
            asgi,
            ["--worker-class=celeriac.web.server.Worker", "--graceful-timeout=160", "celeriac.web.asgi:application"],
            175,
        ),
    ):
        assert [word for word in words if f"  {word}" not in text] == []
        assert f"\nTimeoutStopSec={stops}\n" in text
    given = value_of(loader, tmp_path, "site_host", "__site_host_process_environment", **chosen)
    assert (given["CELERIAC_ASGI_APPLICATION"], given["CELERIAC_WSGI_APPLICATION"]) == ("a.asgi:application", "")
    needs = [value_of(loader, tmp_path, "gunicorn", "__site_web_connections", **choices) for choices in ({}, chosen)]
    assert needs == [16, 20]


@pytest.mark.parametrize("has_ipv6", [True, False])
@pytest.mark.parametrize("domain", ["www.mysite.test", "10.1.2.3"])
def test_nginx_listens_on_ipv6_where_the_kernel_has_it(
    loader: DataLoader, tmp_path: Path, domain: str, has_ipv6: bool
) -> None:
    choices = {"site_domain": domain, "__nginx_ipv6": {"stat": {"exists": has_ipv6}}}
    listening = re.findall(r"^    listen (.*);$", site_conf(loader, tmp_path, **choices), re.MULTILINE)

    plain = [how for how in listening if not how.startswith("[")]
    assert {how.split()[0] for how in plain} == {"80", "443"}
    assert [how for how in listening if how.startswith("[")] == [f"[::]:{how}" for how in plain if has_ipv6]


@pytest.mark.parametrize("name", ["default", "shop"])
def test_who_asks_is_whom_a_balancer_names_in_the_way_that_was_chosen(
    loader: DataLoader, tmp_path: Path, name: str
) -> None:
    """Each server asks for itself; where nobody is believed nothing says so, and nobody need speak another protocol."""
    believed = {"site_name": name, "nginx_trusted_proxies": ["10.0.0.4", "fd00::/64"]}
    none, header, protocol = (
        site_conf(loader, tmp_path, **chosen)
        for chosen in ({"site_name": name}, believed, believed | {"nginx_proxy_protocol": True})
    )

    assert "real_ip" not in none
    for text, how in ((header, "X-Forwarded-For"), (protocol, "proxy_protocol")):
        assert re.findall(r"set_real_ip_from (\S+);", text) == ["10.0.0.4", "fd00::/64"] * 2
        assert re.findall(r"real_ip_header (\S+);", text) == [how] * 2
    assert "proxy_protocol" not in none + header


def test_behind_the_proxy_protocol_the_host_itself_still_reaches_nginx(loader: DataLoader, tmp_path: Path) -> None:
    """What asks on the host (the steps of a release, the status) comes through no balancer."""
    chosen = {"nginx_trusted_proxies": ["10.0.0.4"], "nginx_proxy_protocol": True}
    variables = variables_for(loader, "nginx", tmp_path) | chosen
    for name, ports in (("site", ("80", "443")), ("shared", ("443",))):
        text = render(loader, ROOT / f"roles/nginx/templates/{name}.conf.j2", variables)
        listening = {how.split()[0]: how for how in re.findall(r"^    listen (.*);$", text, re.MULTILINE)}
        for port in ports:
            assert "proxy_protocol" in listening[port]
            assert "proxy_protocol" in listening[f"[::]:{port}"]
            assert "proxy_protocol" not in listening[f"127.0.0.1:{port}"]


@pytest.mark.parametrize("attempts", [0, 20])
def test_nginx_knows_no_flower_where_there_is_none(loader: DataLoader, tmp_path: Path, attempts: int) -> None:
    text = site_conf(loader, tmp_path, groups={}, site_login_attempts=attempts)

    assert "flower" not in re.sub("#.*", "", text).lower()
    assert ("limit_req zone=tries_a_form" in text) is bool(attempts)
    # On whichever host it is: haproxy has its socket there, too.
    elsewhere = {"group_names": ["web"], "site_login_attempts": attempts}
    assert "location /flower/" in site_conf(loader, tmp_path, **elsewhere)


def test_flower_opens_with_the_sessions_that_were_chosen(loader: DataLoader, tmp_path: Path) -> None:
    """By default with those that may do everything anyway; and nothing of it is there where none is chosen."""
    of_all = ("superusers", "staff", "nobody")
    texts = {whose: site_conf(loader, tmp_path, site_flower_sessions=whose) for whose in of_all}

    asked = {whose: re.findall("/-/celeriac/session/(.+);", text) for whose, text in texts.items()}
    assert asked == {"superusers": ["superusers"], "staff": ["staff"], "nobody": []}
    assert texts["superusers"] == site_conf(loader, tmp_path)
    assert [word for word in ("Bearer", "session;", "log_in", "error_page 401") if word in texts["nobody"]] == []
    assert "auth_request /flower/api/signed-in;" in texts["nobody"]
    # All sites of a host see the maps of all, and one of these knows a log-in.
    maps = re.findall(r"(?m)^map \S+ \$(\w*flower\w*) ", site_conf(loader, tmp_path, site_name="shop"))
    assert len(maps) == 4
    assert [name for name in maps if not name.startswith("shop_")] == []


def test_nginx_is_never_started_with_the_welcome_page() -> None:
    """It listens on IPv6 too, and Debian's package fails where it cannot be started."""
    tasks = [str(task) for task in tasks_of(ROOT / "roles/nginx/tasks/main.yml")]
    (welcome,) = [number for number, text in enumerate(tasks) if "sites-enabled/default" in text]

    assert ["'nginx'" in text for text in tasks if "debian_packages" in text] == [False, True]
    assert "'nginx-common'" in "".join(tasks[:welcome])
    assert "'nginx'" not in "".join(tasks[:welcome])


def locations(text: str) -> dict[str, str]:
    """Return what nginx does below each path."""
    return dict(re.findall(r"^    location (\S+) \{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL))


def test_files_that_outlive_a_release_are_served_where_it_was_chosen(loader: DataLoader, tmp_path: Path) -> None:
    """And nowhere else; those that are private only to who is sent there by a view."""
    before = locations(site_conf(loader, tmp_path))
    chosen = {"site_media_url": "/files/", "site_private_folders": ["invoices"]}
    after = locations(site_conf(loader, tmp_path, **chosen))

    assert after.keys() - before.keys() == {"/files/", "/-/private/invoices/"}
    assert "alias /srv/site/data/media/;" in after["/files/"]
    assert "alias /srv/site/data/invoices/;" in after["/-/private/invoices/"]
    assert ["internal;" in after[path] for path in ("/files/", "/-/private/invoices/")] == [False, True]


def test_of_uploads_only_those_are_served_that_are_for_everybody(loader: DataLoader, tmp_path: Path) -> None:
    before = locations(site_conf(loader, tmp_path))
    after = locations(site_conf(loader, tmp_path, site_media_url="/files/", site_media_folders=["pub", "a/b"]))

    assert after.keys() - before.keys() == {"/files/pub/", "/files/a/b/"}
    assert "alias /srv/site/data/media/pub/;" in after["/files/pub/"]
    assert "alias /srv/site/data/media/a/b/;" in after["/files/a/b/"]


def test_static_files_are_served_at_the_address_of_the_project(loader: DataLoader, tmp_path: Path) -> None:
    default = locations(site_conf(loader, tmp_path))["/static/"]
    other = locations(site_conf(loader, tmp_path, site_static_url="/a.b/"))

    assert "/static/" not in other
    assert other["/a.b/"].replace("        rewrite ^/a\\.b/(.*)$ /static/$1 break;\n", "") == default
    assert other["/a.b/"] != default


# What an inventory with several web hosts says.
SEVERAL: dict[str, Any] = {
    "groups": {"web": ["h1", "h2", "h3"], "workers": ["h3", "h4"]},
    "hostvars": {f"h{number}": {"ansible_host": f"10.0.0.{number}"} for number in range(1, 5)},
}


def servers(text: str) -> list[str]:
    """Return the servers of nginx, one after the other."""
    return re.findall(r"^server \{\n.*?^\}", text, re.MULTILINE | re.DOTALL)


def test_a_web_host_asks_the_others_for_files_that_it_does_not_have(loader: DataLoader, tmp_path: Path) -> None:
    """Of them alone, and each shows who it is. What it has for the others asks nobody: no question goes round."""
    text = site_conf(loader, tmp_path, **SEVERAL)

    (asked,) = re.findall(r"^upstream peers \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"server (\S+) max_fails=1", asked) == ["10.0.0.2:8443", "10.0.0.3:8443"]
    known = locations(servers(text)[1])
    assert "@static_of_peers" in known["@static_without_hash"]
    for line in ("proxy_ssl_verify on;", "proxy_ssl_name web;", "certificate /etc/site/member/member.pem;", "http_404"):
        assert line in known["@static_of_peers"]
    for_others = servers(text)[-1]
    assert re.findall("listen (.*);", for_others) == ["127.0.0.1:8443"]
    assert "proxy_pass" not in for_others
    assert sorted(locations(for_others)) == ["/", "/static/", "@static_without_hash"]
    # Else each file that nobody has would cost a second, for as long as the other one is away.
    two = SEVERAL | {"groups": {"web": ["h1", "h2"]}}
    assert "server 127.0.0.1:8443 down;" in site_conf(loader, tmp_path, **two)


def test_a_web_host_alone_asks_nobody(loader: DataLoader, tmp_path: Path) -> None:
    alone = site_conf(loader, tmp_path, **SEVERAL | {"groups": {"web": ["h1"], "workers": ["h4"]}}, nginx_tls="acme")

    assert "peers" not in alone
    assert len(servers(alone)) == 2


def test_an_authority_that_asks_another_web_host_gets_an_answer(loader: DataLoader, tmp_path: Path) -> None:
    text = site_conf(loader, tmp_path, **SEVERAL, nginx_tls="acme")

    for_all, _, for_others = (locations(server) for server in servers(text))
    path = "/.well-known/acme-challenge/"
    assert "try_files $uri @challenge_of_peers;" in for_all[path]
    assert "https://peers;" in for_all["@challenge_of_peers"]
    assert for_others[path].split() == ["root", "/run/nginx-acme;"]


def test_only_web_hosts_have_files_for_others_and_nobody_is_led_there(loader: DataLoader, tmp_path: Path) -> None:
    def names(fact: str, group: str, **choices: Any) -> list[str]:
        found = value_of(loader, tmp_path, "nginx", fact, **SEVERAL | {"group_names": [group]} | choices)
        return [each["name"] for each in found]

    assert "web" in names("site_offers", "web")
    assert "web" not in names("site_offers", "workers")
    assert "web" not in names("site_routes", "web") + names("site_routes", "workers")
    assert "web" not in names("site_offers", "web", groups={"web": ["h1"], "workers": ["h4"]})
    # Its certificate need not be another one when a second web host comes.
    certificate = value_of(loader, tmp_path, "nginx", "site_member_names", groups={"web": ["h1"], "workers": ["h4"]})
    assert "web" in certificate


def keepalived_conf(loader: DataLoader, folder: Path, **choices: Any) -> str:
    """The address that web hosts share, by choices."""
    variables = variables_for(loader, "keepalived", folder) | SEVERAL | {"site_virtual_address": "10.0.0.100"} | choices
    return render(loader, ROOT / "roles/keepalived/templates/site.conf.j2", variables)


def test_the_address_that_web_hosts_share_stays_where_it_is_while_they_are_alike(
    loader: DataLoader, tmp_path: Path
) -> None:
    """When a host comes back, and when none can answer: each is worth the same, and less where it cannot."""
    text = keepalived_conf(loader, tmp_path)

    assert re.findall(r"^    (?:state|priority|weight) (.*)$", text, re.MULTILINE) == ["-50", "BACKUP", "100"]
    assert re.findall(r"^    unicast_peer \{\n(.*?)    \}", text, re.MULTILINE | re.DOTALL)[0].split() == [
        "10.0.0.2",
        "10.0.0.3",
    ]
    assert "10.0.0.100/32 dev eth1" in text
    assert "track_interface" not in text
    apart = keepalived_conf(loader, tmp_path, keepalived_interface="eth0", site_virtual_address="192.0.2.1/24")
    assert "192.0.2.1/24 dev eth0" in apart
    assert re.findall(r"track_interface \{\n(.*)\n", apart) == ["        eth0"]
    assert "interface eth1" in apart


def test_the_host_itself_is_asked_where_the_answer_matters_and_nobody_else_is_told(
    loader: DataLoader, tmp_path: Path
) -> None:
    asked = re.findall(r"https://\S+?(/\S+)\"", keepalived_conf(loader, tmp_path))
    text = site_conf(loader, tmp_path, **SEVERAL, site_virtual_address="10.0.0.100", site_health_path="/well/?deep=1")

    (answer,) = re.findall(rf"location = {asked[0]} \{{\n(.*?)^    \}}", text, re.MULTILINE | re.DOTALL)
    assert "proxy_pass http://gunicorn/well/?deep=1;" in answer
    assert [line.strip() for line in answer.splitlines()[1:3]] == ["allow 127.0.0.1;", "deny all;"]
    assert "location = /well/ {" in text
    assert asked[0] not in site_conf(loader, tmp_path, **SEVERAL)


@pytest.mark.parametrize("enabled", [True, False])
def test_who_has_the_address_is_agreed_upon_by_web_hosts_alone(
    loader: DataLoader, tmp_path: Path, enabled: bool
) -> None:
    def heard(**choices: Any) -> list[str]:
        variables = variables_for(loader, "firewall", tmp_path) | SEVERAL | {"firewall_enabled": enabled} | choices
        text = render(loader, ROOT / "roles/firewall/templates/firewall.nft.j2", variables)
        return [line.strip() for line in text.splitlines() if "l4proto 112" in line]

    mine = "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } meta l4proto 112 accept"
    # All that are let in, and then nobody else: those of another site of the host, too.
    theirs = {"entry": {"address": "fd00::1", "members": ["fd00::2", "fd00::3"]}, "groups": ["web"]}
    assert heard(site_virtual_address="10.0.0.100") == [mine, "meta l4proto 112 drop"]
    assert heard(site_virtual_address="10.0.0.100", site_others=[theirs]) == [
        mine,
        "ip6 saddr { fd00::2, fd00::3 } meta l4proto 112 accept",
        "meta l4proto 112 drop",
    ]
    assert heard() == heard(site_virtual_address="10.0.0.100", group_names=["workers"]) == []


def test_log_ins_need_not_be_counted(loader: DataLoader, tmp_path: Path) -> None:
    assert "limit_req" in site_conf(loader, tmp_path)
    assert "limit_req" not in site_conf(loader, tmp_path, site_login_attempts=0)
