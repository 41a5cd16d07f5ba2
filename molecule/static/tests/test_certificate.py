"""A certificate and its key are one thing: what does not fit is refused here and on the host, and changes nothing."""

from __future__ import annotations

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import CertificateError
from ansible_collections.celeriac.site.plugins.module_utils.site_report import _of_the_certificate, certificate_end
from ansible_collections.celeriac.site.plugins.modules.site_certificate import (
    RENEW_SECONDS,
    keep,
    made,
    present,
    wanted,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

NAME, ALIAS, ADDRESS = "www.mysite.test", "mysite.test", "10.1.2.3"
LONG_NAME = ".".join(["x" * 63, "y" * 63, "z" * 63, "s" * 56, "test"])
KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Run a command, as a module does."""
    done = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.returncode, done.stdout, done.stderr


def key_text(key: ec.EllipticCurvePrivateKey = KEY, encryption: KeySerializationEncryption | None = None) -> str:
    """Return a key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def certificate_text(*names: str, days: tuple[int, int] = (-1, 60)) -> str:
    """Return the certificate for `KEY` that a CA has made for names, as PEM.

    Args:
        names: and addresses.
        days: from when to when it is valid, from now.
    """
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    begin, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA")]),
        subject_name=x509.Name([]),
        public_key=KEY.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=end,
    ).add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
    return builder.sign(OTHER_KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def given(folder: Path, certificate: str, key: str, *names: str, renewed: bool = False) -> bool:
    """Put a pair on the host whose nginx has this folder, and return whether that changed anything."""
    params = {"names": list(names), "certificate": certificate, "key": key, "renewed": renewed}
    return keep(folder, "site", wanted(run, params, present(folder, "site")), check_mode=False)


def self_signed(folder: Path, *names: str) -> bool:
    """Let the host have a certificate of its own, and return whether that changed anything."""
    return given(folder, "", "", *names)


def files(folder: Path) -> dict[str, str]:
    """Return what is there."""
    return {path.name: path.read_text() for path in folder.iterdir()}


RIGHT = certificate_text(NAME, ALIAS)
# What is wrong: the certificate, the key, what preflight says, what the host says.
WRONG = {
    "another pair's key": (RIGHT, key_text(OTHER_KEY), "is not the key of the certificate", "made for another key"),
    "a key with a passphrase": (
        RIGHT,
        key_text(KEY, BestAvailableEncryption(b"secret")),
        "holds no key (PEM) that can be read",
        "no key in it that can be read",
    ),
    "no key": (RIGHT, "words\n", "holds no key", "no key in it"),
    "no certificate": ("words\n", key_text(), "holds no certificate", "there is no certificate"),
    "one that has expired": (certificate_text(NAME, ALIAS, days=(-9, -1)), key_text(), "has expired, on", "expired"),
    "one without the alias": (certificate_text(NAME), key_text(), f"is not for {ALIAS}", f"is not for {ALIAS}"),
    "one with an asterisk for two labels": (
        certificate_text("*.test", ALIAS),
        key_text(),
        f"is not for {NAME}",
        f"is not for {NAME}",
    ),
}


def choose(inventory: Any, folder: Path, certificate: str, key: str) -> None:
    """Let an inventory bring a pair."""
    (folder / "chain.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    inventory.choose(
        f"site_domain_aliases: [{ALIAS}]\nnginx_tls: certificate\n"
        f"nginx_tls_certificate: {folder}/chain.pem\nnginx_tls_key: {folder}/key.pem\n"
    )


@pytest.mark.parametrize("case", WRONG)
def test_preflight_refuses_what_does_not_fit(inventory: Any, tmp_path: Path, case: str) -> None:
    certificate, key, words, _ = WRONG[case]
    choose(inventory, tmp_path, certificate, key)

    (problem,) = inventory.problems()

    assert words in problem.what
    assert str(problem.place).endswith(("main.yml:5", "main.yml:6"))
    assert problem.example.startswith("nginx_tls_")


@pytest.mark.parametrize(
    "certificate", [RIGHT, certificate_text("*.mysite.test", ALIAS), certificate_text(NAME.upper(), ALIAS, ADDRESS)]
)
def test_preflight_lets_a_pair_that_fits_pass(inventory: Any, tmp_path: Path, certificate: str) -> None:
    choose(inventory, tmp_path, certificate + RIGHT, key_text())

    assert inventory.problems() == []


def test_preflight_refuses_one_that_is_not_valid_yet(inventory: Any, tmp_path: Path) -> None:
    choose(inventory, tmp_path, certificate_text(NAME, ALIAS, days=(1, 9)), key_text())

    (problem,) = inventory.problems()

    assert "is not valid before" in problem.what


def test_preflight_cannot_check_what_a_vault_has(inventory: Any, tmp_path: Path) -> None:
    choose(inventory, tmp_path, RIGHT, "$ANSIBLE_VAULT;1.1;AES256\n6161\n")

    assert inventory.problems() == []


@pytest.mark.parametrize("case", WRONG)
def test_host_keeps_the_pair_that_it_has(tmp_path: Path, case: str) -> None:
    certificate, key, _, words = WRONG[case]
    assert given(tmp_path, RIGHT, key_text(), NAME, ALIAS)
    before = files(tmp_path)

    with pytest.raises(CertificateError, match=words):
        given(tmp_path, certificate, key, NAME, ALIAS)

    assert files(tmp_path) == before


def test_pair_is_one_file_that_only_root_may_read(tmp_path: Path) -> None:
    chain = RIGHT + certificate_text("The rest of the chain")

    assert given(tmp_path, chain, key_text(), NAME)
    assert not given(tmp_path, chain, key_text(), NAME)

    assert files(tmp_path) == {"site.pem": key_text() + chain, "site.crt": chain}
    assert (tmp_path / "site.pem").stat().st_mode & 0o777 == 0o600


def test_renewed_pair_replaces_the_old_one(tmp_path: Path) -> None:
    given(tmp_path, RIGHT, key_text(), NAME)
    renewed = certificate_text(NAME, days=(-1, 90))

    assert given(tmp_path, renewed, key_text(), NAME)

    assert files(tmp_path) == {"site.pem": key_text() + renewed, "site.crt": renewed}


def test_check_mode_changes_nothing(tmp_path: Path) -> None:
    assert keep(tmp_path, "site", key_text() + RIGHT, check_mode=True)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("names", [(NAME,), (NAME, ALIAS), (ADDRESS,), (LONG_NAME,), (NAME, ADDRESS, "2001:db8::7")])
def test_host_makes_one_for_its_names_and_keeps_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert self_signed(tmp_path, *names)
    assert not self_signed(tmp_path, *names)


@pytest.mark.parametrize("names", [("new.mysite.test",), (NAME, "new.mysite.test"), (ADDRESS,)])
def test_one_of_the_host_follows_its_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    self_signed(tmp_path, NAME)
    before = files(tmp_path)

    assert self_signed(tmp_path, *names)

    assert not self_signed(tmp_path, *names)
    after = files(tmp_path)
    assert all(after[name] != before[name] for name in ("site.pem", "site.crt"))


def test_one_of_the_host_is_made_anew_before_it_ends(tmp_path: Path) -> None:
    nearly_over = str(RENEW_SECONDS // (24 * 3600) - 1)
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-days",
        nearly_over,
        "-subj",
        "/CN=self-signed",
    ]
    words += [
        "-addext",
        f"subjectAltName=DNS:{NAME}",
        "-keyout",
        f"{tmp_path}/site.key",
        "-out",
        f"{tmp_path}/site.crt",
    ]
    assert run(words)[0] == 0

    assert self_signed(tmp_path, NAME)
    assert not self_signed(tmp_path, NAME)


def test_one_of_an_authority_gives_way_where_nothing_renews_it(tmp_path: Path) -> None:
    given(tmp_path, RIGHT, key_text(), NAME)

    assert self_signed(tmp_path, NAME)

    assert not self_signed(tmp_path, NAME)
    assert RIGHT not in files(tmp_path)["site.pem"]


@pytest.mark.parametrize(
    ("names", "days", "stays"),
    [
        ((NAME,), 1, True),
        ((NAME, "new.mysite.test"), 60, True),
        (("new.mysite.test", NAME), 60, False),
        ((NAME,), 0, False),
    ],
    ids=["to its last day", "without a new alias", "not under another name", "not when it has ended"],
)
def test_one_that_is_renewed_stays_while_it_serves(
    tmp_path: Path, names: tuple[str, ...], days: int, stays: bool
) -> None:
    keep(tmp_path, "site", key_text() + certificate_text(NAME, days=(-60, days)), check_mode=False)

    assert given(tmp_path, "", "", *names, renewed=True) is not stays


def test_pair_of_two_files_becomes_one(tmp_path: Path) -> None:
    """As hosts had it before: whoever trusts that certificate need not trust another."""
    before = made(run, [NAME])
    key, certificate = before[: before.index("-----BEGIN CERT")], before[before.index("-----BEGIN CERT") :]
    (tmp_path / "site.crt").write_text(certificate)
    (tmp_path / "site.key").write_text(key)

    assert self_signed(tmp_path, NAME)

    assert files(tmp_path) == {"site.pem": before, "site.crt": certificate}


def test_openssl_that_fails_is_an_error() -> None:
    with pytest.raises(CertificateError, match="could not make"):
        made(run, ["a name\nof two lines"])


# ── Status ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("days", "lines"), [(60, 1), (10, 2), (-1, 2)])
def test_status_says_until_when_it_lasts_and_what_to_do(tmp_path: Path, days: int, lines: int) -> None:
    (tmp_path / "site.crt").write_text(certificate_text(NAME, days=(-9, days)))

    end = certificate_end(run, tmp_path / "site.crt")

    assert end
    off = datetime.fromisoformat(end) - datetime.now(UTC) - timedelta(days=days)
    assert abs(off) < timedelta(hours=1)
    said = _of_the_certificate(end, None)
    assert len(said) == lines
    assert end[:10] in said[0]
    assert all("playbooks/edge.yml" in line for line in said[1:])


def test_status_of_a_host_without_nginx_says_nothing(tmp_path: Path) -> None:
    assert certificate_end(run, tmp_path / "site.crt") is None
    assert _of_the_certificate(None, None) == []


@pytest.mark.parametrize("days", [60, 10])
def test_status_says_why_one_was_not_renewed(tmp_path: Path, days: int) -> None:
    """How near its end is: whatever renews it knows that better."""
    end = f"{datetime.now(UTC) + timedelta(days=days):%FT%TZ}"
    renewal = {"why_not": "", "last": "2026-03-29T12:00:00Z", "next": "2026-03-29T13:00:00Z"}

    assert len(_of_the_certificate(end, renewal)) == 1

    _, said = _of_the_certificate(end, {**renewal, "why_not": "The authority is away."})
    assert "The authority is away." in said
    assert renewal["last"] in said
    assert renewal["next"] in said
