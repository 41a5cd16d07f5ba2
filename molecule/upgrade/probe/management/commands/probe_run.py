"""A command of the project that runs for ever, or until a word is given, in each way in which one can misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...models import Run, note

PAUSE = 0.2


class Command(BaseCommand):
    """Writes down that it has begun, and that it has ended."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what a test calls it, and how it is to be."""
        parser.add_argument("name")
        parser.add_argument("--until", default="", help="it ends after the execution of this name; empty: at once")
        parser.add_argument("--for-ever", action="store_true")
        parser.add_argument("--fail", action="store_true", help="it ends with an error")
        parser.add_argument("--deaf", action="store_true", help="a signal does not end it")
        parser.add_argument("--lines", type=int, default=0, help="it says so many lines")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run, and end or not."""
        name, run = options["name"], f"{os.getpid()}"
        if options["deaf"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for number in range(options["lines"]):
            sys.stdout.write(f"line {number} of {name}\n")
        note(run, f"{name} began")
        while options["for_ever"] or (options["until"] and not Run.objects.filter(name=options["until"]).exists()):
            time.sleep(PAUSE)
        note(run, f"{name} ended")
        if options["fail"]:
            raise CommandError("this was to fail")
