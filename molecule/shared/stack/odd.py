"""An environment of odd values, another one for each machine: `python odd.py FILE` writes one, as JSON.

What begins a template of Ansible's is left out: in an inventory it is one.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

COUNT = 300
LONGEST = 16  # signs
SEED = "ODD_SEED"
# What a shell, systemd, Jinja, YAML or Python reads in a way of its own, and what is far from ASCII.
SIGNS = "\"'\\`$ \t\r\n\v\x01\x1b\x7f\x85#;:=%@{}[]()<>&|!?*~,.-+^/abnx0é€😀\u2028\ufeff"
# Those that were once damaged, or would be by the obvious mistakes.
KNOWN = (
    "", " ", "\n", "a$b", "$HOME", "${HOME}", "$$", "$(id)", "`id`", 'a"b', "a'b", '"', "'", "a\\", "\\n", "\\\n",
    "a\r\nb", "\ra\n\n", " a ", "a # b", "#", "%h", "%%", "@RELEASE@", "@UNIT@", "a=b", "x" * 10_000,
)  # fmt: skip


def odd_values(seed: str) -> dict[str, str]:
    """Return an environment.

    Args:
        seed: the same gives the same values; it is among them, as `ODD_SEED`.
    """
    source = random.Random(seed)
    values = [*KNOWN]
    while len(values) < COUNT:
        value = "".join(source.choices(SIGNS, k=source.randrange(1, LONGEST)))
        if not any(begin in value for begin in ("{{", "{%", "{#")):
            values.append(value)
    return {SEED: seed, **{f"ODD_{number}": value for number, value in enumerate(values)}}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(odd_values(f"{random.randrange(10**9)}")))
