"""What the commands that start and stop the embedded house share."""

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from config.embedded.house import PortInUse
from config.embedded.process import HouseProblem


class HouseCommand(BaseCommand):
    """A command about the house of one data folder: progress on stderr, problems in one line, no trace.

    Exit: 1 for a problem, 2 for a port that is in use or bad usage, 130 when interrupted before the house stood.
    """

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", type=Path, help="where everything is kept (default: .tallystick)")

    def handle(self, *_: Any, data_dir: Path | None, **options: Any) -> None:
        # manage.py has named it in the environment, because settings are read from there before options are.
        if data_dir is not None and data_dir.resolve() != settings.DATA_DIR:
            self.leave(2, f"settings were read from {settings.DATA_DIR}: name the folder in TALLYSTICK_DATA_DIR")
        try:
            self.act(settings.DATA_DIR, **options)
        except PortInUse as problem:
            self.leave(2, str(problem))
        except (HouseProblem, OSError) as problem:
            self.leave(1, str(problem))
        except KeyboardInterrupt:
            self.leave(130, "stopped before the house stood; the next start goes on from here")

    def act(self, data_dir: Path, **options: Any) -> None:
        """Do what the command is for."""
        raise NotImplementedError

    def say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def leave(self, status: int, line: str) -> None:
        self.say(line)
        sys.exit(status)
