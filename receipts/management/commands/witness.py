"""Watch other houses' logs, and cosign what goes on from what was seen before."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts.checkpoint import NoteBroken
from receipts.keys import KeyUnusable
from receipts.log import LogNotFounded
from receipts.models import WitnessedLog
from receipts.witness import stop_watching, watch_log, witness_vkey


class Command(BaseCommand):
    help = "Be a witness for other houses: show this house's witness key, name the logs that it watches."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
        acts.add_parser("vkey", help="print the key that others check this house's cosignatures with")
        add = acts.add_parser("add-log", help="watch a log from now on; a second key of it is added to the first")
        add.add_argument("--vkey", required=True, help="the log's verifier key, got from that house")
        add.add_argument("--url", default="", help="where people find that house")
        shown = acts.add_parser("list", help="list the watched logs, and how far each was cosigned")
        shown.add_argument("--json", action="store_true", help="one JSON object a line")
        remove = acts.add_parser("remove", help="cosign nothing of a log any more; what was seen of it stays")
        remove.add_argument("origin", help="the log's origin")

    def handle(self, *_: Any, act: str, **options: Any) -> None:
        try:
            if act == "vkey":
                self.stdout.write(str(witness_vkey()))
            else:
                {"add-log": self._add, "list": self._list, "remove": self._remove}[act](options)
        except (KeyUnusable, LogNotFounded, NoteBroken) as error:
            raise CommandError(str(error), returncode=2) from None

    def _add(self, options: dict[str, Any]) -> None:
        mine = witness_vkey()  # before a log is promised anything: without a key there is no cosignature
        log = watch_log(vkey=options["vkey"], url=options["url"])
        self.stdout.write(f"{log.origin}: watched from {log.size} leaves on, {len(log.vkeys)} keys, as {mine.name}")

    def _list(self, options: dict[str, Any]) -> None:
        logs = list(WitnessedLog.objects.all())
        for log in logs:
            faults = log.misbehaviours.count()
            if options["json"]:
                told = {"origin": log.origin, "size": log.size, "watched": log.watched, "misbehaviours": faults}
                self.stdout.write(json.dumps(told | {"vkeys": log.vkeys, "url": log.url}))
            else:
                state = "watched" if log.watched else "not watched any more"
                self.stdout.write(f"{log.origin}: {state}, cosigned at {log.size} leaves, {faults} misbehaviours")
        if not options["json"]:
            self.stdout.write(f"{len(logs)} logs")

    def _remove(self, options: dict[str, Any]) -> None:
        if not stop_watching(options["origin"]):
            raise CommandError(f"{options['origin']} is not watched", returncode=1)
        self.stdout.write(f"{options['origin']}: not watched any more; what was seen of it stays")
