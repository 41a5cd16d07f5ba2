"""The sd_notify protocol, against real sockets."""

import socket
from pathlib import Path

import pytest

from celeriac.systemd import notify


def listen(address: str) -> socket.socket:
    """Return a socket on an address, as systemd makes one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(1)
    return listener


def test_a_message_reaches_a_socket_in_the_file_system(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(scratch / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listen(address) as listener:
        assert notify("READY=1\nSTATUS=consuming")
        assert listener.recv(100) == b"READY=1\nSTATUS=consuming"


def test_a_message_reaches_an_abstract_socket(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{scratch.name}")
    with listen(f"\0{scratch.name}") as listener:
        assert notify("STOPPING=1")
        assert listener.recv(100) == b"STOPPING=1"


def test_nothing_happens_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False


def test_a_supervisor_that_is_gone_is_no_error(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(scratch / "gone"))
    assert notify("READY=1") is False


def test_a_supervisor_that_does_not_read_holds_nobody_up(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(scratch / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listen(address):
        while notify("STATUS=one more"):
            pass  # until its queue is full: whoever waited for room then would not return
