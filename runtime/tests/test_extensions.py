"""The extensions of a worker are all in one list, and begin in its order."""

import importlib
import inspect
import pkgutil
import re

from celery import bootsteps
from workers import worker

import celeriac.worker
from celeriac.worker.extensions import EXTENSIONS


def test_each_extension_is_in_the_list() -> None:
    names = [each.name for each in pkgutil.iter_modules(celeriac.worker.__path__)]
    modules = [importlib.import_module(f"celeriac.worker.{name}") for name in names]
    defined = {
        found
        for module in modules
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, bootsteps.Step) and found.__module__ == module.__name__
    }
    assert defined == {*EXTENSIONS}
    assert len(EXTENSIONS) == len(defined)


def test_they_begin_in_the_order_of_the_list(environment: dict[str, str]) -> None:
    with worker(environment, "--loglevel=DEBUG", mingle=True) as running:
        running.told("READY=1")
        log = running.log.read_text()
    orders = dict(re.findall(r"\| (Worker|Consumer): New boot order: \{(.*)\}", log))
    for blueprint, order in orders.items():
        ours = [each for each in EXTENSIONS if each.blueprint == blueprint.lower()]
        labels = [each.__name__ for each in ours]
        assert [label for label in order.split(", ") if label in labels] == labels
    assert {*orders} == {"Worker", "Consumer"}
