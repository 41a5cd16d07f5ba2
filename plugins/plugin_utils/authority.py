"""The authority that says which hosts are of a site: made once, kept beside the other secrets, and on no host."""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Whoever has several sites sees in an error which authority is meant; no program reads it.
NAME = "Celeriac, the hosts of a site"
AUTHORITY_DAYS = 3650
# Made anew by any run in its last 60 days (plugins/modules/member_certificate.py).
CERTIFICATE_DAYS = 397
# The clocks of two hosts differ a little.
EARLIER = timedelta(hours=1)


class AuthorityError(Exception):
    """There is no authority where one should be; the message says why."""


class Authority:
    """A key, and the certificate that names it.

    Args:
        pem: both, in any order.

    Raises:
        AuthorityError: they are not, or do not belong together.
    """

    def __init__(self, pem: str) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(pem.encode())
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError) as error:
            raise AuthorityError(f"it is no certificate with its key, as PEM without a passphrase ({error})") from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise AuthorityError("its key is none of an elliptic curve, as `openssl ecparam -name prime256v1` has it")
        if key.public_key() != self._certificate.public_key():
            raise AuthorityError("its certificate was made for another key")
        self._key = key

    @property
    def certificate(self) -> str:
        """The certificate alone, as PEM: no secret."""
        return _pem(self._certificate)

    def signed(self, request: str, names: Sequence[str]) -> str:
        """Return a certificate, as PEM, for the key of a request.

        Args:
            request: what the host asks with (PKCS #10, PEM). Of it the key alone counts.
            names: for which it is: names and addresses, the first of them the host's own.

        Raises:
            AuthorityError: it is no request, or not signed with its own key.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode())
        except ValueError as error:
            raise AuthorityError(f"the host's request cannot be read ({error})") from None
        if not asked.is_signature_valid:
            raise AuthorityError("the host's request is not signed with its own key")
        builder = _lasting(CERTIFICATE_DAYS).subject_name(_named(names[0])).issuer_name(self._certificate.subject)
        builder = builder.public_key(asked.public_key())
        # A host speaks to others, and is spoken to.
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([each for name in names for each in _alternatives(name)]), False),
            (x509.ExtendedKeyUsage(usage), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return _pem(builder.sign(self._key, hashes.SHA256()))


def made() -> str:
    """Return a new authority, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(NAME)
    builder = _lasting(AUTHORITY_DAYS).subject_name(name).issuer_name(name).public_key(key.public_key())
    signs = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (signs, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode() + _pem(builder.sign(key, hashes.SHA256()))


def kept(file: Path, *, write: bool = True) -> Authority:
    """Return the authority that a file has; where there is none, one is made, once for all hosts that ask at a time.

    Args:
        file: a key with its certificate; beside it there is a lock, empty.
        write: whether a new one is kept.

    Raises:
        AuthorityError: what it has is none.
        OSError: it cannot be read, or written.
    """
    if file.exists():
        return Authority(file.read_text())
    if not write:
        return Authority(made())
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            write_atomically(file, made().encode(), 0o600)
    return Authority(file.read_text())


def _lasting(days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - EARLIER).not_valid_after(now + timedelta(days=days))


def _named(name: str) -> x509.Name:
    # A common name has 64 signs at most; what is compared is in the alternatives.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _alternatives(name: str) -> list[x509.GeneralName]:
    try:
        # As a name, too: Erlang 25 (Debian 12) compares an address with names alone.
        return [x509.IPAddress(ipaddress.ip_address(name)), x509.DNSName(name)]
    except ValueError:
        return [x509.DNSName(name)]


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
