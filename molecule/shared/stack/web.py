"""A browser for the site: HTTPS by its name, to the address of the machine, with cookies."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

from websockets.sync.client import ClientConnection, connect


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def basic(name: str, password: str) -> dict[str, str]:
    """Return the header of a log-in as Flower wants it."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def is_slowed(attempt: Callable[[int], Answer], attempts: int) -> bool:
    """Say whether one of many attempts is answered with 429.

    Several are under way at a time, as those of a program that guesses: one after the other, on a busy computer, they
    may come no faster than nginx lets them.

    Args:
        attempt: makes one; takes its number.
        attempts: how many there are at most.
    """
    with ThreadPoolExecutor(16) as people:
        for first in range(0, attempts, 100):
            if any(answer.status == 429 for answer in people.map(attempt, range(first, first + 100))):
                return True
    return False


@dataclass
class Website:
    """The site as the people see it.

    Attributes:
        domain: its name.
        address: where that name would point.
        certificate: what the browser trusts, PEM.
        cookies: what it was given.
    """

    domain: str
    address: str
    certificate: str
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    def request(
        self,
        method: str,
        path: str,
        body: str | bytes = "",
        headers: Mapping[str, str] | None = None,
        seconds: float = 30,
    ) -> Answer:
        """Send a request with the path exactly as it is written, and keep the cookies of the answer.

        It must be there after so many seconds of silence.
        """
        own = {"Referer": f"https://{self.domain}/", **(headers or {})}
        if self.cookies:
            own["Cookie"] = "; ".join(f"{name}={item.value}" for name, item in self.cookies.items())
        connection = http.client.HTTPSConnection(self.domain, timeout=seconds)
        context = ssl.create_default_context(cadata=self.certificate)
        plain = socket.create_connection((self.address, 443), timeout=seconds)
        connection.sock = context.wrap_socket(plain, server_hostname=self.domain)
        try:
            connection.request(method, path, body or None, own)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        for cookie in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(cookie)
        return answer

    def get(self, path: str, headers: Mapping[str, str] | None = None, seconds: float = 30) -> Answer:
        """Send a GET request."""
        return self.request("GET", path, headers=headers, seconds=seconds)

    @contextmanager
    def websocket(self, path: str = "/") -> Iterator[ClientConnection]:
        """Open a websocket."""
        context = ssl.create_default_context(cadata=self.certificate)
        plain = socket.create_connection((self.address, 443), timeout=30)
        with connect(f"wss://{self.domain}{path}", sock=plain, ssl=context, close_timeout=30) as opened:
            yield opened

    def log_in(self, name: str, password: str) -> Answer:
        """Log in to Django's admin, and return the answer to the form."""
        form = self.get("/admin/login/").text
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert found, f"this is no log-in form: {form}"
        return self.request(
            "POST",
            "/admin/login/?next=/admin/",
            f"csrfmiddlewaretoken={found[1]}&username={name}&password={password}",
            {"Content-Type": "application/x-www-form-urlencoded"},
        )

    def enqueue_add(self, x: int, y: int) -> str:
        """Let a worker add two numbers, which takes it five seconds; return the id of the task."""
        answer = self.request(
            "POST",
            "/tasks/add/",
            json.dumps({"x": x, "y": y}),
            {"Content-Type": "application/json", "X-CSRFToken": self.cookies["csrftoken"].value},
        )
        assert answer.status == 202, answer.text
        identity: str = answer.json()["id"]
        return identity

    def task(self, identity: str) -> dict[str, Any]:
        """Return what the site says of a task."""
        answer = self.get(f"/tasks/{identity}/")
        assert answer.status == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report
