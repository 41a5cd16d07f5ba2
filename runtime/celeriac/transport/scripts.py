"""What is one step in Redis: the scripts of ``lua/``, each with its arguments at its head."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError


class Script:
    """A script that a server keeps, and is given again when it has forgotten it.

    Attributes:
        text: in Lua.
        sha: by which the server knows it.
    """

    def __init__(self, name: str) -> None:
        """Read it.

        Args:
            name: of its file, without the ending.
        """
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode()).hexdigest()

    def __call__(self, client: Any, *arguments: Any, keys: Sequence[str] = ()) -> Any:
        """Run it.

        Args:
            client: of redis-py, not one of kombu's, which write the prefix of a site before the
                first key only.
            arguments: what its head says, as ARGV.
            keys: as KEYS.

        Raises:
            redis.exceptions.ConnectionError, TimeoutError: Redis is away.
        """
        given = len(keys), *keys, *arguments
        try:
            return client.execute_command("EVALSHA", self.sha, *given)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, *given)


TURN = Script("turn")
ACKNOWLEDGE = Script("acknowledge")
REQUEUE = Script("requeue")
ACQUIRE = Script("acquire")
RENEW = Script("renew")
REFRESH = Script("refresh")
MARK = Script("mark")
ORPHANS = Script("orphans")
HOLDERS = Script("holders")
PUSH = Script("push")
BIND = Script("bind")
RELEASE = Script("release")
CALL = Script("call")
TEAM = Script("team")
