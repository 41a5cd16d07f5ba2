"""An authority on a machine that gives certificates by ACME: Debian's pebble, which makes them for tests.

Its names come from a DNS of its own. Whenever it is started it has forgotten everybody, and has another root.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from stack.machine import Machine
from testkit.waiting import eventually

DIRECTORY = "https://127.0.0.1:14000/dir"
# Whom it knows, and by which key: base64, as RFC 8555 has it.
CUSTOMER = ("kid-1", "bm90LWEtc2VjcmV0LWJ1dC1sb25nLWVub3VnaC0wMTIzNDU2Nzg5")
FOLDER = "/etc/pebble-of-tests"
# What it listens on must be trusted like any site: a CA of its own, in the store of the host.
INSTALLED = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get install --quiet=2 --yes --no-install-recommends pebble >/dev/null
mkdir -p {FOLDER} && cd {FOLDER}
openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj "/CN=Pebble's own" \\
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.crt 2>/dev/null
openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=pebble -addext subjectAltName=IP:127.0.0.1 \\
  -addext basicConstraints=critical,CA:false -addext keyUsage=critical,digitalSignature,keyEncipherment \\
  -CA ca.crt -CAkey ca.key -keyout key.pem -out cert.pem 2>/dev/null
cp ca.crt /usr/local/share/ca-certificates/pebble-of-tests.crt
update-ca-certificates >/dev/null 2>&1
"""
DNS = "pebble-challtestsrv -dns01 127.0.0.1:8053 -http01= -https01= -tlsalpn01= -defaultIPv6="
ASK = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/pebble-of-tests/ca.crt")
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=10).read().decode())
"""


class Authority:
    """The authority.

    Args:
        machine: where it is.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.feed(INSTALLED)

    def start(self, *, address: str = "127.0.0.1", port: int = 80, **choices: Any) -> None:
        """Start it, or start it again as another.

        Args:
            address: where its DNS says that all names are.
            port: where it looks there.
            choices: of its configuration.
        """
        self.stop()
        own = {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": f"{FOLDER}/cert.pem",
            "privateKey": f"{FOLDER}/key.pem",
            "httpPort": port,
            "tlsPort": 443,
            "externalAccountBindingRequired": False,
            "externalAccountMACKeys": dict([CUSTOMER]),
        }
        self._machine.feed(json.dumps({"pebble": own | choices}), "tee", f"{FOLDER}/config.json")
        # The one of Debian 12 does not know what that of 13 wants to be told.
        knows_https = self._machine.root.run("pebble-challtestsrv -h 2>&1 | grep --quiet -e -doh").succeeded
        self._run("dns", f"{DNS} -defaultIPv4={address} {'-doh=' if knows_https else ''}")
        self._run("pebble", f"pebble -config {FOLDER}/config.json -dnsserver 127.0.0.1:8053 -strict")
        eventually(lambda: self._machine.root.run("ss -Hlnt sport = :14000 | grep -q .").succeeded, 60)

    def stop(self) -> None:
        """Let nothing answer any more."""
        self._machine.root.run("systemctl stop pebble-of-tests-pebble pebble-of-tests-dns")

    def root(self) -> str:
        """Return the certificate that all of its certificates come from, PEM."""
        return self._machine.feed(ASK, "python3", "-", "https://127.0.0.1:15000/roots/0")

    def _run(self, name: str, command: str) -> None:
        # By itself it refuses some nonces by chance, and certbot gives up at the second one.
        quiet = "--setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0"
        words = shlex.join(["systemd-run", "--quiet", "--collect", f"--unit=pebble-of-tests-{name}", *quiet.split()])
        self._machine.root.check_output(f"{words} {command}")
