"""Somebody is told what is wrong, by a real mail server over TLS with a log-in: once, and once when it is over.

The tests are in the order in which this happens to a site. Each look is asked for; the timer stands still.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from stack import watch
from stack.lab import Site
from stack.machine import Machine

from testkit.certificates import certificate
from testkit.ports import free_port

UNIT = "site-alerts.service"
NAME, USER, PASSWORD = "mail.site.test", "mysite", "a'b c$%"
TO, FROM = "ops@site.test", "site@site.test"
TRUSTED = "/usr/local/share/ca-certificates/mail-of-tests.crt"
FULL = "/srv/site/data/full"
NOT_DUE = """
mkdir -p /run/systemd/system/site-alerts.timer.d
printf '[Timer]\\nOnCalendar=\\nOnCalendar=yearly\\n' > /run/systemd/system/site-alerts.timer.d/of-tests.conf
systemctl daemon-reload
systemctl restart site-alerts.timer
"""
DUE_AGAIN = "rm -rf /run/systemd/system/site-alerts.timer.d; systemctl daemon-reload"
# A unit that is not started again, and then ends.
FAILS = """
mkdir -p /run/systemd/system/{unit}.d
printf '[Service]\\nRestart=no\\n' > /run/systemd/system/{unit}.d/of-tests.conf
systemctl daemon-reload
systemctl kill --signal=KILL {unit}
while systemctl is-active --quiet {unit}; do sleep 0.1; done
"""
IS_MENDED = "rm -r /run/systemd/system/{unit}.d; systemctl daemon-reload; systemctl start {unit}"
# The process of its note is one that lives.
A_DEPLOY_IS_AT_WORK = """
printf 'a deploy of tests, pid 1\\n%s\\n' "$(cut -d' ' -f22 /proc/1/stat)" > /srv/site/deploy.lock
"""


class Mailbox:
    """A mail server of this computer, which the host knows as `mail.site.test`.

    Args:
        machine: the host.
        folder: for its certificate.
    """

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._received: list[EmailMessage] = []
        pair = certificate(folder, NAME)
        gateway = machine.root.check_output("ip -4 route show default | sed 's/.* via \\([^ ]*\\) .*/\\1/'")
        machine.feed(pair.authority.read_text(), "tee", TRUSTED)
        machine.root.check_output("update-ca-certificates 2>&1; sed -i '/%s/d' /etc/hosts; echo %s %s >> /etc/hosts",
                                  NAME, gateway, NAME)  # fmt: skip
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._address, self.port = gateway, free_port()
        self._server: Controller | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take an e-mail."""
        assert session.ssl, "it came in the clear"
        assert isinstance(envelope.content, bytes)
        assert envelope.rcpt_tos == [TO]
        self._received.append(BytesParser(EmailMessage, policy=policy.default).parsebytes(envelope.content))
        return "250 OK"

    def _knows(self, *words: object) -> AuthResult:
        data = words[-1]
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right)

    def start(self) -> None:
        """Be there."""
        self._server = Controller(
            self,
            hostname=self._address,
            port=self.port,
            tls_context=self._context,
            require_starttls=True,
            authenticator=self._knows,
            auth_required=True,
        )
        self._server.start()

    def stop(self) -> None:
        """Be away."""
        if self._server:
            self._server.stop()
        self._server = None

    def new(self) -> list[str]:
        """Return what came since it was asked last: subject and text of each e-mail."""
        came, self._received = self._received, []
        assert {(message["From"], message["To"]) for message in came} <= {(FROM, TO)}
        return [f"{message['Subject']}\n{message.get_content()}" for message in came]


