"""What is called after a site on a host: several may live there, and each is known by its own names alone.

The one that is called `default` has the plain ones: `/etc/site`, `site.target`, `gunicorn.service`. What another one
has begins with its name: `/etc/shop`, `shop.target`, `shop-gunicorn.service`. Roles have the same from
`playbooks/group_vars/all/facts.yml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT = "default"
CONFIGURATION = Path("/etc")


@dataclass(frozen=True)
class Names:
    """The names of a site.

    Attributes:
        site: what the inventory calls it (`site_name`).
    """

    site: str = DEFAULT

    @property
    def word(self) -> str:
        """What stands where the site called `default` has `site`."""
        return "site" if self.site == DEFAULT else self.site

    @property
    def prefix(self) -> str:
        """What the names of its units begin with."""
        return "" if self.site == DEFAULT else f"{self.site}-"

    @property
    def target(self) -> str:
        """The target of all its processes."""
        return f"{self.word}.target"

    @property
    def etc(self) -> Path:
        """The folder of its settings."""
        return CONFIGURATION / self.word

    @property
    def descriptions(self) -> Path:
        """How its processes run, a file each."""
        return self.etc / "processes"

    @property
    def environments(self) -> Path:
        """What its units read as their environment, a folder each."""
        return self.etc / "environments"

    @property
    def certificate(self) -> Path:
        """Its certificate."""
        return CONFIGURATION / "nginx" / f"{self.word}.crt"

    @property
    def member(self) -> Path:
        """The certificate by which the other hosts of the site know this one, with its key."""
        return self.etc / "member" / "member.pem"

    @property
    def pair(self) -> Path:
        """Its certificate and the key to it, in one file."""
        return self.certificate.with_suffix(".pem")
