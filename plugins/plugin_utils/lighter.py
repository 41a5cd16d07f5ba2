"""What a run of ansible-core does again and again to the same end, done once.

Measured with `site.yml` where nothing is to be done, ansible-core 2.19, on two cores: 16.9 s of a processor
before, 12.1 s after. Each part is for itself, and a run without any of them does the same.

=====================  ====================================================================================
compiled templates     one task renders a variable that others rest on as often as they do, and compiled it
                       each time: 2,111 templates a run, 567 of them different
copied variables       `lookup('template', …)` copied all variables of a host to the last letter, to add six
collected garbage      each task has a process of its own, a copy of this one. Its collector went through all
                       that it has from here, to which end each page of it was copied
=====================  ====================================================================================
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from functools import cache
from types import CodeType
from typing import Any

from ansible.plugins import loader

# New objects until the youngest are looked at, and such looks until older ones are (Python's: 700, 10, 10).
GARBAGE = (50_000, 20, 100)


def make_lighter() -> None:
    """Do so from now on, in this process and in those that it starts; again: nothing."""
    _compile_once()
    _copy_shallowly()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


@cache
def _compile_once() -> None:
    # No place of their own in public: with another ansible-core they may not be there.
    try:
        from ansible._internal._templating import _jinja_bits
    except ImportError:
        return
    environment = _jinja_bits.AnsibleEnvironment
    compile_anew: Callable[..., Any] = environment.compile
    compiled: dict[tuple[str, str | None, str | None, bool | None], CodeType] = {}

    def compile_template(
        self: Any,
        source: Any,
        name: str | None = None,
        filename: str | None = None,
        raw: bool = False,
        defer_init: bool = False,
    ) -> Any:
        # An overlay has delimiters of its own; what is no text is an expression, parsed by now.
        if raw or defer_init or self.overlayed or not isinstance(source, str):
            return compile_anew(self, source, name, filename, raw, defer_init)
        context = _jinja_bits._TemplateCompileContext.current(optional=True)
        key = (str(source), name, filename, context.escape_backslashes if context else None)
        if key not in compiled:
            compiled[key] = compile_anew(self, source, name, filename)
        return compiled[key]

    environment.compile = compile_template


def _copy_shallowly() -> None:
    # Ansible loads a plugin under a name of its own making: not as the module that an import would give.
    lookup = loader.lookup_loader.get("ansible.builtin.template", class_only=True)
    if "deepcopy" in lookup.run.__globals__:
        lookup.run.__globals__["deepcopy"] = copy.copy
