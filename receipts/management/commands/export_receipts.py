"""Write receipts for an auditor, with what proves that the log holds them."""

import datetime as dt
import json
from argparse import ArgumentTypeError
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts.events import EVENTS
from receipts.export import ExportRefused, Wanted, export


class Command(BaseCommand):
    help = (
        "Export receipts for an auditor into a new folder: the whole log with its tiles, or those that fit, "
        "each with its proof. In CSV, cells that begin with = + - @, TAB or CR get an apostrophe before them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
        parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl", dest="form")
        parser.add_argument("--tenant", metavar="T")
        parser.add_argument("--job", metavar="J", help="a job, or another subject of receipts")
        parser.add_argument("--type", metavar="E", choices=sorted(EVENTS), dest="event_type")
        parser.add_argument("--since", metavar="TIME", type=_moment, help="ISO 8601 with a time zone, or a day (UTC)")
        parser.add_argument("--until", metavar="TIME", type=_moment, help="before this time")
        parser.add_argument("--leaf-from", metavar="N", type=_leaf)
        parser.add_argument("--leaf-to", metavar="N", type=_leaf, help="before this leaf")
        parser.add_argument("--redact", action="store_true", help="leave out the bytes of what is not public")
        parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")

    def handle(self, *_: Any, out: Path, form: Any, redact: bool, **options: Any) -> None:
        names = ("tenant", "job", "event_type", "since", "until", "leaf_from", "leaf_to")
        wanted = Wanted(**{name: options[name] for name in names})
        try:
            counts = export(out=out, form=form, wanted=wanted, redact=redact)
        except ExportRefused as error:
            raise CommandError(str(error), returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps({"out": str(out), **asdict(counts)}))
            return
        beside = f"{counts.tiles} tiles" if wanted.everything else f"{counts.proofs} proofs"
        self.stdout.write(
            f"{out}: {counts.receipts} receipts ({counts.redacted} redacted, {counts.erased} erased), {beside},"
            f" at a log of {counts.size}; {counts.waiting} more wait for a checkpoint"
        )


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time like 2026-11-21T07:00:00Z or day like 2026-11-21") from None
    if moment.tzinfo is None:
        if len(text) > len("2026-11-21"):
            raise ArgumentTypeError(f"{text!r} names no time zone: end it in Z or +hh:mm")
        moment = moment.replace(tzinfo=dt.UTC)
    return moment


def _leaf(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 15:
        raise ArgumentTypeError(f"{text[:30]!r} is no leaf: a whole number from 0 on is due")
    return int(text)
