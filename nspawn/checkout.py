"""The folder in which a checkout keeps its machines."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from nspawn.locks import locked

BRIDGE_PREFIX = "cel-"
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / ".machines"


@dataclass(frozen=True)
class Checkout:
    """What the machines of one checkout share: others on the same computer do not get in their way.

    Attributes:
        folder: Where their files are; absolute.

    """

    folder: Path

    @classmethod
    def here(cls) -> Checkout:
        """Return this checkout, with its machines where the environment says."""
        return cls(Path(os.environ.get("CELERIAC_MACHINES") or DEFAULT_FOLDER).absolute())

    @property
    def id(self) -> str:
        """What differs from checkout to checkout."""
        # Eight digits: an interface name holds 15 characters, "vb-<checkout>-<number>" among them.
        return hashlib.sha256(bytes(self.folder)).hexdigest()[:8]

    @property
    def bridge(self) -> str:
        """The bridge of its machines; their nftables table has the same name."""
        return BRIDGE_PREFIX + self.id

    @property
    def key(self) -> Path:
        """The SSH key that all its machines let in."""
        return self.folder / "id_ed25519"

    @property
    def snapshots(self) -> Path:
        """The copies of disks that new machines can be made from."""
        return self.folder / "snapshots"

    def host(self, name: str) -> Path:
        """Return the folder of the machine of this name."""
        return self.folder / "hosts" / name

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock on the machine of this name."""
        return locked(f"{self.id}-{name}")

    def readable(self) -> bool:
        """Tell whether we may read what is in the folder, or there is none yet."""
        return not self.folder.exists() or os.access(self.folder, os.R_OK | os.X_OK)
