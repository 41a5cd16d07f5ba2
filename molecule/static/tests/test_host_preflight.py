"""A host that cannot carry its part is refused; the one who holds a port is named."""

from __future__ import annotations

import ast
import fcntl
import os
import pwd
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import site_names
from hypothesis import given
from hypothesis import strategies as st

from testkit.certificates import Certificate, certificate
from testkit.loading import load

FILE = Path(__file__).resolve().parents[3] / "plugins" / "modules" / "site_host_preflight.py"

# The module as Python has it; Ansible sends it to hosts as a program.
host = load(FILE)

DEBIAN_13 = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
FEDORA = 'PRETTY_NAME="Fedora Linux 42"\nVERSION_ID="42"\nID=fedora\n'
DEBIAN_11 = 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nVERSION_ID="11"\nID=debian\n'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this computer that this test holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_python_of_an_old_debian_can_read_the_module() -> None:
    ast.parse(FILE.read_text(), feature_version=(3, 9))


def test_supported_debians_pass() -> None:
    for text in (DEBIAN_13, DEBIAN_13.replace("13", "12")):
        assert host.distribution_fault(host.os_release(text), untested=False) is None
        assert host.distribution_warning(host.os_release(text)) is None


def test_backups_on_another_host_are_refused_where_they_cannot_be_made() -> None:
    debian_12 = host.os_release(DEBIAN_13.replace("13", "12"))
    assert "`backup_repository` is ssh" in host.backup_fault(debian_12, "ssh").what
    assert host.backup_fault(debian_12, "s3") is None
    assert host.backup_fault(host.os_release(DEBIAN_13), "ssh") is None


@pytest.mark.parametrize("text", [UBUNTU, DEBIAN_11, "ID=debian\n", "", FEDORA])
def test_other_systems_are_refused_by_name(text: str) -> None:
    fault = host.distribution_fault(host.os_release(text), untested=False)
    assert host.os_release(text).get("PRETTY_NAME", "an unknown system") in fault.what
    assert "Debian 13" in fault.example


def test_a_relative_of_debian_is_let_through_with_a_warning_where_that_is_chosen() -> None:
    release = host.os_release(UBUNTU)
    assert "site_untested_host: true" in host.distribution_fault(release, untested=False).example
    assert host.distribution_fault(release, untested=True) is None
    assert "Ubuntu 24.04 LTS" in host.distribution_warning(release)


def test_what_is_no_relative_of_debian_is_refused_whatever_is_chosen() -> None:
    for text in (FEDORA, ""):
        assert "site_untested_host" not in host.distribution_fault(host.os_release(text), untested=True).example


def test_only_systemd_may_be_process_1() -> None:
    assert host.init_fault("systemd") is None
    assert "tini" in host.init_fault("tini").what


def test_python_of_debian_12_is_new_enough_and_that_of_debian_11_is_not() -> None:
    assert host.python_fault((3, 11, 2)) is None
    assert "3.9.2" in host.python_fault((3, 9, 2)).what
    assert "missing" in host.python_fault(()).what


def test_a_host_without_the_python_that_was_chosen_is_refused_with_those_it_has(tmp_path: Path) -> None:
    """One whose apt has never asked its archive may get it."""
    fault = host.interpreter_fault("python3.12", {"python3.9", "python3.13"})
    assert fault is not None
    assert fault.what == "The host has no python3.12, and neither has its apt: there is python3.9, python3.13."
    assert fault.example.startswith('site_python: "3.13"')
    assert host.interpreter_fault("python3.13", {"python3.13"}) is None
    assert host.interpreter_fault("", {"python3.13"}) is None

    assert host.known_pythons(tmp_path) == set()
    assert host.interpreter_fault("python3.12", set()) is None
    (tmp_path / "deb.debian.org_main_Packages").touch()
    assert "python{}.{}".format(*host.distribution_python()) in host.known_pythons(tmp_path)


