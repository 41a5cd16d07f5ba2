"""A host that loses its power in mid-switch boots into what it had.

In a file of its own, after those that measure a schedule.
"""

from __future__ import annotations

import pytest
from stack.lab import Site
from stack.releases import Release

UNITS = ("celery-worker", "gunicorn")


@pytest.mark.parametrize("step", ["start", "switch"])
def test_host_boots_into_what_it_had(site: Site, serving: Release, full: bool, step: str) -> None:
    if not full and step == "start":
        pytest.skip("only in a full run")
    new = site.make()
    assert site.deploy(new, "--extra-vars", f"site_release_fault={step}:kill").status != 0
    assert site.traces(new.name), "the new release had not begun to run"

    site.cut_power()

    site.wait_until_serving(serving.name, 60)
    assert site.traces(new.name) == []
    assert {site.web.get("/").headers["X-Release"] for _ in range(10)} == {serving.name}
    site.works(30)
    run = site.deploy(new)
    assert run.status == 0, run.output
    assert site.faults(new.name) == []
