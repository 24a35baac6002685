"""Run the whole house: engines, web, workers and beat, until Ctrl-C or `manage.py down`."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from config.embedded.house import standing
from config.embedded.supervisor import Stopping
from config.management.house_command import HouseCommand


class Command(HouseCommand):
    help = "Run the whole house until Ctrl-C or `manage.py down`; started again, it goes on with the same data."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--port", type=int, help="the web server's port (default: 8000, or a free one)")

    def act(self, data_dir: Path, *, port: int | None = None, **_: Any) -> None:
        with Stopping() as stopping, standing(data_dir, port=port, say=self.say) as house:
            people = house.founded
            self.say(f"console: {house.base_url}/admin/  user {people['admin_user']}  {people['admin_password']}")
            self.say(f"API key: {people['api_key']}")
            self.say("Ctrl-C, or manage.py down in another shell, stops everything")
            house.supervisor.watch(stopping.gently())
            self.say("stopping")
        self.say("stopped")