@pytest.mark.parametrize(
    ("every", "comes"),
    [("*:0/5", True), ("Mon *-*-* 06:00 Europe/Berlin", True), ("sometimes", False), ("*-02-30", False), ("", False)],
)
def test_a_time_that_no_calendar_knows_is_refused(every: str, comes: bool) -> None:
    faults = [*host.calendar_faults({"fine": "hourly", "report": every})]
    assert [fault.what.partition(",")[0] for fault in faults] == ([] if comes else ["`site_timers` has `report`"])
    assert all(fault.example.startswith('every: "*:0/5"') for fault in faults)


def test_folders_on_one_full_disk_are_one_problem() -> None:
    faults = list(host.disk_faults({"/srv": 100, "/var": 100}, 2048))
    assert len(faults) == 1
    assert "/srv and /var, 100 MB" in faults[0].what
    assert list(host.disk_faults({"/srv": 2048, "/var": 9999}, 2048)) == []


def test_an_account_of_somebody_is_refused_by_name() -> None:
    (fault,) = host.account_faults(["root", "no_such_account"], "/srv/site")
    root = pwd.getpwnam("root")
    assert "account root" in fault.what
    assert f"home {root.pw_dir}, shell {root.pw_shell}" in fault.what
    assert "site_user: " in fault.example


def test_an_account_that_a_run_has_made_is_not_refused() -> None:
    nobody = pwd.getpwnam("nobody")
    assert nobody.pw_shell == "/usr/sbin/nologin"
    assert list(host.account_faults(["nobody"], nobody.pw_dir)) == []
    assert len(list(host.account_faults(["nobody"], "/srv/site"))) == 1
    # Its home alone does not make it one: somebody may log in with it.
    assert len(list(host.account_faults(["root"], pwd.getpwnam("root").pw_dir))) == 1


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("00000000:0050", "0.0.0.0", 80),
        ("0100007F:18EB", "127.0.0.1", 6379),
        ("00000000000000000000000000000000:01BB", "::", 443),
        ("00000000000000000000000001000000:1538", "::1", 5432),
        ("0000000000000000FFFF00000100007F:0016", "127.0.0.1", 22),
    ],
)
def test_addresses_of_proc_net_are_read(text: str, address: str, port: int) -> None:
    assert host.parse_address(text) == (address, port)


@pytest.mark.parametrize(
    ("wanted", "held", "collide"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("*", "10.0.0.7", True),
        ("127.0.0.1", "10.0.0.7", False),
    ],
)
def test_a_listener_on_another_address_is_in_nobodys_way(wanted: str, held: str, collide: bool) -> None:
    assert host.collides(wanted, held) is collide


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/system-postgresql.slice/postgresql@17-main.service\n",
         "postgresql@17-main.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/redis-server.service\n", "redis-server.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_unit_of_a_process_is_known_under_both_cgroup_layouts(cgroups: str, unit: str) -> None:
    assert host.unit_of(cgroups) == unit


@pytest.mark.parametrize(
    ("name", "unit", "owner", "passes"),
    [
        ("nginx", "nginx.service", "nginx", True),
        ("postgres", "postgresql@17-main.service", "postgres", True),
        ("celery", "flower-0123456789ab.service", "flower", True),
        ("apache2", "apache2.service", "nginx", False),
        ("python3", "", "flower", False),
    ],
)
def test_a_port_is_left_to_the_program_that_should_have_it(name: str, unit: str, owner: str, passes: bool) -> None:
    fault = host.port_fault(80, owner, [host.Holder(812, name, unit)])
    assert (fault is None) is passes
    if fault:
        assert f"{name} (pid 812" in fault.what
        assert (unit or "ss") in fault.example


def test_a_holder_that_cannot_be_seen_is_refused_too() -> None:
    assert "cannot be seen" in host.port_fault(80, "nginx", []).what


