"""A commit of a repository of git, checked out for nobody to work in."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from ..preflight.source import OF_A_HOOK, SourceError
from .cache import Cache
from .origin import Origin

_LINES_SHOWN = 8
# What the repository itself offers.
_DEFAULT = "refs/celeriac/default"


class Repository:
    """A repository, of which this computer has a copy.

    Args:
        cache: where the copy is.
        origin: where the repository is.
    """

    def __init__(self, cache: Cache, origin: Origin) -> None:
        self._cache = cache
        self._origin = origin
        self._copy = cache.root / f"{hashlib.sha256(origin.text.encode()).hexdigest()[:24]}.git"

    def update(self) -> None:
        """Bring all branches and tags here.

        Raises:
            SourceError: git could not.
        """
        self._git(self._cache.root, "init", "--quiet", "--bare", str(self._copy))
        os.utime(self._copy)
        wanted = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        if not self._origin.version:
            wanted.append(f"+HEAD:{_DEFAULT}")
        self._git(self._copy, "fetch", "--quiet", "--prune", self._origin.text, *wanted)

    def commit(self) -> tuple[str, str]:
        """Return what the version is (a tag, a branch or a commit), and the commit that it stands for.

        Raises:
            SourceError: there is no such version.
        """
        version = self._origin.version
        names = {"tag": f"refs/tags/{version}", "branch": f"refs/heads/{version}"} if version else {"branch": _DEFAULT}
        if re.fullmatch(r"[0-9a-f]{7,64}", version):
            names["commit"] = version
        for kind, name in names.items():
            found = self._git(
                self._copy, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}", fails=True
            )
            if found:
                return kind, found.strip()
        listed = self._git(
            self._copy, "for-each-ref", "--sort=-creatordate", "--format=%(refname:short)", "refs/tags", "refs/heads"
        )
        raise SourceError(
            f"{self._origin.text} has no branch, tag or commit {version}.",
            f"site_source_version: {listed.split()[0] if listed.split() else 'main'}",
        )

    def check_out(self, commit: str) -> Path:
        """Return a folder with a commit, its submodules with it.

        Raises:
            SourceError: git could not, or something in it leads out of it.
        """

        def make(folder: Path) -> None:
            self._git(folder, "clone", "--quiet", "--local", "--no-checkout", str(self._copy), ".")
            # What submodules name may be relative to it.
            self._git(folder, "remote", "set-url", "origin", self._origin.text)
            self._git(folder, "checkout", "--quiet", "--detach", commit)
            self._git(folder, "submodule", "--quiet", "update", "--init", "--recursive")

        return self._cache.folder(name_of(commit), make)

    def _git(self, folder: Path, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0 or fails:
            return done.stdout if done.returncode == 0 else ""
        words = " ".join(done.stderr.strip().splitlines()[-_LINES_SHOWN:])
        raise SourceError(f"git cannot fetch {self._origin.text}. It says: {words}", _remedy(self._origin, words))

    def _environment(self) -> dict[str, str]:
        """Return git's environment: nobody is asked for anything, and a password is in it alone."""
        own = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
        ssh = own.get("GIT_SSH_COMMAND") or _configured("core.sshCommand") or "ssh"
        never_asks = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_SSH_COMMAND": f"{ssh} -o BatchMode=yes",
            "LC_ALL": "C.UTF-8",
        }
        return own | never_asks | self._login(int(own.get("GIT_CONFIG_COUNT") or 0))

    def _login(self, count: int) -> dict[str, str]:
        if not self._origin.login:
            return {}
        host = "{0.scheme}://{0.netloc}/".format(urlsplit(self._origin.text))
        return {
            "GIT_CONFIG_COUNT": str(count + 1),
            f"GIT_CONFIG_KEY_{count}": f"http.{host}.extraHeader",
            f"GIT_CONFIG_VALUE_{count}": f"Authorization: {self._origin.authorization}",
        }


def name_of(commit: str) -> str:
    """Return the name of the folder with a commit."""
    return f"commit-{commit}"


def _configured(name: str) -> str:
    done = subprocess.run(["git", "config", "--get", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _remedy(origin: Origin, words: str) -> str:
    if "Host key verification failed" in words:
        host = origin.text.removeprefix("ssh://").partition(":")[0].partition("/")[0]
        return f"ssh -T {host}        (once, to say that it is the right host)"
    if origin.text.startswith("https:"):
        return (
            'site_source: "{{ vault_source_url }}"        (https://name:token@…, in a file that ansible-vault '
            "encrypts; or git@HOST:PATH, by a key of yours)"
        )
    return f"git ls-remote {origin.text}        (it must ask nothing: a key in ssh-agent or ~/.ssh/config)"
