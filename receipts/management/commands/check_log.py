"""Check the log against itself, from the receipts' bytes to the anchors, and name every place that differs."""

import json
import sys
import time
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts.check import Counts, check_log
from receipts.log import LogError


class Command(BaseCommand):
    help = (
        "Derive the log anew from the receipts' bytes and name each place that says something else: "
        "what, where, what was expected, what was found. Exit 1 when something differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--from",
            dest="from_leaf",
            metavar="LEAF",
            type=int,
            default=0,
            help="check from this leaf's tile on and believe what lies before it",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        if options["from_leaf"] < 0:
            raise CommandError(f"--from {options['from_leaf']}: leaves are counted from 0", returncode=2)
        counts, found = Counts(), []
        line = _Progress(counts, shown=sys.stderr.isatty() and not options["json"])
        try:
            for difference in check_log(from_leaf=options["from_leaf"], counts=counts, progress=line.show):
                found.append(asdict(difference) if options["json"] else None)
                if not options["json"]:
                    line.clear()
                    self.stdout.write(str(difference))
        except LogError as error:
            raise CommandError(str(error), returncode=2) from None
        line.clear()
        if options["json"]:
            self.stdout.write(json.dumps({"differences": found, "counts": asdict(counts)}, indent=1))
        else:
            self.stdout.write(f"{len(found)} differences: {counts}")
        if found:
            sys.exit(1)


class _Progress:
    """One line on a terminal, written over."""

    def __init__(self, counts: Counts, *, shown: bool) -> None:
        self.counts = counts
        self.shown = shown
        self.written = 0.0

    def show(self) -> None:
        """Write the line anew, at most five times a second."""
        if self.shown and time.monotonic() - self.written > 0.2:
            self.written = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{self.counts}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
