"""What is wrong with a certificate and its key, as openssl sees it."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Iterator

from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run


def faults_of(run: Run, pair: str, names: list[str], seconds: int = 0) -> Iterator[str]:
    """Yield what is wrong with a pair.

    Args:
        run: to run openssl.
        pair: a key and a certificate, PEM.
        names: for which the certificate must be.
        seconds: how long it must last.
    """
    with tempfile.NamedTemporaryFile("w") as file:  # which only its owner may read
        file.write(pair)
        file.flush()
        certificate = ["openssl", "x509", "-in", file.name, "-noout"]
        code, made_for, _ = run([*certificate, "-pubkey"])
        if code != 0:
            yield "there is no certificate in it"
            return
        code, public, _ = run(["openssl", "pkey", "-in", file.name, "-pubout", "-passin", "pass:"])
        if code != 0:
            yield "there is no key in it that can be read without a passphrase"
        elif public != made_for:
            yield "the certificate was made for another key"
        if run([*certificate, "-checkend", str(seconds)])[0] != 0:
            yield "the certificate has expired" if not seconds else "the certificate expires soon"
        for name in names:
            option = "-checkip" if is_address(name) else "-checkhost"
            if "does match" not in run([*certificate, option, name])[1]:
                yield f"the certificate is not for {name}"


def is_address(name: str) -> bool:
    """Say whether a name of the site is an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
