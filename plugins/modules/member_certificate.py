#!/usr/bin/python
"""Keep the certificate by which a host shows the others of its site that it is one of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_certificates import faults_of
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import CertificateError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run

DOCUMENTATION = r"""
module: member_certificate
short_description: A host shows the others of its site that it is one of them
description:
  - Keeps a key with a certificate of the site's own authority, and beside it the certificate of that authority. The key
    is made on the host, and never leaves it.
  - The action plugin of the same name signs on the computer that runs Ansible; the authority is on no host.
  - A certificate is replaced when it is not of the authority, not for the names, or in its last 60 days.
options:
  pair:
    description: The file with the certificate and its key. Only root may read it.
    type: path
    required: true
  authority_certificate:
    description: The file with the certificate of the authority.
    type: path
    required: true
  authority:
    description:
      - For the action plugin the authority, its key and its certificate as PEM; empty for the one in O(authority_file).
        The host gets the certificate alone.
    type: str
    required: true
  names:
    description: For which names and addresses the certificate is, the host's own first.
    type: list
    elements: str
    required: true
  certificate:
    description: What was signed for the key that the host has asked with.
    type: str
    default: ""
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The host shows the others that it is one of them
  celeriac.site.member_certificate:
    authority: ""
    authority_file: /home/me/inventory/.secrets/member_authority.pem
    pair: /etc/site/member/member.pem
    authority_certificate: /etc/site/member/authority.pem
    names: [host1, 10.0.0.5, broker]
"""

RETURN = r"""
request:
  description: What the host asks with, where it needs a certificate.
  returned: when it needs one
  type: str
"""

# A run a month is often enough.
RENEW_SECONDS = 60 * 24 * 3600


def faults_here(run: Run, pair: str, authority: str, names: list[str]) -> list[str]:
    """Return what is wrong with what the host has, or will be soon."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("pair", "authority")}
        for name, text in (("pair", pair), ("authority", authority)):
            files[name].write_text(text)
        verify = ["openssl", "verify", "-CAfile", str(files["authority"]), str(files["pair"])]
        of_it = run(verify)[0] == 0
    faults = list(faults_of(run, pair, names, RENEW_SECONDS))
    return faults if of_it else [*faults, "it is of another authority"]


def requested(run: Run, file: Path, name: str) -> str:
    """Return what to ask with; the key to it is in a file that only root may read.

    Raises:
        CertificateError: openssl could not; the message is its own.
    """
    key = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    code, made, error = run(key)
    if code == 0:
        write_atomically(file, made.encode(), 0o600)
        code, request, error = run(["openssl", "req", "-new", "-key", str(file), "-subj", f"/CN={name[:64]}"])
    if code != 0:
        raise CertificateError(f"openssl could not ask for a certificate: {error}")
    return str(request)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "pair": {"type": "path", "required": True},
            "authority_certificate": {"type": "path", "required": True},
            "authority": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "certificate": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    pair, of_authority = Path(module.params["pair"]), Path(module.params["authority_certificate"])
    authority, names, certificate = (module.params[name] for name in ("authority", "names", "certificate"))
    asking = pair.with_suffix(".asking")
    run: Run = module.run_command
    try:
        if certificate:
            there = certificate + asking.read_text()
            if faults := faults_here(run, there, authority, names):
                raise CertificateError(f"What was signed for the host cannot be used: {'; '.join(faults)}.")
            write_atomically(of_authority, authority.encode())
            write_atomically(pair, there.encode(), 0o600)
            asking.unlink()
            module.exit_json(changed=True)
        there = pair.read_text() if pair.exists() else ""
        if there and of_authority.exists() and not faults_here(run, there, authority, names):
            module.exit_json(changed=False)
        if module.check_mode:
            module.exit_json(changed=True)
        module.exit_json(changed=True, request=requested(run, asking, names[0]))
    except CertificateError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
