"""What is wrong with a certificate and its key, before they are brought to a host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

VAULT = b"$ANSIBLE_VAULT;"


def faults_of(certificate: bytes, key: bytes, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a pair: the choice that names the wrong file, and the end of a sentence about it.

    A file that ansible-vault has encrypted is checked on the host.

    Args:
        certificate: what the one file holds, the certificate of the site first.
        key: what the other one holds.
        names: for which the certificate must be.
    """
    if VAULT in (certificate[: len(VAULT)], key[: len(VAULT)]):
        return
    try:
        shown = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError:
        yield "nginx_tls_certificate", "holds no certificate (PEM)"
        return
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield "nginx_tls_key", "holds no key (PEM) that can be read without a passphrase"
    else:
        if _text(public) != _text(shown.public_key()):
            yield "nginx_tls_key", "is not the key of the certificate: the two belong to different pairs"
    now = datetime.now(UTC)
    if shown.not_valid_after_utc < now:
        yield "nginx_tls_certificate", f"has expired, on {shown.not_valid_after_utc:%F %T} UTC"
    if shown.not_valid_before_utc > now:
        yield "nginx_tls_certificate", f"is not valid before {shown.not_valid_before_utc:%F %T} UTC"
    if missing := [name for name in names if not _is_for(shown, name)]:
        yield "nginx_tls_certificate", f"is not for {', '.join(missing)}"


def _text(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether browsers take a certificate for one of a name: by subjectAltName alone (RFC 6125)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    known = {known.lower() for known in names.get_values_for_type(x509.DNSName)}
    # An asterisk stands for one label.
    return bool(known & {name.lower(), f"*.{name.lower().partition('.')[2]}"})
