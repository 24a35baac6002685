"""Let a house stand again from a backup."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.backup import BackupProblem, restore
from receipts.log import LogError


class Command(BaseCommand):
    help = (
        "Restore a backup into an empty database, as its owner (DATABASE_OWNER_URL). Bring the keys back first. "
        "Where a newer checkpoint is still published, the log will not append until recover_log."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", metavar="FOLDER", type=Path, help="the backup")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            manifest, published = restore(options["folder"].resolve(), self.stderr.write)
        except (BackupProblem, LogError, OSError) as problem:
            raise CommandError(str(problem), returncode=1) from None
        older = published > manifest.size
        if options["json"]:
            told = {"log": manifest.origin, "size": manifest.size, "published": published, "may_append": not older}
            self.stdout.write(json.dumps(told))
            return
        self.stdout.write(f"restored: the log {manifest.origin} at {manifest.size} leaves")
        if older:
            self.stdout.write(
                f"older than what was published ({published} leaves), so it will not append: run manage.py recover_log"
            )
        else:
            self.stdout.write("compare it with your witnesses and anchors before it appends: manage.py check_log")
