"""Why Ansible could not become root on a host, in words that help."""

from __future__ import annotations

import re

from ansible_collections.celeriac.site.plugins.module_utils.site_systems import IN_WORDS, NEWEST

from .problem import Place, Problem

# What sudo, su and ansible-core print, and what a person can do about it.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"sudo: (command )?not found|sudo: No such file|(No such file|not found).*sudo",
        "Ansible becomes root by sudo, and there is no sudo on the host.",
        "on the host, as root: apt-get install sudo        (or log in as root: ansible_user: root)",
    ),
    (
        r"not in the sudoers file|is not allowed to (run sudo|execute)|may not run sudo",
        "{user} may not use sudo on the host.",
        "/etc/sudoers.d/{name} on the host: {name} ALL=(ALL) NOPASSWD: ALL",
    ),
    (
        r"[Ii]ncorrect (sudo|su|become) password|Sorry, try again|password (is|was) incorrect",
        "The password for sudo is wrong.",
        "ansible-playbook --ask-become-pass …        (the password of {name} on the host)",
    ),
    (
        r"[Mm]issing (sudo|su|become) password|password is required|a terminal is required",
        "sudo on the host asks {user} for a password, and none was given.",
        "ansible-playbook --ask-become-pass …        (or, in /etc/sudoers.d/{name} on the host: "
        "{name} ALL=(ALL) NOPASSWD: ALL)",
    ),
    (
        r"python[\d.]*: (command )?not found|python[\d.]*: No such file|"
        r"(No such file|not found).*python",
        "There is no Python on the host where Ansible looks for it.",
        "on the host, as root: apt-get install python3",
    ),
    (
        r"requires a minimum of Python|SyntaxError: invalid syntax",
        f"Python on the host is too old, and so is its system; tested are {IN_WORDS}.",
        NEWEST,
    ),
)


def explain(output: str, host: str, user: str | None) -> Problem | None:
    """Put the failure to become root in words.

    Args:
        output: What Ansible, sudo or the shell printed.
        host: The inventory's name of the host.
        user: The account of the log-in; None where SSH decides.

    Returns:
        A problem; None where the failure is of another kind and Ansible's own words must do.
    """
    name = user or "USER"
    for pattern, what, example in _REASONS:
        if re.search(pattern, output):
            place = Place(f"host {host}")
            return Problem(
                what.format(user=f"`{user}`" if user else "the account of the log-in"),
                place,
                example.format(name=name),
            )
    return None
