"""Bring the log's files back from the database, or a restored database from a copy of the log."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts.log import LogError
from receipts.recover import lost_leaves, rebuild_files, replay


class Command(BaseCommand):
    help = (
        "Make lost or damaged tiles and the published checkpoint anew from the database, once every signed root was "
        "found in it again; with --from DIR, first put back what a restored older database lost, or change nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            dest="folder",
            metavar="DIR",
            type=Path,
            help="an export of the whole log, or a copy of /tlog/ with receipts.jsonl beside it",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what is missing or damaged, change nothing")

    def handle(self, *_: Any, **options: Any) -> None:
        count = 0
        try:
            lost = lost_leaves()
            if lost is not None:
                if options["folder"] is None or options["dry_run"]:
                    raise CommandError(f"{lost}; --from DIR puts them back", returncode=1)
                replay(options["folder"])
                self.stdout.write(f"leaves {lost.start} to {lost.end - 1}: put back under the published root")
            for repair in rebuild_files(dry_run=options["dry_run"]):
                count += 1
                self.stdout.write(f"{repair.path}: {repair.was}" if options["dry_run"] else str(repair))
        except LogError as error:
            raise CommandError(str(error), returncode=1) from None
        self.stdout.write(f"{count} files {'to be ' if options['dry_run'] else ''}made anew")
