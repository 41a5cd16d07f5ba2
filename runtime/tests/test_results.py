"""What PostgreSQL and UTF-8 cannot have in a text, and ids that there is no room for."""

import json
import subprocess
import sys

import pytest
from environment import postgresql_session
from ledgers import Project, with_ledger
from testkit.redis import Redis
from workers import messages, worker

# A NUL, a lone surrogate as from a file name that is no UTF-8, and what is none of it.
WORDS = {"a\x00b": r"a\x00b", "caf\udce9": r"caf\udce9", "é\U0001f955": "é\U0001f955"}


def test_an_error_of_whatever_signs_is_stored_with_its_traceback(
    ledger_environment: dict[str, str], sender: Project
) -> None:
    def done() -> dict[str, tuple[str, str, str]]:
        with postgresql_session(ledger_environment) as session:
            rows = session.execute(
                "SELECT task_id, status, result, traceback FROM django_celery_results_taskresult"
                " WHERE status = 'FAILURE'"
            ).fetchall()
        return {row[0]: row[1:] for row in rows}

    sent = {words: sender.send(words, task="fail", ignore_result=False) for words in WORDS}
    # Otherwise django-celery-results stores no traceback at all.
    with worker(with_ledger(ledger_environment, CELERY_RESULT_EXTENDED=True)) as only:
        only.waits(lambda: len(done()) == len(WORDS), "results")
    for words, readable in WORDS.items():
        _, result, traceback = done()[sent[words]]
        assert json.loads(result)["exc_type"] == "ValueError"
        assert json.loads(result)["exc_message"] == [words]
        assert traceback.rstrip().endswith(f"ValueError: {readable}")


SENDS = """
import sys, django
django.setup()
if sys.argv[1] == "configured":
    import celeriac.app
from demo.celery import app
app.loader.import_default_modules()
try:
    print(app.tasks["work.tasks.sleep"].apply_async(("a", 0), task_id="x" * int(sys.argv[2])).id)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("process", ["configured", "with the journal"])
def test_an_id_without_room_is_refused_to_the_sender(
    process: str, ledger_environment: dict[str, str], redis: Redis
) -> None:
    """By any process that has the journal, and by those of a deployed site that has none."""
    environment = {**ledger_environment, "MORE_APPS": "celeriac.ledger" if "j" in process else ""}

    def send(signs: int) -> str:
        return subprocess.check_output(
            [sys.executable, "-c", SENDS, process, str(signs)], env=environment, text=True
        ).strip()

    assert send(256).endswith("its id has 256 signs, 255 at most")
    assert messages(redis) == (0, 0)
    assert send(255) == "x" * 255
    assert messages(redis) == (1, 0)
