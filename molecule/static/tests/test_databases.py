"""What the status and the alerts say of a database of several hosts."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import site_databases
from ansible_collections.celeriac.site.plugins.modules import member_certificate
from ansible_collections.celeriac.site.plugins.plugin_utils.authority import Authority, made

HERE = "one"
LEADER = {"name": "two", "role": "leader", "state": "running"}
MINE: dict[str, Any] = {"name": HERE, "role": "replica", "state": "streaming", "lag": 0}


def run(words: list[str], **_: Any) -> tuple[int, str, str]:
    """Run a command, as a module does."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The certificates of a host, as Patroni has them, and no configuration."""
    authority = Authority(made())
    member = tmp_path / "member"
    member.mkdir()
    request = member_certificate.requested(run, member / "member.pem", HERE)
    pair = authority.signed(request, [HERE, "127.0.0.1"]) + (member / "member.pem").read_text()
    (member / "member.pem").write_text(pair)
    (member / "authority.pem").write_text(authority.certificate)
    return tmp_path


@contextmanager
def patroni(folder: Path, members: list[dict[str, Any]]) -> Iterator[None]:
    """A server that answers as Patroni does whoever shows a certificate of the site's authority."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"members": members}).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "member/authority.pem"))
    context.load_cert_chain(str(folder / "member/member.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 8008), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def configured(folder: Path) -> Path:
    """Write what tells where Patroni is, as the role does."""
    (folder / "17-main.yml").write_text(f'name: "{HERE}"\nrestapi:\n  connect_address: "127.0.0.1:8008"\n')
    return folder


def test_where_it_has_one_host_there_is_nothing_to_say(folder: Path) -> None:
    assert site_databases.report(folder) is None
    assert site_databases.as_text(None) == []


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([LEADER, MINE], "database: two leads, one is streaming"),
        ([LEADER | {"name": HERE}], "database: one leads, one is running"),
        ([LEADER | {"state": "stopped"}, MINE], "database: nobody leads, one is streaming"),
        ([LEADER, MINE | {"state": "start failed"}], "database: two leads, one is start failed"),
        ([LEADER, MINE | {"lag": 2**21}], "database: two leads, one is behind"),
        ([LEADER, MINE | {"lag": "unknown"}], "database: two leads, one is behind"),
        ([LEADER], "database: two leads, one is unknown to the others"),
    ],
)
def test_who_leads_is_said_and_how_this_one_is(folder: Path, members: list[dict[str, Any]], said: str) -> None:
    with patroni(folder, members):
        found = site_databases.report(configured(folder))
    assert site_databases.as_text(found) == [said]


def test_one_that_does_not_answer_is_said_to_do_so(folder: Path) -> None:
    found = site_databases.report(configured(folder))
    (line,) = site_databases.as_text(found)
    assert line.startswith("database: Patroni does not answer: URLError")
