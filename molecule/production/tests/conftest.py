"""A site that is to stay for years; on a machine that `stack.upgrading` makes.

It is converged while the authority that its certificate is to come from is away.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from stack.authority import CUSTOMER, DIRECTORY
from stack.lab import CHOICES, Site
from stack.load import PEOPLE, Load

pytest_plugins = ["stack.upgrading"]


@pytest.fixture(scope="session")
def suite() -> str:
    """The name of the suite, and of its machine."""
    return "production"


@pytest.fixture(scope="session")
def choices() -> dict[str, object]:
    """What its inventory chooses."""
    return {
        **CHOICES,
        "site_domain_aliases": ["site.test"],
        "backup_repository": "local",
        "nginx_tls": "acme",
        "nginx_acme_directory": DIRECTORY,
        "nginx_acme_email": "admin@site.test",
        "nginx_acme_eab_key_id": CUSTOMER[0],
        "vault_nginx_acme_eab_key": CUSTOMER[1],
    }


@pytest.fixture(scope="module")
def load(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """People, while the tests of a file do what they do to a healthy site."""
    site.healthy()
    plan = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), again=True)
    with Load(plan, tmp_path_factory.mktemp("load") / "load.txt") as found:
        yield found
