"""What the modules of the engine document is what they take, and it becomes typed once."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import POINTS, Hook
from ansible_collections.celeriac.site.plugins.module_utils.site_options import (
    Fault,
    Order,
    Shipment,
    Site,
    order_spec,
    site_spec,
)

MODULES = tuple(sorted(path.stem for path in (Path(__file__).parents[3] / "plugins/modules").glob("*.py")))
GIVEN: dict[str, Any] = {
    "name": "default",
    "root": "/srv/site",
    "owner": "site_deploy",
    "group": "site",
    "code": "app",
    "python": "/usr/bin/python3",
    "environment_files": ["/etc/site/environment"],
    "processes": ["gunicorn"],
    "socket": "/run/gunicorn.sock",
    "monitor_socket": "/run/flower.sock",
    "domain": "www.mysite.test",
    "static_url": "/static/",
    "health_path": "/health/",
    "token": "a-token",
    "monitor_username": "admin",
    "monitor_password": "a-password",
    "beat_seconds": 20,
    "beat_hosts": 1,
    "timeout": 30,
    "kept": 5,
}
ORDER: dict[str, Any] = {"by": "anna", "host": "h1", "hooks": {}, "hook_timeout_seconds": 60}


class Asked(Exception):
    """A module has said which options it takes."""


def spec_of(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options that a module gives to Ansible."""
    found: list[dict[str, Any]] = []

    def ask(argument_spec: dict[str, Any], **_: Any) -> None:
        found.append(argument_spec)
        raise Asked

    imported = importlib.import_module(f"ansible_collections.celeriac.site.plugins.modules.{module}")
    monkeypatch.setattr(imported, "AnsibleModule", ask)
    with pytest.raises(Asked):
        imported.main()
    return found[0]


@pytest.fixture(scope="module")
def documented(root: Path) -> dict[str, Any]:
    """The options of each module as `ansible-doc` shows them, fragments included."""
    command = [
        str(Path(sys.executable).with_name("ansible-doc")),
        "--json",
        *(f"celeriac.site.{module}" for module in MODULES),
    ]
    said: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=root, text=True))
    return {module: said[f"celeriac.site.{module}"]["doc"].get("options", {}) for module in MODULES}


def essence(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the documentation and the spec of options must agree in."""
    return {
        name: {
            "type": option["type"],
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "elements": option.get("elements"),
            "options": essence(option.get("options") or option.get("suboptions") or {}),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_module_takes_what_it_documents(
    module: str, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert essence(spec_of(module, monkeypatch)) == essence(documented[module])


def test_every_option_about_the_site_is_typed_and_has_no_default() -> None:
    options = site_spec()["site"]["options"]

    assert set(options) == {field.name for field in fields(Site)}
    assert [name for name, option in options.items() if not option["required"] or "default" in option] == []
    assert [name for name, option in order_spec().items() if not option["required"]] == []


def test_what_is_known_about_a_site_cannot_be_changed() -> None:
    site = Site.from_params({"site": GIVEN})

    assert site.root == Path("/srv/site")
    assert site.environment_files == (Path("/etc/site/environment"),)
    assert site.processes == ("gunicorn",)
    with pytest.raises(FrozenInstanceError):
        site.kept = 1  # type: ignore[misc]


def test_a_secret_is_not_shown() -> None:
    shown = repr(Site.from_params({"site": GIVEN}))

    assert "www.mysite.test" in shown
    assert "a-token" not in shown
    assert "a-password" not in shown


@pytest.mark.parametrize(
    ("text", "fault"), [("", Fault()), ("health", Fault("health")), ("readiness:kill", Fault("readiness", "kill"))]
)
def test_a_fault_is_a_step_and_how_it_fails(text: str, fault: Fault) -> None:
    order = Order.from_params("deploy", {**ORDER, "release": "0123456789ab", "fault": text})

    assert order == Order("deploy", "0123456789ab", "anna", "h1", dict.fromkeys(POINTS, ()), fault)


def test_a_rollback_has_no_fault() -> None:
    assert Order.from_params("rollback", {**ORDER, "release": ""}).fault == Fault()


def test_a_hook_has_the_time_that_it_says_or_that_of_all() -> None:
    hooks = {"before_switch": ["./smoke 'a b' $c", {"command": "ls", "timeout_seconds": 5}]}

    order = Order.from_params("deploy", {**ORDER, "release": "", "hooks": hooks})

    assert order.hooks["before_switch"] == (Hook(("./smoke", "a b", "$c"), 60), Hook(("ls",), 5))


def test_a_shipment_need_not_be_there_to_be_asked_for() -> None:
    given: dict[str, Any] = {
        "archive": None, "index_environment_file": "/etc/site/index.environment", "uv_requirements": "uv==1.0",
        "build_commands": [["make", 1]], "wheels": ["uv-1.0-py3-none-any.whl"], "check": "never", "origin": {},
        "rehearsal_database": "", "way_back": True,
    }  # fmt: skip

    assert Shipment.from_params(given).archive is None
    assert Shipment.from_params(given).build_commands == (("make", "1"),)
    assert Shipment.from_params({**given, "archive": "/tmp/a"}).archive == Path("/tmp/a")