@pytest.fixture(scope="module")
def mailbox(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """A mail server that is there, and a site that tells it what is wrong; afterwards nobody is told any more."""
    watch.start(site.machine)
    release = site.healthy()
    folder = tmp_path_factory.mktemp("mail")
    mailbox = Mailbox(site.machine, folder)
    chosen = folder / "alerts.json"
    chosen.write_text(
        json.dumps(
            {
                "site_alerts_email": TO,
                "site_alerts_from": FROM,
                "site_alerts_smtp_server": NAME,
                "site_alerts_smtp_port": mailbox.port,
                "site_alerts_smtp_user": USER,
                "vault_site_alerts_smtp_password": PASSWORD,
                "site_alerts_queue_seconds": 0,
            }
        )
    )
    words = [*release.arguments, "--extra-vars", f"@{chosen}", "--tags", "site_alerts", "--diff"]
    run, again = (site.start("playbooks/processes.yml", *words).wait() for _ in range(2))
    assert run.status == 0, run.output
    assert PASSWORD not in run.output
    assert again.changed == 0, again.output
    assert site.machine.state("site-alerts.timer") == "active"
    # It goes on, for the status says when it does not, and is not due while the tests last.
    site.machine.feed(NOT_DUE)
    mailbox.start()
    yield mailbox
    mailbox.stop()
    site.machine.feed(DUE_AGAIN)
    site.machine.root.check_output("rm -f %s; update-ca-certificates 2>&1; sed -i '/%s/d' /etc/hosts", TRUSTED, NAME)


def look(site: Site, times: int = 2, *, fails: bool = False) -> None:
    """Let the host be looked at."""
    for _ in range(times):
        done = site.machine.root.run("systemctl start %s", UNIT)
        assert done.failed == fails, site.machine.last_words((UNIT,))


@contextmanager
def ends_soon(site: Site) -> Iterator[None]:
    """Let the certificate be one that ends in five days."""
    file, kept = "/etc/nginx/site.crt", "/run/kept.crt"
    words = "req -x509 -newkey rsa:2048 -noenc -days 5 -subj /CN=short -keyout /dev/null -out"
    site.machine.root.check_output(f"cp {file} {kept}; openssl {words} {file} 2>&1")
    try:
        yield
    finally:
        site.machine.root.check_output(f"cat {kept} > {file}; rm {kept}")


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """Let a disk of the site be full."""
    site.machine.root.check_output(
        f"mkdir -p {FULL}; mount -t tmpfs -o size=1m tmpfs {FULL}; head -c 1000000 /dev/zero > {FULL}/file"
    )
    try:
        yield
    finally:
        site.machine.root.check_output(f"umount {FULL}; rmdir {FULL}")


def test_a_person_can_try_whether_it_arrives(site: Site, mailbox: Mailbox) -> None:
    said = site.machine.root.check_output("site-alerts test")

    assert TO in said
    (came,) = mailbox.new()
    assert "[www.site.test] a test" in came
    assert site.machine.name in came


def test_of_a_healthy_host_nobody_is_told(site: Site, mailbox: Mailbox) -> None:
    look(site)

    assert mailbox.new() == []


def test_a_unit_that_has_failed_is_told_at_once_and_once(site: Site, mailbox: Mailbox) -> None:
    unit = site.machine.show("celery-beat", "Id")
    site.machine.feed(FAILS.format(unit=unit))
    try:
        look(site, 1)
        (came,) = mailbox.new()
        assert "celery-beat is failed, since " in came
        assert f"journalctl -u {unit} -n 50; systemctl restart celery-beat" in came
        look(site)
        assert mailbox.new() == []
    finally:
        site.machine.feed(IS_MENDED.format(unit=unit))
    look(site)
    (came,) = mailbox.new()
    assert "celery-beat is failed (it is no more)" in came


def test_what_is_amiss_is_told_in_one_e_mail_and_in_one_when_all_is_well(site: Site, mailbox: Mailbox) -> None:
    with full_disk(site), site.machine.stopped("celery-worker"):
        site.send("probe.quick", "waits", count=3)
        with ends_soon(site):
            look(site, 1)
            assert mailbox.new() == []
            look(site)
            (came,) = mailbox.new()
            assert "celery-worker is inactive, since " in came
            assert "systemctl restart celery-worker" in came
            assert f"the disk of {FULL} is 9" in came
            assert "the certificate ends at " in came
            assert re.search(r"the queue celery has not been empty, \d+ wait", came)
            look(site, 1)
            assert mailbox.new() == []
    site.works(30)
    look(site, 3)
    (came,) = mailbox.new()
    assert "New:" not in came
    assert "celery-worker is inactive (it is no more)" in came
    assert f"the disk of {FULL}" in came


def test_what_could_not_be_sent_is_seen_and_sent_later(site: Site, mailbox: Mailbox) -> None:
    mailbox.stop()
    with full_disk(site):
        look(site, 1)
        look(site, 2, fails=True)
        status = site.start("playbooks/status.yml").wait().output
        assert re.search(rf"alerts: NOT SENT at .*No e-mail by {NAME}:{mailbox.port}", status), status
        mailbox.start()
        look(site, 2)
        (came,) = mailbox.new()
        assert f"the disk of {FULL}" in came
    look(site)
    assert len(mailbox.new()) == 1


def test_what_a_deploy_stops_is_no_finding(site: Site, mailbox: Mailbox) -> None:
    site.machine.feed(A_DEPLOY_IS_AT_WORK)
    try:
        with site.machine.stopped("celery-worker"):
            look(site)
        assert mailbox.new() == []
    finally:
        site.machine.feed("truncate --size=0 /srv/site/deploy.lock")


def test_the_unit_has_no_rights_and_its_password_is_nowhere_else(site: Site, mailbox: Mailbox) -> None:
    report = site.machine.root.check_output("systemd-analyze security --no-pager %s", UNIT)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert exposure, report
    assert float(exposure[1]) <= 1.5, report
    folders = "/etc/systemd/system/*.service /var/lib/site-alerts/* /run/site-alerts/*"
    words = f"journalctl --no-pager --output=cat; cat {folders}"
    assert PASSWORD not in site.machine.root.check_output(words)
    lines = watch.seen(site.machine)
    assert "site_alerts.py tell" in lines
    assert PASSWORD not in lines
    modes = site.machine.root.check_output("stat --format=%a:%U /etc/site/alerts.json /etc/site/alerts-look.json")
    assert modes.split() == ["600:root"] * 2


def test_who_is_told_no_more_leaves_nothing_on_the_host(site: Site, mailbox: Mailbox) -> None:
    site.machine.feed(DUE_AGAIN)

    run = site.deploy(site.healthy(), "--tags", "site_alerts")

    assert run.status == 0, run.output
    left = "find /etc /usr/local /var/lib /run -name 'site-alerts*' -o -name 'alerts*.json'"
    assert site.machine.root.check_output(left) == ""
    assert site.machine.state("site-alerts.timer") == "inactive"
