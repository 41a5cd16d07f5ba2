"""Hosts of one site: the authority that says who they are, what each has for others, and turns in which they go."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.celeriac.site.plugins.module_utils import site_processes
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.modules import member_certificate
from ansible_collections.celeriac.site.plugins.modules.site_logins import USER
from ansible_collections.celeriac.site.plugins.plugin_utils import authority as authorities
from ansible_collections.celeriac.site.plugins.plugin_utils.authority import Authority, AuthorityError, kept, made
from ansible_collections.celeriac.site.plugins.plugin_utils.turns import Turns

NAMES = ["one", "10.0.0.5", "redis", "postgresql"]


def run(words: list[str], **_: Any) -> tuple[int, str, str]:
    """Run a command, as a module does."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def pair_of(authority: Authority, folder: Path, names: list[str]) -> str:
    """Return a certificate and its key, as a host has them."""
    request = member_certificate.requested(run, folder / "asking", names[0])
    return authority.signed(request, names) + (folder / "asking").read_text()


# ── The authority ────────────────────────────────────────────────────────────────────────────────


def test_a_host_has_what_openssl_takes_for_right(tmp_path: Path) -> None:
    authority = kept(tmp_path / ".secrets/member_authority.pem")
    pair = pair_of(authority, tmp_path, NAMES)

    assert member_certificate.faults_here(run, pair, authority.certificate, NAMES) == []
    assert (tmp_path / "asking").stat().st_mode & 0o777 == 0o600
    # It is for these names, of this authority, and for no other.
    assert member_certificate.faults_here(run, pair, authority.certificate, [*NAMES, "flower"])
    assert member_certificate.faults_here(run, pair, Authority(made()).certificate, NAMES)
    # And both ends of a connection may show it.
    (tmp_path / "pair").write_text(pair)
    text = run(["openssl", "x509", "-in", str(tmp_path / "pair"), "-noout", "-text"])[1]
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "CA:FALSE" in text


def test_the_authority_is_made_once_and_nobody_else_reads_it(tmp_path: Path) -> None:
    file = tmp_path / ".secrets/member_authority.pem"

    assert kept(file, write=False)
    assert not file.exists()
    first = kept(file).certificate
    assert kept(file).certificate == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_made_anew_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(made())
    for days, is_right in ((61, True), (59, False)):
        monkeypatch.setattr(authorities, "CERTIFICATE_DAYS", days)
        faults = member_certificate.faults_here(run, pair_of(authority, tmp_path, NAMES), authority.certificate, NAMES)
        assert (faults == []) is is_right


def test_an_authority_lasts_longer_than_what_it_signs(tmp_path: Path) -> None:
    (tmp_path / "authority").write_text(made())
    years = ["openssl", "x509", "-in", str(tmp_path / "authority"), "-noout", "-enddate"]
    ends = datetime.strptime(run(years)[1].strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)

    assert ends > datetime.now(UTC) + timedelta(days=9 * 365)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (lambda: "nothing", "it is no certificate with its key"),
        (lambda: Authority(made()).certificate, "it is no certificate with its key"),
        (lambda: made().partition("-----BEGIN CERT")[0] + Authority(made()).certificate, "was made for another key"),
    ],
)
def test_what_is_no_authority_is_refused(pem: Callable[[], str], words: str) -> None:
    with pytest.raises(AuthorityError, match=words):
        Authority(pem())


def test_only_a_request_is_signed() -> None:
    with pytest.raises(AuthorityError, match="cannot be read"):
        Authority(made()).signed("nothing", NAMES)


# ── What processes of other hosts log in with ────────────────────────────────────────────────────


ENVIRONMENT = b'DATABASE_URL="postgresql://site_0123abcd:pw@127.0.0.1:5432/site"\nREDIS_PASSWORD="a \\"b\\""\n'


def test_users_and_hashes_are_told_and_no_password() -> None:
    assert USER.findall(ENVIRONMENT) == [b"site_0123abcd"]
    # printf 'a "b"' | sha256sum
    expected = "34838019aa8c62fc1e516dc70842c1cf60be9f8d3fde2191c628ce257ce2115b"
    assert site_processes.hashes_in(ENVIRONMENT) == {expected}