def test_the_holder_of_a_real_socket_is_found(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listeners = list(host.parse_listeners(Path("/proc/net/tcp").read_text()))
    wanted = {"port": port, "address": "*", "owner": "nginx", "group": "web"}
    (fault,) = host.port_faults([wanted], listeners, Path("/proc"))
    assert f"Port {port}, which nginx needs" in fault.what
    assert f"(pid {os.getpid()}" in fault.what
    mine = wanted | {"owner": host.describe(os.getpid(), Path("/proc")).name}
    assert list(host.port_faults([mine], listeners, Path("/proc"))) == []


def test_a_closed_socket_holds_nothing(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    listeners = list(host.parse_listeners(Path("/proc/net/tcp").read_text()))
    assert port not in [item.port for item in listeners]


def test_the_one_who_holds_dpkgs_lock_is_found() -> None:
    locks = "1: POSIX  ADVISORY  WRITE 812 fe:01:1234 0 EOF\n2: FLOCK  ADVISORY  READ 9 fe:01:7 0 EOF\n"
    assert host.lock_holder(locks, 1234) == 812
    assert host.lock_holder(locks, 7) is None


def test_a_lock_that_is_really_held_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        inode = (tmp_path / "lock").stat().st_ino
        assert host.lock_holder(Path("/proc/locks").read_text(), inode) == os.getpid()
    assert host.lock_holder(Path("/proc/locks").read_text(), inode) is None


@given(st.text())
def test_no_text_of_proc_makes_it_fail(text: str) -> None:
    host.os_release(text)
    host.lock_holder(text, 1)
    host.meminfo_mb(text, "MemTotal")
    list(host.parse_listeners(text))


def test_a_unit_of_somebody_elses_is_refused_and_one_of_ours_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "UNIT_FOLDERS", (tmp_path,))
    (tmp_path / "cron.service").write_text("[Service]\n")
    (tmp_path / "consumer.service").write_text("PartOf=site.target\n[Service]\n\n[X-Celeriac]\nKind=command\n")
    (tmp_path / "periodic.timer").write_text("# Ansible managed\n[Unit]\nPartOf=site.target\n")

    (fault,) = host.name_faults(["cron", "consumer", "periodic", "other"], site_names.Names())

    assert "The unit cron.service of the host is somebody else's" in fault.what


def test_facts_are_those_of_this_computer() -> None:
    facts = host.host_facts([], site_names.Names())
    assert facts["memory_mb"] > 100
    assert facts["swap_mb"] >= 0
    assert facts["cpus"] >= 1
    assert facts["python"].startswith("3.")


def test_a_real_run_names_who_holds_the_port(inventory: Any, ansible_playbook: Any, listener: socket.socket) -> None:
    """As it is, without root: one's own processes can always be seen."""
    port = listener.getsockname()[1]
    local = "ansible_connection: local\n      ansible_become: false"
    text = (inventory.folder / "hosts.yml").read_text()
    inventory.hosts(text.replace("ansible_port: 9", local))
    inventory.choose(
        f"preflight_host_ports: [{{ group: web, port: {port}, owner: nginx }}]\npreflight_host_free_disk_mb: 99999999\n"
    )
    run = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, "--check", "--diff")
    assert run.returncode != 0
    assert f"Port {port}, which nginx needs, is held by" in run.stdout, run.stdout
    assert f"(pid {os.getpid()}" in run.stdout
    assert "99999999 MB are wanted" in run.stdout
    assert run.stdout.count("The host h1 has") == 1
    assert "changed=0" in run.stdout


@pytest.mark.parametrize(
    ("told", "brokers", "refused"),
    [
        (None, ["rabbitmq"], ""),
        ("", ["redis"], ""),
        ("", ["rabbitmq"], "redis"),
        ("", ["rabbitmq", "redis"], ""),
        ("amqp://site_1:p@127.0.0.1:5672/site", ["rabbitmq"], ""),
        ("amqp://site_1:p@127.0.0.1:5672/site", ["redis"], "rabbitmq"),
        ("amqp://site_1:p@127.0.0.1:5672/site", ["redis", "rabbitmq"], ""),
        ("amqps://site:p@mq.mysite.org/site", ["redis"], ""),
        ("amqp://site:p@mq.mysite.org/site", ["redis"], ""),
        ("", ["redis://site@redis.mysite.org/0"], "redis"),
        ("amqp://site_1:p@127.0.0.1:5672/site", ["amqp://site@mq.mysite.org/site"], "rabbitmq"),
        ("", ["amqps://site@mq.mysite.org/site"], "redis"),
    ],
)
def test_what_waits_in_the_broker_that_serves_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None, brokers: list[str], refused: str
) -> None:
    monkeypatch.setattr(host, "UNITS", tmp_path)
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path)
    environment = tmp_path / "site/environments/celery-worker-0123456789ab"
    if told is not None:
        environment.mkdir(parents=True)
        line = f'CELERIAC_BROKER_URL="{told}"\n' if told else ""
        (environment / "environment").write_text(f'A="b"\n{line}')
        (tmp_path / "celery-worker.service").symlink_to("celery-worker-0123456789ab.service")

    fault = host.broker_fault(host.served_brokers(["celery-worker", "gunicorn"], site_names.Names()), brokers)

    assert bool(fault) is bool(refused)
    if fault:
        assert f"site_broker_before: {refused}" in fault.example


