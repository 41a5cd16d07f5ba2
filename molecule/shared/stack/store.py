"""A store on a machine that takes objects as S3 does: moto's, behind an nginx with TLS.

It has everything in memory, knows one key, whatever its secret, and is as slow as one process of Python.
"""

from __future__ import annotations

from pathlib import Path

from stack.machine import Machine
from testkit.waiting import eventually

NAME, PORT, BUCKET, KEY = "store.test", 9443, "backups", "AKIA1"
PACKAGES = Path(__file__).with_name("store.txt")
FOLDER = "/opt/store-of-tests"
# A certificate of its own; moto's own TLS ends without a farewell, which pgBackRest minds.
INSTALLED = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends python3-venv nginx openssl >/dev/null
cd {FOLDER}
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement store.txt
openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj "/CN=Store of tests" -addext subjectAltName=DNS:{NAME} \\
  -keyout key.pem -out cert.pem 2>/dev/null
cat > /etc/nginx/sites-enabled/store <<'END'
server {{
    listen {PORT} ssl;
    ssl_certificate {FOLDER}/cert.pem;
    ssl_certificate_key {FOLDER}/key.pem;
    client_max_body_size 0;
    location / {{
        # moto takes any. The words are those of S3 (API Reference, "Error Responses").
        if ($http_authorization !~ "Credential={KEY}/") {{
            return 403 "<Error><Code>InvalidAccessKeyId</Code><Message>There is no such key.</Message></Error>";
        }}
        proxy_pass http://127.0.0.1:5000;
        # It takes the first label of a name for that of a bucket.
        proxy_set_header Host localhost;
        proxy_request_buffering off;
        proxy_http_version 1.1;
    }}
}}
END
systemctl restart nginx
systemd-run --quiet --unit=store-of-tests --working-directory={FOLDER} venv/bin/moto_server -H 127.0.0.1 -p 5000
"""


class Store:
    """The store.

    Args:
        machine: where it is; it goes with that.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.feed("", "mkdir", "-p", FOLDER)
        machine.feed(PACKAGES.read_text(), "tee", f"{FOLDER}/store.txt")
        machine.feed(INSTALLED)
        ask = f"import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:5000/{BUCKET}', method='PUT'))"
        eventually(lambda: machine.root.run("python3 -c %s", ask).succeeded, 60, pause=1)
        self.certificate: str = machine.root.check_output(f"cat {FOLDER}/cert.pem")

    def stop(self) -> None:
        """Let nothing answer any more."""
        self._machine.systemctl("stop", "nginx")

    def start(self) -> None:
        """Let it answer again."""
        self._machine.systemctl("start", "nginx")
