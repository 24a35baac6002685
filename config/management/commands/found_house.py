"""Make keys, certificates, log, contracts and the first people; print what the launcher needs."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.founding import found
from receipts.keyring import KeyRefused
from receipts.keys import KeyUnusable


class Command(BaseCommand):
    help = "Found the embedded house: keys, certificates, log, contracts, first people. Repeating it changes nothing."

    def handle(self, *_: Any, **__: Any) -> None:
        try:
            told = found(lambda line: self.stderr.write(line))
        except (KeyRefused, KeyUnusable) as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(json.dumps(told))
