"""A host burns, and a fresh one becomes it from a store: with `--full`, for it takes minutes and a second machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.lab import MACHINE, Site
from stack.machine import Machine
from stack.store import BUCKET, KEY, NAME, PORT, Store

from testkit.waiting import eventually

UPLOADS = "head -c 20000000 /dev/urandom > /srv/site/data/media/film && chown site: /srv/site/data/media/film"


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[tuple[Store, str]]:
    """The store, and its address."""
    name = "production-store"
    subprocess.run([MACHINE, "up", name], check=True)
    try:
        variables = json.loads(subprocess.check_output([MACHINE, "inventory", name]))
        inventory = folder / "store.json"
        inventory.write_text(json.dumps({"all": {"hosts": {name: variables}}}))
        yield Store(Machine(name, inventory, folder)), variables["ansible_host"]
    finally:
        subprocess.run([MACHINE, "down", name], check=True)


def choose(site: Site, **choices: object) -> None:
    """Let the inventory choose more."""
    inventory = json.loads(site.machine.inventory.read_text())
    inventory["all"]["vars"] |= choices
    site.machine.inventory.write_text(json.dumps(inventory))


def run(site: Site, playbook: str, *arguments: str) -> str:
    """Run a playbook, which must succeed; return what it printed, on one line."""
    done = site.start(playbook, *arguments).wait()
    assert done.status == 0, done.output
    return " ".join(done.output.split())


def said(site: Site, unit: str) -> str:
    """Return the last line of a unit."""
    words: str = site.machine.root.check_output(f"journalctl --sync; journalctl --identifier={unit} -n 1 -o cat")
    return words


def known(site: Site, address: str) -> None:
    """Let the host find the store by its name."""
    site.machine.feed(f"grep -q {NAME} /etc/hosts || echo {address} {NAME} >> /etc/hosts")


def test_a_host_that_is_gone_comes_back_from_a_store_by_two_commands(
    site: Site, full: bool, folder: Path, figures: list[str], request: pytest.FixtureRequest
) -> None:
    if not full:
        pytest.skip("with --full")
    there, address = request.getfixturevalue("store")
    (folder / "store.crt").write_text(there.certificate)
    known(site, address)
    choose(
        site,
        backup_repository="s3",
        backup_s3_endpoint=f"{NAME}:{PORT}",
        backup_s3_bucket=BUCKET,
        backup_s3_key_id=KEY,
        vault_backup_s3_key="a/secret+of=s3",
        site_ca_certificates=[str(folder / "store.crt")],
    )
    release = site.workshop.make()
    run(site, "site.yml", *release.arguments)
    site.machine.feed(UPLOADS)
    sums = site.data()
    run(site, "playbooks/backup.yml", "--extra-vars", "label=last")
    site.machine.systemctl("start", "backup-verify", "backup-verify-files")

    # The store is away for a while: that is told, and nothing else happens.
    there.stop()
    assert site.machine.root.run("systemctl start backup-files").failed
    assert "the store is away" in said(site, "backup-files")
    assert site.machine.root.run("systemctl start backup-database").failed
    assert "the store is away" in said(site, "backup-database")
    assert site.web.get("/").status == 200
    there.start()

    # So is a key that the store does not know.
    wrong = "sed -i 's/{0}$/AKIA2/' /etc/pgbackrest/conf.d/site.conf /etc/site/backup.environment"
    site.machine.root.check_output(wrong.format(KEY))
    for unit in ("backup-files", "backup-database"):
        assert site.machine.root.run(f"systemctl start {unit}").failed
        assert "the store does not take the key: backup_s3_key_id" in said(site, unit)
    site.machine.root.check_output(wrong.replace("AKIA2", KEY).format("AKIA2"))
    site.machine.systemctl("start", "backup-files", "backup-database")

    archived = "SELECT extract(epoch FROM now() - last_archived_time) FROM pg_switch_wal(), pg_stat_archiver"
    eventually(lambda: float(site.postgres(archived)) < 10, 120, pause=2)
    rows = site.postgres("SELECT coalesce(json_agg(id), '[]') FROM probe_run WHERE at < now() - interval '90 s'")

    subprocess.run([MACHINE, "down", site.machine.name], check=True)
    subprocess.run([MACHINE, "up", site.machine.name], check=True)
    known(site, address)
    fresh = run(site, "site.yml", *release.arguments)
    assert "The repository has the backups of another database" in fresh
    run(site, "playbooks/restore.yml", "--extra-vars", "to=latest", "--extra-vars", "confirm=yes")

    found = site.postgres(
        f"SELECT count(*) FROM probe_run WHERE id IN (SELECT json_array_elements_text('{rows}')::bigint)"
    )
    figures.append(f"from a store: {found} of {len(json.loads(rows))} rows")
    assert int(found) == len(json.loads(rows)) > 0
    assert site.data() == sums
    status = run(site, "playbooks/status.yml")
    assert "has failed" not in status
    # The next backup is one of what was restored.
    site.machine.systemctl("start", "backup-database", "backup-verify")
