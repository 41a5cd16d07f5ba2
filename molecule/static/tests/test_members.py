"""Hosts of one site: the authority that says who they are, what each has for others, and turns in which they go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
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


def passes() -> dict[str, Any]:
    """Do what is right."""
    return {"changed": True}


def fails() -> dict[str, Any]:
    """Do what is wrong."""
    return {"failed": True, "msg": "It is bad."}


def test_where_it_fails_the_next_are_not_begun(tmp_path: Path) -> None:
    assert Turns("release", tmp_path).take("one", ALL, passes) == {"changed": True}
    told = Turns("release", tmp_path).take("two", ALL, fails)["msg"]
    assert told == (
        "It is bad.\none has the release; not begun: three. Ship a repair, or go back: "
        "`playbooks/rollback.yml --limit one`."
    )
    with pytest.raises(AnsibleActionFail, match="Not begun: two comes before three"):
        Turns("release", tmp_path).take("three", ALL, passes)
    # What is another thing has turns of its own.
    assert Turns("rollback", tmp_path).take("three", ALL, passes)


def test_a_host_that_is_gone_has_failed(tmp_path: Path) -> None:
    def goes() -> dict[str, Any]:
        raise OSError("No route to host")

    with pytest.raises(OSError, match="No route"):
        Turns("release", tmp_path).take("one", ALL, goes)
    with pytest.raises(AnsibleActionFail, match="Not begun"):
        Turns("release", tmp_path).take("two", ALL, passes)
    assert json.loads((tmp_path / "celeriac-release.json").read_text()) == {"one": False}


def test_the_only_host_has_the_words_of_its_release(tmp_path: Path) -> None:
    assert Turns("release", tmp_path).take("one", ["one"], fails) == fails()
