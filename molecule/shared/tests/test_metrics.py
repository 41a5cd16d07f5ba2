"""What Prometheus reads of a site, over HTTPS as from any host: with its token, and with no other."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stack.web import Website

from testkit.waiting import eventually

UNITS = ("gunicorn", "celery-worker")
PATH = "/-/celeriac/metrics"
PING = "celeriac.ping"


def bearer(token: str) -> dict[str, str]:
    """Return the header that a token goes in."""
    return {"Authorization": f"Bearer {token}"}


def values(stranger: Website, token: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Return all values of a name, with their labels."""
    families = text_string_to_metric_families(stranger.get(PATH, bearer(token)).text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return [(dict(sample.labels), sample.value) for sample in samples]


@pytest.mark.parametrize("known", ["", "health_token", "flower_cookie_secret"])
def test_who_has_another_token_reads_nothing(stranger: Website, secrets: dict[str, str], known: str) -> None:
    assert stranger.get(PATH, bearer(secrets[known]) if known else {}).status == 404


def test_all_of_the_site_answers(stranger: Website, secrets: dict[str, str], choices: dict[str, object]) -> None:
    token = secrets["metrics_token"]

    def seen(name: str, label: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in values(stranger, token, name)}

    # On a busy computer one may be late for a page.
    eventually(lambda: seen("celeriac_up", "service") == {"broker": 1, "workers": 1, "database": 1})
    eventually(lambda: values(stranger, token, "celeriac_worker_slots"))
    named = choices["celery_worker_queues"]
    assert isinstance(named, list)
    # (Molecule has $$ for $.)
    wanted = {name.replace("$$", "$") for name in named}
    eventually(lambda: wanted <= {*seen("celeriac_queue_messages", "queue")})


def test_a_task_is_counted(stranger: Website, secrets: dict[str, str]) -> None:
    token = secrets["metrics_token"]

    def pings() -> float:
        counted = values(stranger, token, "celeriac_tasks_total")
        return sum(value for labels, value in counted if (labels["task"], labels["state"]) == (PING, "SUCCESS"))

    def ping() -> None:
        answer = stranger.request("POST", "/-/celeriac/ping", headers=bearer(secrets["health_token"]))
        assert answer.status == 202

    ping()
    # Not 0, as a page has it for which the worker was late.
    before = eventually(pings)
    ping()
    eventually(lambda: pings() > before)
    eventually(lambda: values(stranger, token, "celeriac_task_wait_seconds_count"))
