"""An authority of a test run, and a certificate of it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

# No address, so that a client which compares names refuses one that goes by it.
NAME = "localhost"

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


@dataclass(frozen=True)
class Certificate:
    """Files in PEM.

    Attributes:
        name: whom it is for.
        authority: the certificate of who signed it.
        certificate, key: of the server.
    """

    name: str

    authority: Path
    certificate: Path
    key: Path


def certificate(folder: Path, name: str = NAME) -> Certificate:
    """Make an authority, and have it sign a certificate.

    Args:
        folder: where the files go.
        name: whom it is for.
    """
    made = Certificate(name, folder / "authority.crt", folder / "server.crt", folder / "server.key")
    signer = folder / "authority.key"
    ours = ("req", "-x509", *_KEY, "-days", "2")
    uses = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # without it Python 3.13 trusts no authority
    _openssl(*ours, "-subj", "/CN=Authority of tests", *uses, "-keyout", signer, "-out", made.authority)
    by = ("-CA", made.authority, "-CAkey", signer)
    for_name = ("-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(*ours, "-subj", f"/CN={name}", *by, *for_name, "-keyout", made.key, "-out", made.certificate)
    return made


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
