"""Build the verifier as one file, for whoever has Python and nothing else."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.client.pyz import build, digest
from receipts.durable import write_durably


class Command(BaseCommand):
    help = (
        "Build tallystick-verify.pyz, the verifier and auditor as one file that Python 3.11 or newer runs by itself. "
        "The same sources give the same bytes."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("tallystick-verify.pyz"))
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_: Any, output: Path, **options: Any) -> None:
        data = build()
        try:
            write_durably(output, data, mode=0o755)
        except OSError as error:
            raise CommandError(f"{output} can't be written: {error.strerror}", returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps({"file": str(output), "bytes": len(data), "sha256": digest(data)}))
        else:
            self.stdout.write(f"{output}: {len(data)} bytes, sha256 {digest(data)}")
