"""Run the test suite: pytest, with the arguments passed on, on engines of its own."""

import os
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Run the whole test suite on engines of its own; arguments go on to pytest."
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **_: Any) -> CommandParser:
        # Django's own options (-v, --pythonpath, …) would take pytest's away.
        parser = CommandParser(prog=f"{prog_name} {subcommand}", description=self.help, add_help=False)
        parser.add_argument("--full", action="store_true", help="run the full campaign too (TALLYSTICK_TEST_FULL=1)")
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        chosen, passed_on = self.create_parser(argv[0], argv[1]).parse_known_args(argv[2:])
        environment = {**os.environ, **({"TALLYSTICK_TEST_FULL": "1"} if chosen.full else {})}
        # A process of its own: the suite chooses its settings before Django reads them, and this one has read them.
        command = [sys.executable, "-m", "pytest", *passed_on]
        sys.exit(subprocess.run(command, cwd=settings.BASE_DIR, env=environment, check=False).returncode)
