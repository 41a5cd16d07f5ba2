#!/usr/bin/python
"""Keep the certificate of the site and its key on a host, as the pair that they are."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_certificates import faults_of, is_address
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import CertificateError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run

DOCUMENTATION = r"""
module: site_certificate
short_description: The certificate of the site and its key are on the host
description:
  - Puts both into one file, C(site.pem) say, which nginx reads them from. So there is never the certificate of one
    pair with the key of another. The certificate alone is in C(site.crt), for whoever has to trust it.
  - A pair that does not fit, has expired or is for other names is refused, and what is there stays.
  - Without a pair the host makes one of its own, and makes it anew when it does not fit the names any more, or soon
    ends. One of an authority gives way to it, unless something on the host renews that.
options:
  word:
    description: What the files are called.
    type: str
    default: site
  names:
    description: Names and addresses of the site.
    type: list
    elements: str
    required: true
  certificate:
    description: The certificate with its chain, PEM; empty for one that the host makes.
    type: str
    default: ""
  key:
    description: The key of the certificate, PEM.
    type: str
    default: ""
  renewed:
    description:
      - Whether something on the host renews the pair of an authority. Then that stays to its end while it is for the
        first of the names.
    type: bool
    default: false
  folder:
    description: Where the files are.
    type: path
    default: /etc/nginx
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The certificate is there
  celeriac.site.site_certificate:
    names: [www.example.org]
"""

RETURN = r"""
"""

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
DAYS = 3650
# One of ours is made anew so long before its end; one that is given may be used to the last second.
RENEW_SECONDS = 30 * 24 * 3600


def is_self_signed(run: Run, pair: str) -> bool:
    """Say whether the certificate of a pair is of nobody else; also where there is none."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pair)
        file.flush()
        _, said, _ = run(["openssl", "x509", "-in", file.name, "-noout", "-subject_hash", "-issuer_hash"])
    return len(set(said.split())) < 2


def made(run: Run, names: list[str]) -> str:
    """Return a key and a certificate that it has signed itself.

    The names are in subjectAltName, where browsers look: a common name has 64 signs at most.

    Raises:
        CertificateError: openssl could not; the message is its own.
    """
    alternatives = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key", Path(folder) / "certificate"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", str(DAYS)]
        command += ["-subj", "/CN=self-signed", "-addext", f"subjectAltName={alternatives}"]
        code, _, error = run([*command, "-keyout", str(key), "-out", str(certificate)])
        if code != 0:
            raise CertificateError(f"openssl could not make a certificate: {error}")
        return key.read_text() + certificate.read_text()


def present(folder: Path, word: str) -> str:
    """Return the pair that is there; before they were one file they were two."""
    files = [folder / f"{word}.pem"]
    if not files[0].exists():
        files = [folder / f"{word}.key", folder / f"{word}.crt"]
    return "".join(file.read_text() for file in files if file.exists())


def wanted(run: Run, params: dict[str, Any], there: str) -> str:
    """Return the pair that should be there.

    Raises:
        CertificateError: what was given cannot be used, or none can be made.
    """
    names: list[str] = params["names"]
    if params["certificate"]:
        given = f"{params['key'].strip()}\n{params['certificate'].strip()}\n"
        if faults := list(faults_of(run, given, names)):
            raise CertificateError(f"The certificate was not replaced: {'; '.join(faults)}.")
        return given
    if is_self_signed(run, there):
        serves = not any(faults_of(run, there, names, RENEW_SECONDS))
    else:
        # One that lacks a new alias is better than none: whatever renews it will ask for that one too.
        serves = params["renewed"] and not any(faults_of(run, there, names[:1]))
    return there if serves else made(run, names)


def keep(folder: Path, word: str, pair: str, *, check_mode: bool) -> bool:
    """Put a pair in its place, in one step; return whether anything changed."""
    certificate = "".join(BLOCK.findall(pair))
    files = {folder / f"{word}.pem": (pair, 0o600), folder / f"{word}.crt": (certificate, 0o644)}
    old = {path for path, (text, _) in files.items() if not path.exists() or path.read_text() != text}
    for path in old if not check_mode else ():
        text, mode = files[path]
        write_atomically(path, text.encode(), mode)
    if not check_mode:
        (folder / f"{word}.key").unlink(missing_ok=True)
    return bool(old)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "word": {"type": "str", "default": "site"},
            "names": {"type": "list", "elements": "str", "required": True},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "renewed": {"type": "bool", "default": False},
            "folder": {"type": "path", "default": "/etc/nginx"},
        },
        supports_check_mode=True,
    )
    folder, word = Path(module.params["folder"]), module.params["word"]
    try:
        pair = wanted(module.run_command, module.params, present(folder, word))
    except CertificateError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=keep(folder, word, pair, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
