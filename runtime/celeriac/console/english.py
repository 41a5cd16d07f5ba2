"""For what programs read: it does not depend on the language of whoever asks, as pages do."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.utils import translation

P = ParamSpec("P")
R = TypeVar("R")


def in_english(view: Callable[P, R]) -> Callable[P, R]:
    """Answer in English, whatever the request's Accept-Language says."""

    @wraps(view)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with translation.override("en"):
            return view(*args, **kwargs)

    return wrapper
