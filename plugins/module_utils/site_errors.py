"""What can go wrong in the engine; the message of each says what, for the person who reads the run.

A name ends in `Error`, and begins with what is wrong.

SiteError
├── BackupError       there is no backup, or it cannot be restored
├── CertificateError  a certificate cannot be used, or none can be made
├── FirewallError     a ruleset was not loaded, or was taken back
├── HeldError         somebody else has a lock
├── MaintenanceError  the site is in maintenance, or cannot be brought into it
├── ProcessError      a process is not described as it must be
├── ReleaseError      a step of a release failed
├── SystemdError      systemctl refused, or a unit did not start
└── UnhealthyError    an answer is not the right one (yet)
    └── HopelessError and it will not become the right one
"""

from __future__ import annotations


class SiteError(Exception):
    """The base of all errors that a module reports as they are."""


class BackupError(SiteError):
    """There is no backup, or it cannot be restored; the message says why.

    Args:
        message: says it.
        whose: whether only because the repository has the backups of another database.
    """

    def __init__(self, message: str, *, whose: bool = False) -> None:
        super().__init__(message)
        self.whose = whose


class CertificateError(SiteError):
    """A certificate cannot be used, or none can be made."""


class FirewallError(SiteError):
    """A ruleset was not loaded, or was taken back; the message says why."""


class HeldError(SiteError):
    """Somebody else has the lock; the message says who."""


class MaintenanceError(SiteError):
    """The site is in maintenance, or cannot be brought into it; the message says what to do."""


class ProcessError(SiteError):
    """A process is not described as it must be; the message says which, and what mends it."""


class RemovalError(SiteError):
    """A site is not all gone; the message says why, and the next run goes on."""


class ReleaseError(SiteError):
    """A step failed; the message says which and how."""


class SystemdError(SiteError):
    """systemctl refused, or a unit did not start; the message says why."""


class UnhealthyError(SiteError):
    """An answer is not the right one (yet)."""


class HopelessError(UnhealthyError):
    """An answer is not the right one, and to wait for a better one is of no use."""
