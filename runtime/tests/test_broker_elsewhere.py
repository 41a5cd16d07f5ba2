"""A broker elsewhere, that the inventory has chosen: over TLS, with the authority and the password that it says."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from celery import Celery
from test_release import Result, lines, prepare, refused
from testkit.certificates import NAME
from testkit.ports import free_port
from testkit.rabbitmq import RabbitMQ
from testkit.redis import redis_server
from workers import record, worker

from celeriac.configure import configure

# In one process, for a start takes seconds.
ASK_ALL = """
import json, os, sys
import django
from django.core.management import CommandError
from celeriac.release import broker
django.setup()
said = {}
for os.environ["CELERIAC_BROKER_URL"] in sys.argv[1:]:
    try:
        said[os.environ["CELERIAC_BROKER_URL"]] = broker.check()
    except CommandError as error:
        said[os.environ["CELERIAC_BROKER_URL"]] = str(error)
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Elsewhere:
    """A broker that speaks TLS.

    Attributes:
        url: with its log-in.
        authority: the file with the certificate of its authority.
    """

    url: str
    authority: Path

    def asked(self, environment: dict[str, str], *, trusted: bool = True) -> Result:
        """Let a release ask it, on a host that trusts its authority, or does not."""
        trust = {"SSL_CERT_FILE": str(self.authority)} if trusted else {}
        return prepare(environment, "broker", **trust, CELERIAC_BROKER_URL=self.url)

    def refusals(self, environment: dict[str, str], urls: Iterable[str]) -> dict[str, str]:
        """Return what a release says of each of these addresses."""
        asked = subprocess.run(
            [sys.executable, "-c", ASK_ALL, *urls],
            env={**environment, "SSL_CERT_FILE": str(self.authority)},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        said: dict[str, str] = json.loads(asked.stdout)
        return said


@pytest.fixture(params=["rabbitmq", "redis"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    """Each of the two kinds."""
    if request.param == "rabbitmq":
        server: RabbitMQ = request.getfixturevalue("rabbitmq")
        yield Elsewhere(server.tls_url, server.certificate.authority)
        return
    with redis_server(password="a b/@:", tls=NAME) as redis:
        assert redis.certificate
        yield Elsewhere(redis.url.replace("//:", "//default:"), redis.certificate.authority)


def test_a_release_is_let_in_and_its_tasks_are_executed(
    environment: dict[str, str], elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the project says of its own broker."""
    asked = elsewhere.asked(environment)
    assert asked.returncode == 0, asked.stderr
    assert "lets the site in" in lines(asked)["broker"]

    variables = {"SSL_CERT_FILE": str(elsewhere.authority), "CELERIAC_BROKER_URL": elsewhere.url}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    queue = {"CELERY_TASK_DEFAULT_QUEUE": "elsewhere"}
    with worker({**environment, **variables, "MORE_SETTINGS": json.dumps(queue)}) as only:
        with Celery(set_as_current=False) as sender:
            configure(sender, result_retries=0).send_task("work.tasks.sleep", ("there", 0), queue="elsewhere")
        only.waits(lambda: "ended there" in record(environment), "end of the task")
        only.stop()


def test_who_is_not_let_in_is_told_which_choice_helps(environment: dict[str, str], elsewhere: Elsewhere) -> None:
    """And no password."""
    log_in, _, place = elsewhere.url.rpartition("@")
    port = place.split(":")[1].split("/")[0]
    plain = elsewhere.url.replace("s://", "://")
    wrong = {
        f"{log_in}x@{place}": "`vault_broker_password` the password",
        elsewhere.url.replace("localhost", "127.0.0.1"): "the certificate there is another one's. `site_broker` has",
        elsewhere.url.replace("localhost", "mq.site.invalid"): "this host knows no such name. `site_broker` has it",
        elsewhere.url.replace(port, str(free_port())): "it does not answer as a broker does. `site_broker` has",
        plain: "it has to be a port without TLS",
        f"{log_in}@localhost:{port}/77": "refuses what `site_broker` has behind the last slash",
    }
    said, password = elsewhere.refusals(environment, wrong), f":{log_in.rpartition(':')[2]}"
    for url, why in wrong.items():
        assert why in said[url], (url, said[url])
        assert password not in said[url]
    asked = elsewhere.asked(environment, trusted=False)
    assert refused(asked, "broker", "`site_ca_certificates: [files/company.crt]`"), asked.stderr


def test_a_project_with_its_own_broker_is_asked_nothing(environment: dict[str, str]) -> None:
    asked = prepare(environment, "broker", BROKER_URL="amqp://nobody.invalid", CELERIAC_BROKER_URL="")
    assert asked.returncode == 0, asked.stderr
