"""`ansible-playbook site.yml` on a host that has it all, every way people run it: nothing changes, nothing fails."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from stack.documented import documented
from stack.machine import BROKER_UNIT, Machine
from stack.play import Play
from stack.playbook import REPOSITORY, Run
from testinfra.host import Host

from testkit.waiting import eventually

pytestmark = [pytest.mark.once, pytest.mark.debian(13)]

UNITS = ("celery-worker",)
TRANSPORTS = {"redis-server": "celeriac", "rabbitmq-server": "amqp"}

# Where the collection is installed on the host itself, beside a project and an inventory.
FOLDER = "/opt/ops"
PROJECT = "site"
GROUPS = ("web", "workers", "beat", "monitor", "broker", "database")


def test_run_without_the_accelerator_changes_nothing(ansible: partial[Run]) -> None:
    run = ansible("-vv", "--diff", strategy="linear")

    assert run.status == 0, run.output
    assert run.changed == 0, run.output
    assert run.ran("celeriac.site.site_health : The site works"), run.output


def test_check_mode_foresees_nothing(ansible: partial[Run]) -> None:
    run = ansible("--check", "--diff")

    assert run.status == 0, run.output
    assert (run.changed, run.trouble) == (0, 0), run.output


def test_run_of_the_installed_collection_on_the_host_itself_changes_nothing(admin: Host, operated: str) -> None:
    run = admin.run(f"cd {operated} && .venv/bin/ansible-playbook celeriac.site.site")
    done = Run(run.rc, run.stdout)

    assert done.status == 0, run.stdout + run.stderr
    assert (done.changed, done.trouble) == (0, 0), run.stdout
    assert done.ran("celeriac.site.site_health : The site works"), run.stdout


def test_status_is_shown_without_our_callback_plugin_too(admin: Host, operated: str) -> None:
    callback = "ANSIBLE_STDOUT_CALLBACK=ansible.builtin.default"
    run = admin.run(f"cd {operated} && {callback} .venv/bin/ansible-playbook celeriac.site.status")

    assert run.rc == 0, run.stdout + run.stderr
    assert f"broker: {TRANSPORTS[BROKER_UNIT]}, " in run.stdout, run.stdout


def test_health_is_asked_alone_too(inventory: Path, tmp_path: Path) -> None:
    run = Play("playbooks/health.yml", inventory, log=tmp_path / "health.log").wait()

    assert run.status == 0, run.output
    assert run.ran("celeriac.site.site_health : The site works"), run.output


def test_a_second_run_is_refused_until_the_first_is_killed(machine: Machine, inventory: Path, tmp_path: Path) -> None:
    def start(playbook: str) -> Play:
        return Play(playbook, inventory, log=tmp_path / f"{Path(playbook).name}.log")

    first = start("site.yml")
    try:
        note = "cat /run/site-run.json"
        eventually(lambda: f"pid {first.pid}" in machine.root.run(note).stdout or not first.running(), 120)
        refused = start("playbooks/edge.yml").wait()
        assert first.running(), first.output
    finally:
        first.kill()
    assert refused.status != 0
    assert "another run is at work on this host: site.yml by" in refused.output, refused.output

    allowed = start("playbooks/edge.yml").wait()
    assert allowed.status == 0, allowed.output


@pytest.fixture(scope="module")
def operated(
    machine: Machine, inventory: Path, choices: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A folder on the host itself, with an Ansible of its own, the collection, and an inventory of one local host."""
    machine.root.check_output("install -d -m 0700 -o %s %s", machine.variables["ansible_user"], FOLDER)
    try:
        machine.feed(
            packed(machine.name, inventory, choices, tmp_path_factory.mktemp("built")), "tar", "-xC", FOLDER, sudo=False
        )
        # The release has brought uv to the host. Of the control environment only what a run needs.
        machine.feed(
            f"""
            set -eu
            cd {FOLDER}
            uv=$(ls /srv/site/tools/uv-*/bin/uv)
            export UV_NO_CACHE=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
            $uv venv --quiet --python /usr/bin/python3
            $uv pip install --quiet --constraint requirements.txt ansible-core mitogen passlib
            .venv/bin/ansible-galaxy collection install --collections-path collections celeriac-site-*.tar.gz
            """,
            sudo=False,
        )
        yield FOLDER
    finally:
        machine.root.check_output("rm -rf %s", FOLDER)


def packed(name: str, inventory: Path, choices: dict[str, object], folder: Path) -> bytes:
    """Return a tar file of the collection, the project, and what docs/collection.md has beside them."""
    subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", folder], cwd=REPOSITORY, check=True)
    (built,) = folder.glob("*.tar.gz")
    listed = subprocess.check_output(["git", "ls-files", "-z", PROJECT], cwd=REPOSITORY, text=True)
    local = {name: {"ansible_connection": "local"}}
    hosts = {"all": {"hosts": local, "children": {group: {"hosts": {name: {}}} for group in GROUPS}}}
    chosen = {**choices, "site_source": f"{FOLDER}/{PROJECT}"}
    texts = {
        "ansible.cfg": documented()["ansible.cfg"],
        "inventory/hosts.yml": yaml.safe_dump(hosts),
        "inventory/group_vars/all.yml": yaml.safe_dump(chosen),
    }
    target = BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.add(built, built.name)
        for path in ("requirements.txt", *filter(None, listed.split("\0"))):
            tar.add(REPOSITORY / path, path)
        tar.add(inventory / ".secrets", "inventory/.secrets")
        for path, text in texts.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            tar.addfile(entry, BytesIO(text.encode()))
    return target.getvalue()
