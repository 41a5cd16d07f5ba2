#!/usr/bin/python
"""Ask a deployed site, from the outside of its processes, whether it works."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_health
short_description: The site works
description:
  - Goes the way that people go, through nginx and with the real log-ins. It waits up to O(timeout)
    for things that take a moment after a start.
  - Changes nothing, but for the result of one C(celeriac.ping) task.
options:
  checks:
    description: What to ask for.
    type: list
    elements: str
    choices: [web, beat, monitor]
    required: true
  domain:
    description: The name of the site.
    type: str
    required: true
  address:
    description: Where nginx is.
    type: str
    default: 127.0.0.1
  ca_file:
    description: Certificates to trust beside the host's.
    type: path
  health_path:
    description: The page of the project that answers 200 while the site is well.
    type: str
    required: true
  release:
    description: The release that should serve.
    type: str
    required: true
  token:
    description: The token of the runtime's own pages.
    type: str
    required: true
  flower_username:
    description: Name of the log-in to Flower.
    type: str
    required: true
  flower_password:
    description: Password of the log-in to Flower.
    type: str
    required: true
  beat_seconds:
    description: How old the last tick of beat may be, in seconds.
    type: int
    required: true
  timeout:
    description: How long to wait for an answer to be the right one, in seconds.
    type: int
    default: 30
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site works
  site_health:
    checks: [web]
    domain: www.example.org
    health_path: /health/
    release: 0123456789ab
    token: "{{ site_health_token }}"
    flower_username: admin
    flower_password: "{{ site_flower_password }}"
    beat_seconds: 20
"""

RETURN = r"""
report:
  description: What was asked and what the answer was.
  returned: always
  type: dict
"""

PAUSE_SECONDS = 0.25


class Unhealthy(Exception):
    """An answer is not the right one (yet)."""


class Nginx:
    """HTTPS to the site, by its name, wherever that name points today."""

    def __init__(self, domain: str, address: str, ca_file: str | None) -> None:
        self._domain, self._address = domain, address
        self._context = ssl.create_default_context()
        if ca_file:
            self._context.load_verify_locations(ca_file)
            # The certificate of the site itself is enough; the host need not know who signed it.
            self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    def request(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Return status and body.

        Raises:
            Unhealthy: there was no answer.
        """
        connection = http.client.HTTPSConnection(self._domain, timeout=10)
        try:
            plain = socket.create_connection((self._address, 443), timeout=10)
            connection.sock = self._context.wrap_socket(plain, server_hostname=self._domain)
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unhealthy(f"{method} {path}: no answer: {error}") from error
        finally:
            connection.close()

    def expect(self, status: int, method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
        """Return the body of an answer that must have this status.

        Raises:
            Unhealthy: it has another one.
        """
        found, body = self.request(method, path, headers)
        if found != status:
            text = body[:500].decode(errors="replace")
            raise Unhealthy(f"{method} {path}: {found} where {status} is right: {text}")
        return body


class Checks:
    """One method a check. Each returns what it saw, or raises `Unhealthy`."""

    def __init__(self, module: AnsibleModule) -> None:
        self._parameters: dict[str, Any] = module.params
        self._systemd = Systemd(module.run_command)
        self._deadline = time.monotonic() + module.params["timeout"]
        self._nginx = Nginx(module.params["domain"], module.params["address"], module.params["ca_file"])
        self._bearer = {"Authorization": f"Bearer {module.params['token']}"}

    def eventually(self, probe: Callable[[], str]) -> str:
        """Return what the probe returns once it raises `Unhealthy` no more, up to the deadline."""
        while True:
            try:
                return probe()
            except Unhealthy:
                if time.monotonic() > self._deadline:
                    raise
                time.sleep(PAUSE_SECONDS)

    def page(self) -> str:
        """The project says that it is well."""
        self._nginx.expect(200, "GET", self._parameters["health_path"])
        return f"{self._parameters['health_path']} answers 200"

    def release(self) -> str:
        """The right release serves, and its migrations are applied."""
        status = json.loads(self._nginx.expect(200, "GET", "/-/celeriac/status", self._bearer))
        if status["release"] != self._parameters["release"]:
            raise Unhealthy(f"release {status['release']} serves, not {self._parameters['release']}")
        if status["unapplied_migrations"]:
            raise Unhealthy(f"not applied: migrations {', '.join(status['unapplied_migrations'])}")
        return f"release {status['release']} serves, all migrations are applied"

    def task(self) -> str:
        """A task that is enqueued over HTTP is executed by a worker."""
        ping = json.loads(self._nginx.expect(202, "POST", "/-/celeriac/ping", self._bearer))["id"]

        def executed() -> str:
            answer = json.loads(self._nginx.expect(200, "GET", f"/-/celeriac/ping/{ping}", self._bearer))
            if answer["state"] != "SUCCESS":
                raise Unhealthy(f"celeriac.ping was enqueued, but no worker executed it: {answer['state']}")
            return f"celeriac.ping was executed by {answer['result']['hostname']}"

        return self.eventually(executed)

    def beat(self) -> str:
        """Beat ticked a moment ago."""
        text = self._systemd.properties("celery-beat.service", "StatusText").get("StatusText", "")
        tick = re.match(r"last tick (\d+)", text)
        if not tick or time.time() - int(tick[1]) > self._parameters["beat_seconds"]:
            raise Unhealthy(f"celery-beat.service does not tick: {text or 'it has not said anything'}")
        return f"celery-beat.service: {text}"

    def flower(self) -> str:
        """Flower sees the worker of the release, and shows nothing to a stranger."""
        login = f"{self._parameters['flower_username']}:{self._parameters['flower_password']}"
        basic = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        for path in ("/flower/", "/flower/api/workers", "/flower/metrics", "/flower/healthcheck"):
            self._nginx.expect(401, "GET", path)
        workers = json.loads(self._nginx.expect(200, "GET", "/flower/api/workers?status=true", basic))
        alive = [name for name, is_alive in workers.items() if is_alive]
        if not any(f"-{self._parameters['release']}@" in name for name in alive):
            release = self._parameters["release"]
            raise Unhealthy(f"Flower does not see the worker of {release}, but {alive or 'none'}")
        return f"Flower lists {', '.join(alive)} and refuses strangers"

    def of(self, kind: str) -> list[Callable[[], str]]:
        """Return the checks for a kind of host."""
        return {
            "web": [self.page, self.release, self.task],
            "beat": [self.beat],
            "monitor": [self.flower],
        }[kind]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": ["web", "beat", "monitor"],
                "required": True,
            },
            "domain": {"type": "str", "required": True},
            "address": {"type": "str", "default": "127.0.0.1"},
            "ca_file": {"type": "path"},
            "health_path": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "flower_username": {"type": "str", "required": True},
            "flower_password": {"type": "str", "required": True, "no_log": True},
            "beat_seconds": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    checks = Checks(module)
    report: dict[str, str] = {}
    failed: list[str] = []
    for check in (check for kind in module.params["checks"] for check in checks.of(kind)):
        try:
            report[check.__name__] = checks.eventually(check)
        except Unhealthy as error:
            failed.append(str(error))
    if failed:
        module.fail_json(msg="The site is not well.\n" + "\n".join(f"- {line}" for line in failed), report=report)
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
