"""Redis over TLS, on a socket, with a prefix, behind Sentinel; and without an event loop."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from supervised import Supervised
from testkit.ports import free_port
from testkit.redis import Redis
from testkit.waiting import comes_true
from transport_bed import ONE, configured, kill, names, sender, trap
from workers import let_end, messages, record, send, worker


@dataclass
class Way:
    """A way to Redis.

    Attributes:
        url: for Celery.
        client: an onlooker.
        options: of the transport.
    """

    url: str
    client: "redis_client.Redis"
    options: dict[str, Any] = field(default_factory=dict)

    def left(self) -> tuple[int, int]:
        """Return how many messages wait, and how many a worker has."""
        prefix = self.options.get("global_keyprefix", "")
        return self.client.llen(f"{prefix}celery"), self.client.hlen(f"{prefix}unacked")


@contextmanager
def redis_server(directory: Path, *options: object) -> Iterator[None]:
    """Run a redis-server that keeps nothing until the block ends."""
    directory.mkdir()
    command = ["redis-server", *map(str, options), "--dir", str(directory)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def answers(client: "redis_client.Redis") -> bool:
    """Return whether a server answers."""
    try:
        return bool(client.ping())
    except redis_client.exceptions.RedisError:
        return False


@contextmanager
def over_tls(scratch: Path, _: Redis) -> Iterator[Way]:
    """Run a Redis that speaks TLS only, with a certificate of its own."""
    port, key, certificate = free_port(), scratch / "key.pem", scratch / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
    url = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    with (
        redis_server(scratch / "tls", "--port", 0, "--tls-port", port, *files),
        redis_client.Redis.from_url(url) as client,
    ):
        assert comes_true(lambda: answers(client), 30)
        yield Way(url, client)


@contextmanager
def on_a_socket(scratch: Path, _: Redis) -> Iterator[Way]:
    """Run a Redis on a socket in the file system only."""
    path = scratch / "redis.sock"
    with (
        redis_server(scratch / "on-socket", "--port", 0, "--unixsocket", path),
        redis_client.Redis(unix_socket_path=str(path)) as client,
    ):
        assert comes_true(lambda: answers(client), 30)
        yield Way(f"redis+socket://{path}", client)


@contextmanager
def with_a_prefix(_: Path, redis: Redis) -> Iterator[Way]:
    """Take the Redis of the other tests, and see that nothing is outside of the prefix."""
    prefix = "site:"
    with redis_client.Redis.from_url(redis.url, decode_responses=True) as client:
        yield Way(redis.url, client, {"global_keyprefix": prefix})
        outside = [key for key in client.scan_iter() if not key.startswith(prefix)]
    assert not outside


def ends(running: Supervised, environment: dict[str, str], way: Way, name: str) -> None:
    """See a task end, and nothing be left."""
    running.waits(lambda: name in names(record(environment), "ended"), f"end of {name[:20]}")
    running.waits(lambda: way.left() == (0, 0), "acknowledgement")


@pytest.mark.parametrize(
    ("opened", "pool"),
    [
        pytest.param(over_tls, "prefork", id="tls"),
        pytest.param(on_a_socket, "solo", id="socket-solo"),
        pytest.param(on_a_socket, "threads", id="socket-threads"),
        pytest.param(with_a_prefix, "threads", id="prefix-threads"),
        pytest.param(with_a_prefix, "prefork", id="prefix"),
    ],
)
def test_tasks_run_and_those_of_a_killed_worker_come_back(
    environment: dict[str, str],
    redis: Redis,
    scratch: Path,
    opened: Callable[[Path, Redis], Any],
    pool: str,
) -> None:
    with ExitStack() as stack:
        way = stack.enter_context(opened(scratch, redis))
        put = stack.enter_context(sender(way.url, **way.options))
        configured_for_it = configured(environment, **way.options)
        there = {**configured_for_it, "BROKER_URL": way.url}
        with worker(there, ONE, f"--pool={pool}") as first:
            first.told("READY=1")
            for name in ("short", "long " * 50_000):  # of several packets, and of several records
                put(name, 0)
                ends(first, environment, way, name)
            put("stuck", task="wait_for_file")
            first.waits(lambda: record(environment)[-1] == "began stuck", "running task")
            put("waits", 0)
            kill(first)
        with worker(there, ONE, f"--pool={pool}") as second:
            second.waits(lambda: record(environment)[-2:] == ["began stuck"] * 2, "second start")
            let_end(environment, "stuck")
            ends(second, environment, way, "stuck")
            ends(second, environment, way, "waits")
            second.stop()
        assert len(record(environment)) == 4 * 2 + 1


@dataclass
class Watched:
    """A master of Redis, its replica, and the Sentinel that watches them.

    Attributes:
        port: of the Sentinel.
        sentinel: a client of it.
    """

    port: int
    sentinel: "redis_client.Redis"

    def address(self) -> Any:
        """Return the host and the port of the master of now."""
        return self.sentinel.sentinel_get_master_addr_by_name("main")

    def master(self) -> "redis_client.Redis":
        """Return a client of it."""
        return redis_client.Redis(*self.address())

    def replicated(self) -> bool:
        """Return whether the replica has all that the master has."""
        with self.master() as client:
            return int(client.wait(1, 1000)) == 1

    def fails_over(self) -> bool:
        """Begin a failover, if that can be."""
        try:
            return bool(self.sentinel.sentinel_failover("main"))
        except redis_client.exceptions.ResponseError:
            return False  # it does not know the replica yet


@pytest.fixture
def watched(scratch: Path) -> Iterator[Watched]:
    """Servers of this test."""
    first, second, port = free_port(), free_port(), free_port()
    configuration = scratch / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {first} 1\n"
        "sentinel failover-timeout main 20000\n"
    )
    fast = ["--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", 0]
    with (
        redis_server(scratch / "first", "--port", first, *fast),
        redis_server(scratch / "second", "--port", second, "--replicaof", f"127.0.0.1 {first}", *fast),
        redis_server(scratch / "watching", configuration, "--sentinel"),
        redis_client.Redis(port=port) as sentinel,
    ):
        found = Watched(port, sentinel)
        assert comes_true(lambda: answers(sentinel), 30)
        assert comes_true(found.replicated, 60)
        yield found


def test_a_failover_loses_nothing(environment: dict[str, str], watched: Watched) -> None:
    url = f"sentinel://127.0.0.1:{watched.port}"
    there = {**configured(environment, master_name="main"), "BROKER_URL": url}
    before = watched.address()
    with sender(url, master_name="main") as put, worker(there) as first:
        first.told("READY=1")
        put("short", 0)
        ends(first, environment, Way(url, watched.master()), "short")
        put("held", task="wait_for_file")
        first.waits(lambda: record(environment)[-1:] == ["began held"], "running task")
        assert comes_true(watched.replicated)
        assert comes_true(watched.fails_over, 60)
        assert comes_true(lambda: watched.address() != before, 60)
        first.told("STATUS=consuming", times=2)
        now = Way(url, watched.master())
        let_end(environment, "held")
        ends(first, environment, now, "held")
        with sender(url, master_name="main") as put_there:
            put_there("stuck", task="wait_for_file")
            first.waits(lambda: record(environment)[-1] == "began stuck", "running task")
            kill(first)
        with worker(there) as second:
            second.waits(lambda: record(environment)[-2:] == ["began stuck"] * 2, "second start")
            let_end(environment, "stuck")
            ends(second, environment, now, "stuck")
    assert record(environment).count("began held") == 1


def test_what_a_worker_has_is_its_own_by_another_url_too(environment: dict[str, str], redis: Redis) -> None:
    """As with several Sentinels: where one does not answer, Celery takes the next."""
    lease = 2  # seconds
    with (
        trap(redis, configured(environment, prefetch=4, lease_seconds=lease)) as (first_way, there),
        trap(redis, there) as (_, by_the_other),
        worker({**there, "BROKER_URL": f"{there['BROKER_URL']};{by_the_other['BROKER_URL']}"}, ONE) as only,
    ):
        only.told("READY=1")
        send(redis, "long", task="wait_for_file")
        only.waits(lambda: record(environment) == ["began long"], "running task")
        for name in "abc":
            send(redis, name, 0)
        only.waits(lambda: messages(redis) == (0, 4), "tasks taken in advance")
        first_way.close()
        only.told("STATUS=consuming", times=2)
        time.sleep(3 * lease)  # nobody is to think that the worker is gone
        let_end(environment, "long")
        only.waits(lambda: "ended c" in record(environment), "last task")
        only.waits(lambda: messages(redis) == (0, 0), "acknowledgements")
        assert "is gone:" not in only.log.read_text()
    assert names(record(environment), "began") == ["long", *"abc"]
