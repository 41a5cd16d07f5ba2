"""With `CELERY_RESULT_BACKEND=redis`, and Redis away."""

from testkit.ports import free_port

from processes import run

ENQUEUE = """
from celeriac.enqueue import BrokerUnavailableError, enqueue
from app.tasks import add
try:
    enqueue(add, 1, 2)
except BrokerUnavailableError:
    print("away")
"""


def answer_without_redis(code: str) -> str:
    """Return what the code prints, which has to come: a program that waited for Redis would be ended."""
    result = run(
        *("python3", "manage.py", "shell", "-v0", "-c", code),
        CELERY_RESULT_BACKEND="redis",
        REDIS_PORT=str(free_port()),
    )
    return result.stdout.splitlines()[-1] if result.stdout else result.stderr


def test_starting_a_task_fails_soon() -> None:
    """And does not try for twenty seconds to subscribe to a result that nobody waits for."""
    assert answer_without_redis(ENQUEUE) == "away"
