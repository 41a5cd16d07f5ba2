"""The broker is one elsewhere, over TLS, with an authority of its own: a Redis and a RabbitMQ of this computer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from stack.lab import Site
from stack.releases import Release

from testkit.certificates import Certificate
from testkit.rabbitmq import RabbitMQ, rabbitmq_server
from testkit.redis import Redis, redis_server
from testkit.waiting import eventually

NAME = "broker.site.test"
PASSWORDS = {"redis": "a b/@:%", "rabbitmq": "guest"}
TRANSPORTS = {"redis": "celeriac", "rabbitmq": "amqp"}


@dataclass(frozen=True)
class Elsewhere:
    """A broker that the machine reaches by its name.

    Attributes:
        kind: redis or rabbitmq.
        address: as `site_broker` has it.
        server: what runs.
        release: that is deployed with it.
    """

    kind: str
    address: str
    server: Redis | RabbitMQ
    release: Release

    def choices(self, **changed: object) -> tuple[str, ...]:
        """Return what chooses it, but for what is to be wrong."""
        assert isinstance(self.server.certificate, Certificate)
        right: dict[str, object] = {
            "site_broker": self.address,
            "vault_broker_password": PASSWORDS[self.kind],
            "site_ca_certificates": [str(self.server.certificate.authority)],
            "site_broker_before": "redis",
        }
        return "-e", json.dumps(right | changed)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def elsewhere(request: pytest.FixtureRequest, site: Site, full: bool) -> Iterator[Elsewhere]:
    """Each of the two kinds, known to the machine; it has its Redis again in the end."""
    if not full:
        pytest.skip("a broker elsewhere is tried with --full")
    release = site.healthy()
    address = site.machine.root.check_output("ip -4 route show default").split()[2]
    site.machine.root.check_output(f"sed -i '/{NAME}/d' /etc/hosts; echo '{address} {NAME}' >> /etc/hosts")
    try:
        if request.param == "redis":
            with redis_server(password=PASSWORDS["redis"], tls=NAME, address=address) as redis:
                yield Elsewhere("redis", f"rediss://default@{NAME}:{redis.port}/3", redis, release)
        else:
            with rabbitmq_server(tls=NAME, address=address) as rabbitmq:
                yield Elsewhere("rabbitmq", f"amqps://guest@{NAME}:{rabbitmq.tls_port}//", rabbitmq, release)
    finally:
        site.start("site.yml", *release.arguments).wait()


def test_what_keeps_it_from_being_used_is_said_with_the_choice_that_helps(site: Site, elsewhere: Elsewhere) -> None:
    serving = site.current()
    wrong = {
        "the host does not trust the certificate there": elsewhere.choices(site_ca_certificates=[]),
        "does not answer the host": elsewhere.choices(site_broker=elsewhere.address.replace(NAME, f"no.{NAME}")),
        "it refuses the log-in. `site_broker` has the user, and `vault_broker_password`": elsewhere.choices(
            vault_broker_password="wrong"
        ),
    }
    for why, choices in wrong.items():
        run = site.start("site.yml", *elsewhere.release.arguments, *choices).wait()

        assert run.status != 0, why
        assert why in run.output, run.output
    assert site.faults(serving) == []
    site.works(60)


def test_a_site_works_with_it(site: Site, elsewhere: Elsewhere) -> None:
    waits = site.send("probe.quick", "moved", count=20, countdown=30)
    run = site.start("site.yml", *elsewhere.release.arguments, *elsewhere.choices()).wait()
    assert run.status == 0, run.output
    site.works(60)
    eventually(lambda: not {*waits} - site.executed(waits).keys(), 120, pause=2)
    status = site.start("playbooks/status.yml", *elsewhere.choices()).wait().output
    assert f"broker: {TRANSPORTS[elsewhere.kind]}" in status, status
    assert "queue celery: 0 waiting" in status, status
    assert json.loads(site.web.get("/health/").text)["broker"] == "ok"

    site.send("probe.deadly")
    eventually(lambda: site.broker()["parked"] == 1, 240, pause=2)
    site.works(60)


def test_of_one_that_is_gone_it_is_said_and_another_can_take_its_place(site: Site, elsewhere: Elsewhere) -> None:
    """The processes that serve answer that it is not there, beside those that are checked."""
    elsewhere.server.stop()
    eventually(lambda: site.web.get("/health/").status == 503, 60)
    assert json.loads(site.web.get("/health/").text)["broker"] == "unavailable"
    status = site.start("playbooks/status.yml", *elsewhere.choices()).wait().output
    assert "waiting for the broker" in status, status
    assert "queues and workers are not known" in status, status
    run = site.start("site.yml", *elsewhere.release.arguments).wait()

    assert run.status == 0, run.output
    site.works(60)
