"""Backups on another host, and in a store from which a fresh host becomes one that burnt.

With `--full`, for it takes minutes and a second machine.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.lab import MACHINE, Site
from stack.load import Load
from stack.machine import Machine
from stack.store import BUCKET, KEY, NAME, PORT, Store

# Of the log, each closed after a minute: the third says that the first was closed a minute ago.
SEGMENTS = 3
UPLOADS = "head -c 20000000 /dev/urandom > /srv/site/data/media/film && chown site: /srv/site/data/media/film"


# An account that can do nothing but to move files, in a folder of its own.
ACCOUNT = """
useradd --system --create-home --home-dir /home/backup-of-site --shell /usr/sbin/nologin backup-of-site
install -d -m 0700 /home/backup-of-site/.ssh
cat > /home/backup-of-site/.ssh/authorized_keys
install -d /srv/backups /srv/backups/of-nobody
install -d /srv/backups/site
chown -R backup-of-site: /home/backup-of-site /srv/backups/site
cat > /etc/ssh/sshd_config.d/backup-of-site.conf <<'END'
Match User backup-of-site
    ForceCommand internal-sftp
    ChrootDirectory /srv/backups
END
systemctl reload ssh
"""
# What each fault is, by a line that makes it, and what is said of it.
FAULTS = {
    "key=$(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub); sed -i \"s# .*# $key#\" /etc/site/backup.known_hosts": (
        "backup_ssh_host_key"
    ),
    "ssh-keygen -q -t ed25519 -N '' -f /root/other; cat /root/other > /etc/site/backup.ssh_key": "vault_backup_ssh_key",
    "sed -i 's#/site/#/of-nobody/#' /etc/site/backup.environment /etc/pgbackrest/conf.d/site.conf": "backup_ssh_folder",
}
TOLD = " ".join(f"/etc/{name}" for name in ("site/backup.*", "pgbackrest/conf.d/site.conf"))


@pytest.fixture(scope="module")
def elsewhere(folder: Path, full: bool) -> Iterator[tuple[Machine, str]]:
    """Another machine, and its address."""
    if not full:
        pytest.skip("with --full")
    name = "production-other"
    subprocess.run([MACHINE, "up", name], check=True)
    try:
        variables = json.loads(subprocess.check_output([MACHINE, "inventory", name]))
        inventory = folder / "other.json"
        inventory.write_text(json.dumps({"all": {"hosts": {name: variables}}}))
        yield Machine(name, inventory, folder), variables["ansible_host"]
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


def rows_now(site: Site) -> tuple[str, set[int]]:
    """Return which segment of the log is written, and the rows that are there."""
    query = "SELECT pg_walfile_name(pg_current_wal_insert_lsn()), json_agg(id) FROM probe_run"
    segment, _, rows = site.postgres(query).partition("|")
    return segment, set(json.loads(rows))


def known(site: Site, address: str) -> None:
    """Let the host find the store by its name."""
    site.machine.feed(f"grep -q {NAME} /etc/hosts || echo {address} {NAME} >> /etc/hosts")


def test_backups_on_another_host_are_restored_and_each_fault_is_named(
    site: Site, elsewhere: tuple[Machine, str], tmp_path: Path
) -> None:
    there, address = elsewhere
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    there.feed(key.with_suffix(".pub").read_text(), "sh", "-ec", ACCOUNT)
    host_key = there.root.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    choose(
        site,
        backup_repository="ssh",
        backup_ssh_host=address,
        backup_ssh_host_key=host_key,
        backup_ssh_user="backup-of-site",
        backup_ssh_folder="/site",
        vault_backup_ssh_key=key.read_text(),
    )
    release = site.workshop.make()
    run(site, "site.yml", *release.arguments)
    site.machine.feed(UPLOADS)
    sums = site.data()
    run(site, "playbooks/backup.yml", "--extra-vars", "label=there")
    site.machine.systemctl("start", "backup-verify", "backup-verify-files")
    # Nobody there can read it without the pass phrase, not even what there is, and no process of the site has the key.
    assert there.root.run("find /srv/backups/site -name backup.manifest | grep -q .").succeeded
    assert there.root.run("grep -rqa backup-label /srv/backups/site").failed
    assert site.machine.root.run("runuser -u site -- cat /etc/site/backup.ssh_key").failed

    site.postgres("DELETE FROM probe_run")
    site.machine.feed("rm /srv/site/data/media/film")
    run(site, "playbooks/restore.yml", "--extra-vars", "to=there", "--extra-vars", "confirm=yes")
    assert site.data() == sums

    site.machine.root.check_output(f"tar -cf /root/told.tar --absolute-names {TOLD}")
    for fault, choice in FAULTS.items():
        site.machine.feed(fault)
        for unit in ("backup-files", "backup-database"):
            assert site.machine.root.run(f"systemctl start {unit}").failed, fault
            assert choice in said(site, unit)
        site.machine.root.check_output("tar -xf /root/told.tar --absolute-names")
    assert site.web.get("/").status == 200
    site.machine.systemctl("start", "backup-files", "backup-database")


def test_a_host_that_is_gone_comes_back_from_a_store_by_two_commands(
    site: Site, elsewhere: tuple[Machine, str], folder: Path, tmp_path: Path, figures: list[str]
) -> None:
    machine, address = elsewhere
    there = Store(machine)
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

    # And a pass phrase that is another than that of the repository.
    another = "cp -a {0} /root/before && sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=another/' {0}"
    settings = "/etc/pgbackrest/conf.d/site.conf"
    site.machine.root.check_output(another.format(settings))
    for unit in ("backup-database", "backup-verify"):
        assert site.machine.root.run(f"systemctl start {unit}").failed
        assert "the pass phrase is not the one that the repository was made with" in said(site, unit)
    site.machine.root.check_output(f"cp -a /root/before {settings}")
    site.machine.systemctl("start", "backup-files", "backup-database")

    # Under load it is gone, from one moment to the next.
    seen: list[tuple[str, set[int]]] = []
    plan = site.plan(requests=8, tasks=4, seconds=3600, probe=True)
    with Load(plan, tmp_path / "load.txt") as load:
        while len({segment for segment, _ in seen}) < SEGMENTS:
            seen.append(rows_now(site))
            time.sleep(1)
        last = site.postgres("SELECT last_archived_wal FROM pg_stat_archiver")
        subprocess.run([MACHINE, "kill", site.machine.name], check=True)
        load.stop()
    subprocess.run([MACHINE, "down", site.machine.name], check=True)
    began = time.monotonic()
    subprocess.run([MACHINE, "up", site.machine.name], check=True)
    known(site, address)
    fresh = run(site, "site.yml", *release.arguments)
    assert "The repository has the backups of another database" in fresh
    run(site, "playbooks/restore.yml", "--extra-vars", "to=latest", "--extra-vars", "confirm=yes")

    took = time.monotonic() - began
    _, found = rows_now(site)
    # What was there while a segment was written that has reached the store, is there.
    kept = set[int]().union(*(rows for segment, rows in seen if segment <= last))
    assert kept
    assert kept <= found
    lost = set[int]().union(*(rows for _, rows in seen)) - found
    figures.append(f"from a store: {len(kept)} rows were to come back, and did; {len(lost)} behind them are lost")
    figures.append(f"from a store: {took:.0f} s from a bare host")
    assert site.data() == sums
    status = run(site, "playbooks/status.yml")
    assert "has failed" not in status
    # The next backup is one of what was restored.
    site.machine.systemctl("start", "backup-database", "backup-verify")