@pytest.mark.parametrize(
    ("found", "node", "refused"),
    [
        ([], "rabbit@10.0.0.1", False),
        (["rabbit@10.0.0.1", "rabbit@10.0.0.1-feature_flags"], "rabbit@10.0.0.1", False),
        (["rabbit@localhost", "rabbit@localhost-plugins-expand"], "rabbit@10.0.0.1", True),
        (["rabbit@10.0.0.1"], "rabbit@localhost", True),
        (["rabbit@localhost"], "", False),
    ],
)
def test_a_rabbitmq_that_had_another_name_is_refused(
    found: list[str], node: str, refused: bool, tmp_path: Path
) -> None:
    for name in found:
        (tmp_path / name).mkdir()

    fault = host.node_fault(node, tmp_path)

    assert bool(fault) is refused
    if fault:
        assert f"mv {tmp_path / found[0]} " in fault.example


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Whom the host does not know, and a certificate of theirs for localhost."""
    return certificate(tmp_path_factory.mktemp("authority"))


@contextmanager
def speaking(made: Certificate | None) -> Iterator[int]:
    """Answer whoever connects, over TLS or without; give the port."""
    context = None
    if made:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)

    def answer() -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            with plain, suppress(OSError):
                if context:
                    context.wrap_socket(plain, server_side=True).close()
                else:
                    plain.sendall(b"-ERR this is no TLS\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
def test_a_broker_elsewhere_answers_the_host_and_is_trusted(authority: Certificate, scheme: str) -> None:
    ours = [authority.authority.read_text()]
    with speaking(authority) as port:
        right = f"{scheme}://site@localhost:{port}/0"
        another = right.replace("localhost", "127.0.0.1")

        assert host.elsewhere_fault(right, ours) is None
        untrusted, mismatch = host.elsewhere_fault(right, []), host.elsewhere_fault(another, ours)
        assert untrusted.what.startswith(
            f"`site_broker` is {right}, and the host does not trust the certificate there: "
        )
        assert untrusted.example.startswith("site_ca_certificates: [files/company.crt]")
        assert "the certificate there is another one's: IP address mismatch" in mismatch.what
        assert f"site_broker: {scheme}://" in mismatch.example
    away = host.elsewhere_fault(right, ours)
    assert f"localhost:{port} does not answer the host: Connection refused" in away.what
    assert f"site_broker: {scheme}://site@mq.mysite.org:{port}/site" in away.example
    unknown = host.elsewhere_fault(f"{scheme}://site@mq.site.invalid/site", ours)
    assert f"mq.site.invalid:{host.BROKER_PORTS[scheme]} does not answer the host: " in unknown.what
    with speaking(None) as port:
        plain = host.elsewhere_fault(f"{scheme}://site@localhost:{port}/0", ours)
    assert f"localhost:{port} does not speak TLS" in plain.what
    assert f"site_broker: {scheme[:-1]}://" in plain.example


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_one_without_tls_only_has_to_answer(scheme: str) -> None:
    with speaking(None) as port:
        assert host.elsewhere_fault(f"{scheme}://site@localhost:{port}/0", []) is None
    assert "does not answer the host" in host.elsewhere_fault(f"{scheme}://site@localhost:{port}/0", []).what


@pytest.mark.parametrize("own", ["redis", "rabbitmq"])
def test_of_a_broker_of_the_bundle_nothing_is_asked(own: str) -> None:
    assert host.elsewhere_fault(own, []) is None
