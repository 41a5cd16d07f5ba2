"""What a host needs follows the choices, and a host that has less is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import UNRESOLVED, Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.memory import fault_of_host, fault_of_limit

MODULE = "celeriac.site.site_host_memory"
ALWAYS = {"gunicorn": 200, "Debian": 100}
AT_TIMES = {"a deploy": 300}


@pytest.mark.parametrize(
    ("memory", "swap", "passes"),
    [(600, 0, True), (599, 0, False), (300, 300, True), (300, 299, False), (299, 1000, False)],
)
def test_swap_does_for_what_is_there_at_times(memory: int, swap: int, passes: bool) -> None:
    assert (fault_of_host(memory, swap, ALWAYS, AT_TIMES) == "") is passes


def test_a_host_is_told_what_needs_how_much() -> None:
    fault = fault_of_host(250, 0, ALWAYS, AT_TIMES)
    assert "250 MB of memory and 0 MB of swap" in fault
    assert "300 MB of memory (gunicorn 200, Debian 100)" in fault
    assert "300 MB more in either (a deploy 300)" in fault


@pytest.mark.parametrize("value", ["infinity", "1G", "1.5G", "600M", "524288K", 629145600, None])
def test_a_limit_that_a_process_can_live_with_passes(value: Any) -> None:
    assert fault_of_limit(value, 512) == ""


@pytest.mark.parametrize("value", ["511M", "0.4G", "524287K", "1000000", 0])
def test_a_limit_below_what_a_process_has_at_rest_is_refused(value: Any) -> None:
    assert "512 MB" in fault_of_limit(value, 512)
    assert fault_of_limit(value, None) == ""


@pytest.mark.parametrize("value", ["", "1 G", "1GB", "-1", "none", "50%", "1e9", "1g"])
def test_what_is_no_size_is_refused(value: str) -> None:
    assert "systemd" in fault_of_limit(value, None)


# ── What the choices need ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def needs(inventory: Any, root: Path) -> Any:
    """What a host needs when these lines are among the choices."""

    def worked_out(name: str, choices: str = "", host: str = "h1") -> dict[str, int]:
        inventory.choose(choices)
        loader = DataLoader()
        loader.set_basedir(str(root / "playbooks"))
        found: dict[str, int] = Inventory(inventory.bundle, loader, [str(inventory.folder)], {}).value(host, name)
        return found

    return worked_out


def test_more_processes_need_more_memory(needs: Any) -> None:
    before = needs("site_memory_mb") | needs("site_memory_at_times_mb")
    after = needs("site_memory_mb", "gunicorn_workers: 3\ncelery_worker_concurrency: 4\nredis_maxmemory_mb: 300\n")
    after |= needs("site_memory_at_times_mb")

    assert after["gunicorn"] - before["gunicorn"] == 55
    assert after["celery-worker"] - before["celery-worker"] == 2 * 50
    assert after["a deploy"] - before["a deploy"] == 55 + 2 * 50
    assert after["a full redis-server"] == 300
    # A connection each: of a thread in two sets, of a task in three.
    assert after["postgresql"] - before["postgresql"] == 3 * (2 * 4 + 3 * 2)


def test_each_pool_counts(needs: Any) -> None:
    pools = "celery_worker_pools: { a: { queues: [a], concurrency: 5 }, b: { queues: [b], autoscale: [3, 0] } }\n"
    before, after = needs("site_memory_mb"), needs("site_memory_mb", pools)

    assert (after["celery-worker-a"], after["celery-worker-b"]) == (55 + 5 * 50, 55 + 3 * 50)
    assert after["celery-worker"] == before["celery-worker"]
    assert after["postgresql"] - before["postgresql"] == 3 * 3 * (6 + 4)


def test_commands_count_always_and_timers_at_times(needs: Any) -> None:
    before = needs("site_memory_at_times_mb")
    chosen = "site_commands: { a: { command: [a] }, b: { command: [b], overlap: true } }\n"
    chosen += "site_timers: { c: { command: [c], every: hourly } }\n"
    always, at_times = needs("site_memory_mb", chosen), needs("site_memory_at_times_mb")

    assert (always["a"], always["b"], "c" in always) == (80, 80, False)
    assert at_times["a deploy"] - before["a deploy"] == 80
    assert (at_times["the timers"], "the timers" in before) == (80, False)


def test_a_worker_that_grows_needs_what_it_may_grow_to(needs: Any) -> None:
    assert needs("site_memory_mb", "celery_worker_autoscale: [7, 1]\n")["celery-worker"] == 55 + 7 * 50


def test_tasks_in_threads_share_a_process(needs: Any) -> None:
    few = needs("site_memory_mb", "celery_worker_pool: threads\n")["celery-worker"]
    assert needs("site_memory_mb", "celery_worker_concurrency: 100\n")["celery-worker"] == few


@pytest.mark.parametrize("name", ["site_memory_mb", "site_memory_at_times_mb", "site_database_connections"])
def test_what_rests_on_the_host_is_not_known_before(needs: Any, name: str) -> None:
    """It is not taken for nothing; which processes there are is known all the same."""
    concurrency = "celery_worker_concurrency: \"{{ ansible_facts['site_host'].cpus }}\"\n"
    assert needs(name, concurrency) is UNRESOLVED
    assert "celery-worker" in needs("site_processes")


def test_a_host_needs_what_its_own_part_does(inventory: Any, needs: Any) -> None:
    text = (inventory.folder / "hosts.yml").read_text()
    text = text.replace("      ansible_port: 9\n", "      ansible_port: 9\n    h2:\n")
    inventory.hosts(text.replace("broker: { hosts: { h1: } }", "broker: { hosts: { h2: } }"))

    assert list(needs("site_memory_mb", host="h2")) == ["Debian"]
    assert list(needs("site_memory_at_times_mb", host="h2")) == ["a full redis-server"]
    assert list(needs("site_memory_at_times_mb")) == ["a deploy"]


@pytest.mark.parametrize("choice", ["site_result_backend: redis", "site_redis_cache: true"])
def test_results_in_redis_need_memory_of_their_own(needs: Any, choice: str) -> None:
    assert "a full redis-server@results" not in needs("site_memory_at_times_mb")
    assert needs("site_memory_at_times_mb", f"{choice}\n")["a full redis-server@results"] == 128


# ── A real run ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("memory", "refused"), [(780, False), (700, True)])
def test_a_host_with_too_little_is_refused_by_a_run(
    ansible_playbook: Any, tmp_path: Path, memory: int, refused: bool
) -> None:
    task = {
        "name": "The host has the memory for its part of the site",
        MODULE: {"memory_mb": memory, "swap_mb": 0, "always_mb": {"gunicorn": 750}, "at_times_mb": {}},
    }
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"name": "A host", "hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    run = ansible_playbook("-i", "localhost,", play)

    assert (run.returncode != 0) is refused, run.stdout
    assert ("preflight_host_memory_mb: 700" in run.stdout) is refused, run.stdout
    assert ("needs 750 MB of memory (gunicorn 750)" in run.stdout) is refused, run.stdout


def test_the_role_asks_for_what_the_choices_need(root: Path) -> None:
    tasks = DataLoader().load_from_file(str(root / "roles/preflight_host/tasks/main.yml"))
    (arguments,) = [task[MODULE] for task in tasks if MODULE in task]

    assert "site_memory_mb" in arguments["always_mb"]
    assert "site_memory_at_times_mb" in arguments["at_times_mb"]