@pytest.mark.parametrize(
    ("elsewhere", "used"),
    [
        ({}, set()),
        ({"users": ["site_00000001"], "complete": True}, {"site_00000001"}),
        ({"users": [], "complete": True}, set()),
        # A host that this run has not asked may have any.
        ({"users": [], "complete": False}, {"site_00000001", "site_00000002"}),
    ],
)
def test_a_user_that_another_host_logs_in_as_stays(
    monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Any], used: set[str]
) -> None:
    monkeypatch.setattr(site_processes, "environments", lambda systemd, names: [])
    nobody: Any = None

    found = site_processes.logged_in_as({"site_00000001", "site_00000002"}, nobody, Names("nowhere"), elsewhere)

    assert found == used


# ── Turns ────────────────────────────────────────────────────────────────────────────────────────


ALL = ["one", "two", "three"]
ENDED = "It was ended in the middle."


def passes() -> dict[str, Any]:
    """Do what is right."""
    return {"changed": True, "begun": {"release": "abc"}}


def fails() -> dict[str, Any]:
    """Do what is wrong."""
    return {"failed": True, "msg": "It is bad."}


def goes() -> dict[str, Any]:
    """Be gone."""
    raise OSError("No route to host")


class Ended:
    """What is done on a host in the end."""

    def __init__(self, folder: Path, hosts: list[str]) -> None:
        self.turns = Turns("release", folder)
        self.hosts = hosts
        self.done: list[str] = []

    def at(self, host: str) -> dict[str, Any]:
        """End on a host, and return the result."""

        def go_on(begun: Mapping[str, Any]) -> dict[str, Any]:
            self.done.append(f"{host} goes on with {begun['release']}")
            return {"changed": True}

        def undo(why: str) -> dict[str, Any]:
            self.done.append(f"{host} is undone: {why}")
            return {"changed": True, "msg": f"Undone. {why}"}

        return self.turns.end(host, self.hosts, go_on, undo)


def test_where_it_has_passed_on_all_of_them_each_goes_on(tmp_path: Path) -> None:
    for host in ALL:
        assert Turns("release", tmp_path).take(host, passes) == passes()
    ended = Ended(tmp_path, ALL)
    assert [ended.at(host) for host in ALL] == [{"changed": True}] * 3
    assert ended.done == [f"{host} goes on with abc" for host in ALL]


@pytest.mark.parametrize(("does", "why"), [(fails, "It is bad."), (goes, "No route to host")])
def test_where_it_fails_on_one_the_next_are_not_begun_and_all_are_as_before(
    tmp_path: Path, does: Callable[[], dict[str, Any]], why: str
) -> None:
    assert Turns("release", tmp_path).take("one", passes) == passes()
    # Not yet: the task would end here, and with it the run.
    assert Turns("release", tmp_path).take("two", does) == {"changed": False, "msg": why}
    assert Turns("release", tmp_path).take("three", passes) == {"changed": False}

    ended = Ended(tmp_path, ALL)
    one, two = ended.at("one"), ended.at("two")
    assert (one["failed"], one["msg"]) == (True, "Undone. It has not passed on two.")
    assert two == {"failed": True, "msg": f"{why}\nUndone. {ENDED}\nUndone on: one; not begun: three."}
    with pytest.raises(AnsibleActionFail, match="Not begun: two comes before three"):
        ended.at("three")
    assert ended.done == ["one is undone: It has not passed on two.", f"two is undone: {ENDED}"]
    # What is another thing has turns of its own.
    assert Turns("rollback", tmp_path).take("three", passes) == passes()


def test_a_host_that_had_it_before_keeps_it(tmp_path: Path) -> None:
    Turns("release", tmp_path).take("one", lambda: {"changed": False})
    Turns("release", tmp_path).take("two", fails)
    ended = Ended(tmp_path, ALL)
    one = ended.at("one")
    assert one["failed"]
    assert "served here before, and serves on: it has not passed on two" in one["msg"]
    assert ended.done == []


def test_of_a_run_that_was_ended_in_the_middle_of_a_host_the_notes_know(tmp_path: Path) -> None:
    def killed() -> dict[str, Any]:
        raise SystemExit

    with pytest.raises(SystemExit):
        Turns("release", tmp_path).take("one", killed)
    assert Turns("release", tmp_path).take("two", passes) == {"changed": False}


def test_the_only_host_has_the_words_of_its_release(tmp_path: Path) -> None:
    Turns("release", tmp_path).take("one", fails)
    ended = Ended(tmp_path, ["one"])
    assert ended.at("one") == {"failed": True, "msg": f"It is bad.\nUndone. {ENDED}"}
