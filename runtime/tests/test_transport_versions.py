"""The transport with a version of Celery, kombu and redis-py that no lock of the tests has, and when it is not used.

That of the other minor versions is `bin/test versions`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest
import redis as redis_client
from environment import HERE
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import let_end, messages, record, send

from celeriac import transport

VERSIONS = ["celery==5.6.2", "kombu==5.6.2", "redis==7.1.0"]


@pytest.fixture
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with these versions."""
    directory = tmp_path_factory.mktemp("venv")
    uv = [Path(sys.executable).with_name("uv")]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    python = directory / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--python", python, *VERSIONS]
    subprocess.run(install, check=True)
    return python


@contextmanager
def worker(python: Path, environment: dict[str, str], name: str) -> Iterator[int]:
    """Run a worker; yield its process id, which is that of its group."""
    log = Path(environment["SCRATCH"]) / f"{name}.log"
    options = ["--concurrency=2", f"--hostname={name}@h", "--without-gossip", "--without-mingle"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", "celery", "-A", "bare", "worker", "--loglevel=INFO", *options],
            env={**environment, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
            cwd=environment["SCRATCH"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert comes_true(lambda: "ready." in log.read_text(), within=60), log.read_text()
        yield process.pid
        assert process.poll() in (None, -signal.SIGKILL), log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_nothing_is_lost_runs_twice_or_kills_for_ever(python: Path, environment: dict[str, str], redis: Redis) -> None:
    def began(name: str) -> int:
        return record(environment).count(f"began {name}")

    with worker(python, environment, "one") as one:
        send(redis, "kept", task="bare.wait")
        assert comes_true(lambda: began("kept") == 1, within=60)
        with redis_client.Redis.from_url(redis.url) as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        send(redis, "cut", task="bare.wait")
        assert comes_true(lambda: began("cut") == 1, within=60)
        let_end(environment, "cut")
        assert comes_true(lambda: "ended cut" in record(environment), within=60)
        # Acknowledged, too: killed before that, it would run again, and be right to.
        assert comes_true(lambda: messages(redis) == (0, 1), within=60)
        os.killpg(one, signal.SIGKILL)
    with worker(python, environment, "two"):
        # Whatever the visibility timeout of an hour says.
        assert comes_true(lambda: began("kept") == 2, within=60), messages(redis)
        let_end(environment, "kept")
        send(redis, "deadly", task="bare.die")
        send(redis, "other", task="bare.wait")
        let_end(environment, "other")
        assert comes_true(lambda: "ended other" in record(environment), within=60)
        with redis_client.Redis.from_url(redis.url) as client:
            assert comes_true(lambda: client.hlen("celeriac.poison") == 1, within=60)
        assert comes_true(lambda: messages(redis) == (0, 0), within=60)
    assert began("deadly") == 2
    assert [began("cut"), began("other")] == [1, 1]


def test_a_version_that_is_not_known_is_left_to_kombu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kombu, "VERSION", (5, 8, 0))
    monkeypatch.setattr(kombu, "__version__", "5.8.0")
    assert transport.why_not() == "kombu 5.8.0 is not one of those it was tried with"
    monkeypatch.setattr(kombu, "VERSION", (5, 4, 0))
    assert transport.why_not() is None


def test_an_operator_can_choose_that_of_kombu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(transport.CHOICE, "stock")
    assert transport.why_not() == "CELERIAC_REDIS_TRANSPORT=stock"
