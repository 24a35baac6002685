"""Stop the house of a data folder from another shell, and what a killed one left."""

from pathlib import Path
from typing import Any

from config.embedded.supervisor import take_down
from config.management.house_command import HouseCommand


class Command(HouseCommand):
    help = "Stop the house that runs in a data folder, and wait until it has stopped."

    def act(self, data_dir: Path, **_: Any) -> None:
        self.say("stopped" if take_down(data_dir, self.say) else f"no house runs in {data_dir}")
