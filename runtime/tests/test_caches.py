"""The Redis of the queue is no cache: a release that has it as one is refused, and clearing it."""

import json

import pytest
import redis as redis_client
from django.core.cache.backends.redis import RedisCache
from test_release import prepare, refused
from testkit.redis import Redis

BACKEND = {"BACKEND": "django.core.cache.backends.redis.RedisCache"}
# Of database 0, where the queue is, and of any other.
DATABASES = (0, 3)


@pytest.mark.parametrize("place", ["127.0.0.1:6380/0", "localhost:6380/3"])
def test_a_cache_at_the_redis_of_the_queue_is_refused(bare_environment: dict[str, str], place: str) -> None:
    queue = {**bare_environment, "BROKER_URL": "redis://127.0.0.1:6380/0"}
    cache = {**BACKEND, "LOCATION": f"redis://site:secret@{place}"}
    result = prepare(queue, "check", MORE_SETTINGS=json.dumps({"CACHES": {"default": cache}}))
    assert refused(result, "check", "CACHES['default'] is at 127.0.0.1:6380, the Redis of the queue")


@pytest.mark.parametrize("location", [["redis://127.0.0.1:6381/0", "redis://cache.example.org:6380"], "unique", None])
def test_any_other_cache_passes(bare_environment: dict[str, str], location: object) -> None:
    queue = {**bare_environment, "BROKER_URL": "redis://127.0.0.1:6380/0"}
    cache = {**BACKEND, "LOCATION": location}
    result = prepare(queue, "check", MORE_SETTINGS=json.dumps({"CACHES": {"default": cache}}))
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("acl")
@pytest.mark.parametrize("database", DATABASES)
def test_clearing_a_cache_there_is_refused_and_takes_nothing(redis: Redis, database: int) -> None:
    with redis_client.Redis.from_url(redis.url) as queue:
        queue.lpush("celery", "a task", "another one")
        cache = RedisCache(f"redis://site:secret@127.0.0.1:{redis.port}/{database}", {})
        cache.set("key", "value")
        with pytest.raises(redis_client.exceptions.NoPermissionError):
            cache.clear()
        assert cache.get("key") == "value"
        assert queue.lrange("celery", 0, -1) == [b"another one", b"a task"]
        cache.delete("key")
