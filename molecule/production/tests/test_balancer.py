"""Behind a balancer the visitor is whom the balancer names, and nobody else is believed.

This computer is the balancer. A stranger asks from the machine itself, by its outward address.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator

import pytest
from stack.lab import DOMAIN, Site

PAGE = "/probe/page/"
VISITOR, FORGED = "198.51.100.7", "203.0.113.9"
# What a program sends, and prints: the body of the answer, or nothing.
ASK = """
import json, socket, ssl, sys
address, domain, preface, head = json.loads(sys.argv[1])
try:
    plain = socket.create_connection((address, 443), timeout=30)
    plain.sendall(preface.encode())
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(plain, server_hostname=domain) as connection:
        connection.sendall(head.encode())
        print(connection.makefile("rb").read().partition(b"\\r\\n\\r\\n")[2].decode())
except OSError:
    pass
"""


def head(method: str = "GET", path: str = PAGE, forwarded: str = "") -> str:
    """Return a request."""
    named = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
    return f"{method} {path} HTTP/1.0\r\nHost: {DOMAIN}\r\n{named}\r\n"


def preface(source: str) -> str:
    """Return the line that the PROXY protocol begins with."""
    return f"PROXY TCP4 {source} 192.0.2.1 50000 443\r\n"


def of_balancer(site: Site, request: str, before: str = "") -> str:
    """Return the answer to what the balancer passes on; empty for none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((site.machine.address, 443), timeout=30)
    try:
        plain.sendall(before.encode())
        with context.wrap_socket(plain, server_hostname=DOMAIN) as connection:
            connection.sendall(request.encode())
            return connection.makefile("rb").read().decode()
    except OSError:
        return ""


def of_stranger(site: Site, request: str, before: str = "", address: str = "") -> str:
    """Return the body of the answer to somebody else; empty for none."""
    words = json.dumps([address or site.machine.address, DOMAIN, before, request])
    return site.machine.feed(ASK, "python3", "-", words).strip()


def seen(answer: str) -> str:
    """Return whom the project takes for the visitor."""
    address: str = json.loads(answer.rpartition("\r\n\r\n")[2])["address"]
    return address


def turn(site: Site, **choices: object) -> None:
    """Bring nginx with these choices."""
    run = site.start("playbooks/edge.yml", "--tags", "nginx", "--extra-vars", json.dumps(choices)).wait()
    assert run.status == 0, run.output


@pytest.fixture(scope="module")
def balancer(site: Site) -> Iterator[str]:
    """The address of this computer, as the machine sees it."""
    yield site.machine.root.check_output("ip route show default").split()[2]
    turn(site)


@pytest.fixture(scope="module")
def by_header(site: Site, balancer: str) -> None:
    """A balancer that says who asks in a header."""
    turn(site, nginx_trusted_proxies=[balancer])


def test_who_asks_is_whom_the_balancer_names(site: Site, by_header: None) -> None:
    assert seen(of_balancer(site, head(forwarded=VISITOR))) == VISITOR
    assert site.machine.root.check_output("tail -n 1 /var/log/nginx/access.log").startswith(f"{VISITOR} ")
    # What the visitor wrote himself stands before what the balancer has added.
    assert seen(of_balancer(site, head(forwarded=f"{FORGED}, {VISITOR}"))) == VISITOR


def test_a_stranger_who_names_somebody_is_himself(site: Site, by_header: None) -> None:
    assert seen(of_stranger(site, head(forwarded=FORGED))) == site.machine.address


def test_log_ins_are_counted_by_visitor_and_not_by_balancer(site: Site, by_header: None) -> None:
    def attempt(visitor: str) -> str:
        return of_balancer(site, head("POST", "/admin/login/", visitor)).split()[1]

    assert "429" in (attempt(VISITOR) for _ in range(1000))
    assert attempt("198.51.100.8") != "429"


def test_with_the_proxy_protocol_nobody_else_gets_in_or_is_believed(site: Site, balancer: str, by_header: None) -> None:
    turn(site, nginx_trusted_proxies=[balancer], nginx_proxy_protocol=True)

    assert seen(of_balancer(site, head(forwarded=FORGED), preface(VISITOR))) == VISITOR
    assert seen(of_stranger(site, head(), preface(FORGED))) == site.machine.address
    assert of_stranger(site, head()) == ""
    # What asks on the host comes through no balancer.
    assert seen(of_stranger(site, head(), address="127.0.0.1")) == "127.0.0.1"
    run = site.start("playbooks/health.yml").wait()
    assert run.status == 0, run.output


def test_a_host_without_gunicorn_tells_a_balancer_that_it_is_unwell(site: Site) -> None:
    """Whatever it tells people."""
    turn(site)
    site.machine.systemctl("stop", "gunicorn.socket", "gunicorn")
    try:
        assert site.web.get("/").status == 502
        assert site.web.get("/health/").status == 503
    finally:
        site.machine.systemctl("start", "gunicorn.socket", "gunicorn")
    assert site.web.get("/health/").status == 200
