"""Several sites on a host: each is called after itself, and what they share is as the first of them has it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.celeriac.site.plugins.module_utils import site_cards, site_names, site_processes
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names

from testkit.loading import load

ROOT = Path(__file__).resolve().parents[3]
FACTS = yaml.safe_load((ROOT / "playbooks/group_vars/all/facts.yml").read_text())
host = load(ROOT / "plugins/modules/site_host_preflight.py")
CARD = {
    "name": "shop",
    "mark": "1",
    "inventory": "/home/anna/shop",
    "domains": ["shop.mysite.test"],
    "groups": ["web"],
    "memory_mb": 500,
    "shared": dict(site_cards.SHARED),
    "since": "2026-01-02T00:00:00Z",
}
FIRST = CARD | {
    "name": "default",
    "mark": "2",
    "inventory": "/home/anna/site",
    "domains": ["www.mysite.test"],
    "since": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize("name", ["default", "shop"])
def test_modules_and_roles_call_things_the_same(name: str) -> None:
    # The loader's basedir is the repository, where the lookups of facts are.
    templar = Templar(loader=DataLoader(), variables={**trusted(FACTS), "site_name": name, "site_redis_first_port": 0})
    names = Names(name)

    def fact(of: str) -> str:
        return str(templar.template(templar.available_variables[of]))

    assert (fact("site_word"), fact("site_prefix"), fact("site_target")) == (names.word, names.prefix, names.target)
    assert fact("site_etc") == str(names.etc)
    assert fact("site_processes_dir") == str(names.descriptions)
    assert fact("site_environments_dir") == str(names.environments)
    members = DataLoader().load_from_file(str(ROOT / "playbooks/group_vars/all/members.yml"), trusted_as_template=True)
    assert str(templar.template(members["site_member_pair"])) == str(names.member)


def trusted(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts as Ansible reads them from a file of variables."""
    found: dict[str, Any] = DataLoader().load_from_file(
        str(ROOT / "playbooks/group_vars/all/facts.yml"), trusted_as_template=True
    )
    assert found.keys() == facts.keys()
    return found


def test_what_sites_share_has_the_defaults_of_its_roles() -> None:
    defaults: dict[str, Any] = {}
    for role in ("nginx", "keepalived", "haproxy", "postgresql", "rabbitmq", "firewall"):
        defaults |= yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    assert {name: defaults[name] for name in site_cards.SHARED} == site_cards.SHARED
    assert FACTS["site_card"]["shared"].keys() == site_cards.SHARED.keys()
    for name, value in site_cards.SHARED.items():
        assert (
            f"default={str(value).lower() if isinstance(value, bool) else value})" in FACTS["site_card"]["shared"][name]
        )


def test_a_unit_of_another_site_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_processes, "UNIT_DIRECTORY", tmp_path)
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path / "etc")
    for process, target in (("gunicorn", "site"), ("shop-gunicorn", "shop")):
        text = f"[Unit]\nPartOf={target}.target\n[X-Celeriac]\nKind=web\n"
        (tmp_path / f"{process}-0123456789ab.service").write_text(text)
    systemd: Any = SimpleNamespace()

    found = {
        name: [each.name for each in site_processes.left_over(systemd, [], Names(name))] for name in ("default", "shop")
    }

    assert found == {"default": ["gunicorn"], "shop": ["shop-gunicorn"]}


def test_a_card_keeps_when_its_site_came(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(CARD))

    site_cards.write({name: value for name, value in CARD.items() if name != "since"} | {"domains": ["new"]}, tmp_path)

    assert site_cards.cards(tmp_path) == [CARD | {"domains": ["new"]}]
    assert [path.name for path in tmp_path.iterdir()] == ["shop.json"]


@pytest.mark.parametrize(
    ("card", "cards", "words"),
    [
        (CARD, [], ""),
        (CARD, [FIRST], ""),
        (CARD, [FIRST, CARD], ""),
        # The same site from another clone, with another name, or with new secrets.
        (CARD | {"inventory": "/srv/shop"}, [CARD], ""),
        (CARD | {"mark": "3", "inventory": "/srv/shop"}, [CARD], ""),
        (CARD | {"mark": "3", "domains": ["other.mysite.test"]}, [CARD], ""),
        (
            CARD | {"mark": "3", "inventory": "/home/bob/shop", "domains": ["bob.mysite.test"]},
            [CARD],
            "The host has a site called `shop` already, another one: shop.mysite.test",
        ),
        (
            CARD | {"domains": ["shop.mysite.test", "www.mysite.test"]},
            [FIRST],
            "`www.mysite.test` is a name of the site `default` of this host, too (/home/anna/site)",
        ),
        (
            CARD | {"shared": site_cards.SHARED | {"rabbitmq_memory_mb": 999}},
            [FIRST],
            "`rabbitmq_memory_mb` is about what all sites of the host share, and `default` was here first: ",
        ),
        (
            CARD | {"shared": site_cards.SHARED | {"nginx_sandbox": False}},
            [FIRST | {"shared": site_cards.SHARED | {"nginx_sandbox": False}}],
            "",
        ),
        (
            CARD | {"shared": site_cards.SHARED | {"firewall_enabled": True}},
            [FIRST],
            "`firewall_enabled` is about what all sites of the host share, and `default` was here first: there it is ",
        ),
        # One that came before there were firewalls has none.
        (CARD, [FIRST | {"shared": {}}], ""),
        # Whoever says nothing has what the first one has.
        (CARD, [FIRST | {"shared": site_cards.SHARED | {"nginx_sandbox": False}}], ""),
    ],
)
def test_what_is_in_the_way_of_a_site_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: Any, cards: list[Any], words: str
) -> None:
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path)

    faults = list(host.site_faults(card, Names(card["name"]), cards))

    assert [words in fault.what for fault in faults] == ([True] if words else [])


def test_an_address_of_another_site_and_a_keepalived_of_somebody_elses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path)
    monkeypatch.setattr(host, "KEEPALIVED", tmp_path / "keepalived.conf")

    def faults(other: str) -> list[str]:
        mine, theirs = ({"entry": {"address": address, "members": []}} for address in ("10.0.0.100", other))
        return [fault.what for fault in host.site_faults(CARD | mine, Names("shop"), [FIRST | theirs])]

    assert ["which the site `default` of this host has, too" in each for each in faults("10.0.0.100")] == [True]
    (tmp_path / "keepalived.conf").write_text("vrrp_instance mine {}\n")
    assert ["a keepalived already that is somebody else's" in each for each in faults("10.0.0.101")] == [True]
    template = (ROOT / "roles/keepalived/templates/keepalived.conf.j2").read_text()
    folder = yaml.safe_load((ROOT / "roles/keepalived/vars/main.yml").read_text())["__keepalived_folder"]
    (tmp_path / "keepalived.conf").write_text(template.replace("{{ __keepalived_folder }}", folder))
    assert faults("10.0.0.101") == []
    assert list(host.site_faults(CARD | {"entry": {}}, Names("shop"), [FIRST])) == []


def test_a_folder_of_somebody_elses_and_a_neighbour_that_knows_of_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "site/processes").mkdir(parents=True)

    strange, unknowing = sorted(fault.what for fault in host.site_faults(CARD, Names("shop"), []))[::-1]

    assert strange == f"The site is to be called `shop`, and {tmp_path}/shop of the host is somebody else's."
    assert "knows of no others yet" in unknowing
    assert list(host.site_faults(CARD, Names("shop"), [FIRST, CARD])) == []
