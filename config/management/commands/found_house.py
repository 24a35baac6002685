"""Make keys, certificates, log, contracts and the first people; print what the launcher needs."""

import json
from typing import Any

from django.core.management.base import BaseCommand

from config.founding import found


class Command(BaseCommand):
    help = "Found the embedded house: keys, certificates, log, contracts, first people. Repeating it changes nothing."

    def handle(self, *_: Any, **__: Any) -> None:
        told = found(lambda line: self.stderr.write(line))
        self.stdout.write(json.dumps(told))
