"""Erase what law, policy or its owner wants gone: by a logged act, so that every check says so."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from jobs.erase import erase_job
from jobs.errors import NotYet
from jobs.models import Job
from receipts.erase import NotErasable, erase_receipt
from receipts.keys import KeyUnusable
from receipts.models import Erasure


class Command(BaseCommand):
    help = (
        "Erase a job's inputs and artifacts, or one receipt's bytes. Each is a receipt of its own. "
        "Runs as the owner of the database (DATABASE_URL=$DATABASE_OWNER_URL): the application may not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--job", metavar="JOB", help="its inputs, their salts and what it made; its receipts stay")
        what.add_argument("--receipt", metavar="NID", help="the bytes of one receipt; its NID stays in the log")
        parser.add_argument("--reason", required=True, choices=Erasure.Reason.values)
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    def handle(self, *_: Any, **options: Any) -> None:
        shared: tuple[str, ...] = ()
        try:
            if options["job"]:
                erased = erase_job(job_id=options["job"], reason=options["reason"])
                acts, shared = erased.acts, erased.shared
            else:
                acts = (erase_receipt(options["receipt"], reason=options["reason"]),)
        except Job.DoesNotExist:
            raise CommandError(f"there is no job {options['job'][:40]} here", returncode=2) from None
        except (NotErasable, NotYet, KeyUnusable) as error:
            raise CommandError(str(error), returncode=2 if isinstance(error, NotErasable) else 1) from None
        except ProgrammingError as error:
            if "permission denied" not in str(error):
                raise
            raise CommandError(
                "this database role may not erase: set DATABASE_URL to the owner's", returncode=1
            ) from None
        if options["json"]:
            told = {"erased": [{"nid": act.nid, "act": act.act.nid} for act in acts], "shared": list(shared)}
            self.stdout.write(json.dumps(told))
            return
        for act in acts:
            self.stdout.write(f"{act.nid} erased {act.get_reason_display()}, receipt {act.act.nid}")
        for sha256 in shared:
            self.stdout.write(f"{sha256} stays: another job made the same bytes")
        self.stdout.write(f"{len(acts)} erased, {len(shared)} kept")
