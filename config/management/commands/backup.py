"""Keep a copy of the house: database, store and tiles."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.backup import BackupProblem, check, make
from receipts.log import LogError


class Command(BaseCommand):
    help = "Back up database, store and tiles into a new folder. Private keys are in no backup: keep them apart."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", metavar="FOLDER", type=Path, help="where it goes; must not exist yet")
        parser.add_argument("--check", action="store_true", help="only hold an existing backup against its manifest")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")

    def handle(self, *_: Any, **options: Any) -> None:
        folder: Path = options["folder"].resolve()
        try:
            manifest = check(folder) if options["check"] else make(folder, self.stderr.write)
        except (BackupProblem, LogError, OSError) as problem:
            raise CommandError(str(problem), returncode=1) from None
        told = {
            "folder": str(folder),
            "made_at": manifest.made_at,
            "log": manifest.origin,
            "size": manifest.size,
            "files": len(manifest.files),
            "bytes": manifest.bytes,
        }
        done = "holds" if options["check"] else "made"
        line = f"backup {done}: {folder}, {manifest.size} leaves, {len(manifest.files)} files, {manifest.bytes} bytes"
        self.stdout.write(json.dumps(told) if options["json"] else line)
