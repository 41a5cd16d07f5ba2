"""What a computer in another network can reach, and how.

This one is such a computer: the machine has a network of its own.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import nullcontext

import pytest
from stack.machine import Machine
from stack.ports import open_ports
from stack.web import Answer, Website, is_slowed
from testinfra.host import Host

UNITS = ("nginx", "gunicorn")


def test_only_three_ports_answer(machine: Machine) -> None:
    assert open_ports(machine.address) == {22, 80, 443}


def test_nothing_listens_for_udp_beyond_loopback(host: Host) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hlnu").splitlines()]

    assert [local for local in listening if not local.startswith(("127.", "[::1]"))] == []


def test_nothing_else_listens_over_ipv6(host: Host) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hlnt6").splitlines()]

    assert {local for local in listening if not local.startswith("[::1]")} == {
        "[::]:22",
        "[::]:80",
        "[::]:443",
        "*:22",
    } & set(listening)


@pytest.mark.parametrize(
    "path", ["/", "/admin/?next=/", "/static/app/site.css", "/flower/metrics", "/-/celeriac/status"]
)
def test_port_80_only_sends_to_https(stranger: Website, path: str) -> None:
    head = plain_request(stranger, path)

    assert re.match(r"HTTP/1.1 301 ", head)
    assert f"\r\nLocation: https://{stranger.domain}{path}\r\n" in head


def plain_request(site: Website, path: str) -> str:
    """Send a request to port 80, and return the head of the answer."""
    with socket.create_connection((site.address, 80), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {site.domain}\r\nConnection: close\r\n\r\n".encode())
        return connection.makefile("rb").read().partition(b"\r\n\r\n")[0].decode() + "\r\n"


def test_cookies_travel_over_https_only(site: Website) -> None:
    assert site.get("/flower/").status == 200
    assert set(site.cookies) == {"csrftoken", "sessionid", "_xsrf"}
    assert all(cookie["secure"] for cookie in site.cookies.values())


def test_browsers_remember_to_come_by_https(stranger: Website) -> None:
    assert stranger.get("/").headers["Strict-Transport-Security"] == "max-age=3600"


@pytest.mark.parametrize("name", ["evil.test", None])
def test_certificate_is_shown_to_nobody_who_asks_for_another_name(stranger: Website, name: str | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    with (
        socket.create_connection((stranger.address, 443), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        context.wrap_socket(plain, server_hostname=name)


def test_unknown_host_gets_no_page(stranger: Website) -> None:
    try:
        answer = stranger.get("/", headers={"Host": "evil.test"})
    except (ConnectionError, OSError):
        return
    assert answer.status in {400, 404, 421, 444}, answer.text


def shake_hands(stranger: Website, context: ssl.SSLContext) -> None:
    """Agree upon a connection."""
    with socket.create_connection((stranger.address, 443), timeout=10) as plain:
        context.wrap_socket(plain, server_hostname=stranger.domain).close()


@pytest.mark.parametrize(("version", "works"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
def test_old_tls_is_refused(stranger: Website, version: ssl.TLSVersion, works: bool) -> None:
    context = ssl.create_default_context(cadata=stranger.certificate)
    # This computer would not offer the old version either, if it were not told to.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version

    with nullcontext() if works else pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        shake_hands(stranger, context)


@pytest.mark.parametrize(
    ("ciphers", "works"), [("ECDHE+AESGCM", True), ("ECDHE+AES:!AESGCM:!AESCCM", False), ("kRSA", False)]
)
def test_ciphers_that_are_broken_one_day_are_refused(stranger: Website, ciphers: str, works: bool) -> None:
    """In TLS 1.2: without forward secrecy, or in blocks (CBC). Version 1.3 has none of these."""
    context = ssl.create_default_context(cadata=stranger.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)

    with nullcontext() if works else pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        shake_hands(stranger, context)


def test_a_browser_may_speak_http_2(stranger: Website) -> None:
    """Nginx sends its settings first (RFC 9113, 3.4): a frame of type 4 on stream 0."""
    context = ssl.create_default_context(cadata=stranger.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])

    with (
        socket.create_connection((stranger.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=stranger.domain) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        head = connection.recv(9)
    assert (head[3], head[5:9]) == (4, bytes(4))


def test_static_file_comes_from_nginx_and_may_be_kept(stranger: Website) -> None:
    link = re.search(r'"(/static/[^"]+\.css)"', stranger.get("/").text)
    assert link

    answer = stranger.get(link[1])
    assert answer.status == 200
    assert answer.headers["X-Release"] is None, "gunicorn answered"
    longest = max(
        int(seconds) for seconds in re.findall(r"max-age=(\d+)", ",".join(answer.headers.get_all("Cache-Control", [])))
    )
    assert longest >= 365 * 24 * 3600


def test_static_file_without_a_hash_is_asked_for_each_time(stranger: Website) -> None:
    answer = stranger.get("/static/app/site.css")
    assert answer.status == 200
    assert answer.headers["X-Release"] is None, "gunicorn answered"
    assert answer.headers.get_all("Cache-Control") == ["no-cache"]
    assert answer.headers["Expires"] is None

    assert stranger.get("/static/app/site.css", {"If-None-Match": answer.headers["ETag"]}).status == 304
    assert stranger.get("/static/app/no-such-file.css").headers["Cache-Control"] is None


LONG_NAME = ".".join(["x" * 63, "y" * 63, "z" * 63, "s" * 56, "test"])


def test_a_name_as_long_as_preflight_lets_it_be_is_a_name_to_nginx(machine: Machine, stranger: Website) -> None:
    assert len(LONG_NAME) == 253
    script = f"""
    trap 'rm -f /run/long.*' EXIT
    sed 's/{stranger.domain}/{LONG_NAME}/' /etc/nginx/sites-enabled/site.conf > /run/long.conf
    echo 'events {{}} http {{ include /etc/nginx/conf.d/celeriac.conf; include /run/long.conf; }}' > /run/long.main
    nginx -t -q -c /run/long.main
    """

    machine.feed(script)


@pytest.mark.last
def test_who_tries_log_ins_is_slowed_and_nobody_else(
    stranger: Website, site: Website, choices: dict[str, object]
) -> None:
    def attempt(_: int) -> Answer:
        # Without the form's token: Django refuses it at once, and nginx knows no difference.
        return stranger.request("POST", "/admin/login/", "username=x")

    assert is_slowed(attempt, 10 * int(str(choices["site_login_attempts"])))

    assert stranger.get("/admin/login/").status == 200
    assert stranger.request("POST", "/admin/", "username=x").status != 429
    assert site.get("/admin/").status == 200


def test_only_root_may_read_what_knows_a_log_in(host: Host) -> None:
    assert host.file("/etc/nginx/sites-enabled/site.conf").mode == 0o600
