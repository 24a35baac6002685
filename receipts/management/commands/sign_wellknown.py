"""Sign the document that says whose keys count, where the root key lives, and put it in its place."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts.canonical import encode
from receipts.keys import KeyUnusable
from receipts.wellknown import keep, published_path, sign_document, unsigned_document


class Command(BaseCommand):
    help = (
        "Sign /.well-known/tallystick.json. Where the root key is kept off the server: "
        "--collect there, --sign FILE beside the root key, --publish FILE back on the server."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_mutually_exclusive_group(required=True)
        acts.add_argument("--collect", action="store_true", help="print the unsigned document of this house")
        acts.add_argument("--sign", metavar="FILE", type=Path, help="sign a collected document with the root key")
        acts.add_argument("--publish", metavar="FILE", type=Path, help="publish a signed document from this house")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["collect"]:
            self.stdout.write(encode(unsigned_document()).decode())
        elif options["sign"]:
            document = _read(options["sign"])
            document.pop("signature", None)
            try:
                self.stdout.write(encode(sign_document(document)).decode())
            except KeyUnusable as error:
                raise CommandError(str(error), returncode=2) from None
        else:
            document = _read(options["publish"])
            if "signature" not in document:
                raise CommandError(f"{options['publish']} has no signature: sign it first", returncode=2)
            keep(document)
            self.stdout.write(f"published from {published_path()}")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}", returncode=2) from None
    except ValueError:
        raise CommandError(f"{path} is not JSON", returncode=2) from None
    if not isinstance(value, dict):
        raise CommandError(f"{path} holds no object", returncode=2)
    return value
