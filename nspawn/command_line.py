"""The command line of `bin/machine`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import nspawn
from nspawn import commands
from nspawn.checkout import Checkout
from nspawn.computer import become_root
from nspawn.errors import MachineError
from nspawn.images import CODENAMES, USER

Action = Callable[[Checkout, argparse.Namespace], None]
AS_ROOT = (commands.up, commands.down, commands.kill, commands.wipe, commands.unplug, commands.plug, commands.save)


def machine_name(text: str) -> str:
    """Return the text if it can be a host name, and so the name of a machine."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: use a-z, 0-9 and hyphens, a letter first")
    return text


def option(*names: str, **settings: Any) -> argparse.ArgumentParser:
    """Return one argument, in the form in which several commands can take it over."""
    holder = argparse.ArgumentParser(add_help=False)
    holder.add_argument(*names, **settings)
    return holder


def command_line() -> argparse.ArgumentParser:
    """Describe the commands and their arguments."""
    parser = argparse.ArgumentParser(description=(nspawn.__doc__ or "").partition("\n")[0])
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, action: Action, *options: argparse.ArgumentParser) -> argparse.ArgumentParser:
        about = action.__doc__
        command = subparsers.add_parser(name, help=about, description=about, parents=options)
        command.set_defaults(action=action)
        return command

    one = option("name", type=machine_name, metavar="NAME")
    many = option("names", nargs="+", type=machine_name, metavar="NAME")
    release = option("--debian", choices=CODENAMES, help="release of new machines; default 13")
    copied = option("--from", dest="snapshot", type=machine_name, help="make them from a snapshot")
    user = option("--user", choices=[USER, "root"], default=USER)
    add("up", commands.up, many, release, copied)
    which = add("down", commands.down).add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], type=machine_name, metavar="NAME")
    which.add_argument("--all", action="store_true", help="all of this checkout, and snapshots")
    add("list", commands.show_list)
    add("address", commands.show_address, one)
    add("inventory", commands.show_inventory, one)
    add("ssh", commands.ssh, user, one, option("words", nargs=argparse.REMAINDER, metavar="CMD"))
    add("reboot", commands.reboot, one)
    add("kill", commands.kill, one)
    add("wipe", commands.wipe, one)
    add("unplug", commands.unplug, one)
    add("plug", commands.plug, one)
    add("save", commands.save, one, option("snapshot", type=machine_name, metavar="SNAPSHOT"))
    return parser


def main() -> None:
    """Do what the command line says."""
    args = command_line().parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # `su` leaves them out
    os.umask(0o022)  # what we write in a machine must be readable there
    checkout = Checkout.here()
    try:
        if args.action in AS_ROOT or not checkout.readable():
            become_root()
        args.action(checkout, args)
    except MachineError as why:
        sys.exit(f"machine: {why}")
    except KeyboardInterrupt:
        sys.exit(130)
