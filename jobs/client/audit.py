"""Check a whole log from outside: every leaf, tile and root, and every receipt that is at hand. No Django.

The claims, in the order in which they are told:

    checkpoint          the log signed its size and root
    witnesses           others cosigned it
    entries             every leaf has an entry, in its one spelling
    tiles               every published tile holds the hashes that the entries give
    root                all entries together give the signed root
    append-only         the log extends what was audited before          (only with a state)
    receipts            every exported receipt hashes to its NID, and stands at its leaf       (from here on
    receipts-canonical  … is canonical JSON in the shape of its type                          only with an
    receipts-chain      … is linked to the one before it                                      export)
    idempotency-keys, request-signed, work-signed, usage, attestation, meter      as `tallystick verify` judges them
    house-signed        key acts and registrations are signed by who may say so

A job's receipts are judged by the same steps as in its tally. What a tally holds besides (artifact, credential, raw
transactions) is not in a log, and `tallystick verify` judges it.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from jobs.client.auditing import receipts as told
from jobs.client.auditing.receipts import BUCKETS, Matching, NotAnExport, Tallied, file_mark, judge_group
from jobs.client.auditing.source import Folder, Source, read_checkpoint
from jobs.client.auditing.state import MAX_STATE_BYTES, Audited, State, read_state, write_state
from jobs.client.auditing.walk import Entries, Walk, Walked, walk_log
from jobs.client.case import Case
from jobs.client.steps import log as log_steps
from jobs.client.tally_format import Promise, Tally
from jobs.client.trust import Trust
from jobs.client.verdicts import Broken, Faults, Newer, NotClaimed, Unknown, Verdict, Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, EXIT_NEWER, EXIT_UNKNOWN, Report, Step, judge
from receipts.checkpoint import Checkpoint, parse_checkpoint, parse_note
from receipts.durable import write_durably
from receipts.exported import MAX_LINE_BYTES, PROOFS, RECEIPTS, LineBroken, read_checkpoint_line

SAVE_EVERY_BUNDLES: Final = 64
_BAR: Final = 30
OF_RECEIPTS: Final = (
    told.CANONICAL,
    told.CHAIN,
    told.KEYS,
    told.REQUEST,
    told.WORK,
    told.USAGE,
    told.ATTESTATION,
    told.METER,
    told.HOUSE,
)
_LIES: Final = {
    "checkpoint": "the log's key is stolen",
    "witnesses": "all witnesses collude with the hub",
    "entries": "this verifier errs: only the bytes are needed",
    "tiles": "this verifier errs: only the bytes are needed",
    "root": "SHA-256 is broken",
    "append-only": "SHA-256 is broken, or your own state file was changed",
    "receipts": "SHA-256 is broken",
    told.CANONICAL: "this verifier errs: only the bytes are needed",
    told.CHAIN: "the hub told another story from the start, and this one to all",
    told.KEYS: "this verifier errs: only the bytes are needed",
    told.REQUEST: "the client's key is stolen",
    told.WORK: "the provider lies, or its key is stolen",
    told.USAGE: "the provider lies about its meter",
    told.ATTESTATION: "the attesters collude with the provider",
    told.METER: "the provider lies within the time that the hub saw",
    told.HOUSE: "the root key, or both keys of a rotation, are stolen",
}
_ALWAYS: Final = frozenset({"checkpoint", "entries", "tiles", "root", "append-only", "receipts"})
_STRUCTURE: Final = frozenset({told.CANONICAL, told.CHAIN, told.KEYS, told.HOUSE})


@dataclass(frozen=True, slots=True)
class Audit:
    """All verdicts on a log, which of them are required, and how much was looked at."""

    report: Report
    trust: Trust  # requires what this audit requires
    counts: dict[str, int]


Progress = Callable[[str, int, int], None]


def quiet(what: str, done: int, whole: int) -> None:
    """Show nothing."""


def bar(what: str, done: int, whole: int) -> None:
    """Show on stderr how far it is."""
    full = _BAR * done // max(1, whole)
    end = "\n" if done >= whole else ""
    sys.stderr.write(f"\r[{'#' * full}{' ' * (_BAR - full)}] {what} {done:,} of {whole:,}{end}")
    sys.stderr.flush()


def audit(
    source: Source,
    trust: Trust,
    *,
    receipts: Path | None = None,
    state_path: Path | None = None,
    progress: Progress = quiet,
) -> Audit:
    """Audit a log as it stands now; with a state, from where the last audit of it ended or was killed.

    Raises: jobs.client.auditing.source.NoLogThere, jobs.client.auditing.receipts.NotAnExport,
    jobs.client.auditing.state.NotAState, for what can't be read at all.
    """
    note = read_checkpoint(source)
    run = _Run(source, trust, note, receipts, state_path, progress)
    return run.audit()


def audit_part(folder: Path, trust: Trust, *, progress: Progress = quiet) -> Audit:
    """Audit an export of a part of the log: each receipt by the proof that came with it.

    Raises: jobs.client.auditing.receipts.NotAnExport.
    """
    with (folder / PROOFS).open("rb") as proofs:
        try:
            note = read_checkpoint_line(proofs.readline(MAX_LINE_BYTES + 2))
        except LineBroken as error:
            raise NotAnExport(f"{PROOFS}: {error}") from None
        run = _Run(Folder(folder), trust, note, folder / RECEIPTS, None, progress)
        return run.audit_part(proofs)


class _Run:
    """One audit, from the checkpoint to the verdicts."""

    def __init__(
        self,
        source: Source,
        trust: Trust,
        note: str,
        receipts: Path | None,
        state_path: Path | None,
        progress: Progress,
    ) -> None:
        self.source, self.trust, self.note, self.progress = source, trust, note, progress
        self.path, self.state_path = receipts, state_path
        # The steps about a checkpoint are those of a tally that holds nothing else.
        nothing = Promise("", {"alg": "", "key_id": "", "sig": ""})
        self.case = Case(
            Tally(job_id="", job_nid="", receipts=(), checkpoint=note, promise=nothing), trust, artifact=None
        )
        self.verdicts: list[Verdict] = []
        self.tallied = Tallied()
        self.state = State(trust.origin)
        self.before: Audited | None = None
        self.newer = False

    def audit(self) -> Audit:
        self.take("checkpoint", lambda: log_steps.checkpoint(self.case))
        self.take("witnesses", lambda: log_steps.witnesses(self.case))
        stated = self.stated()
        if stated is None:
            for claim in ("entries", "tiles", "root", "append-only", "receipts", *OF_RECEIPTS):
                self.take(claim, _unjudged)
            return self.result(0)
        self.read_state()
        resumed = self.state.walk.size > 0
        walked, matching = self.walk(stated)
        if resumed and (walked.root not in (None, stated.root) or walked.entries.found or walked.tiles.found):
            # Where an older part was changed meanwhile only a walk from the first leaf can tell.
            if matching:
                matching.close()
            self.start_anew()
            walked, matching = self.walk(stated)
        self.tell_log(stated, walked)
        try:
            self.tell_receipts(stated, walked, matching)
        finally:
            if matching:
                matching.close()
        audit = self.result(stated.size)
        if audit.report.exit_code in (EXIT_HOLDS, EXIT_UNKNOWN) and walked.root == stated.root:
            self.state.audited = Audited(stated.size, stated.root, self.note)
            self.save()
        return audit

    def audit_part(self, proofs: BinaryIO) -> Audit:
        self.take("checkpoint", lambda: log_steps.checkpoint(self.case))
        self.take("witnesses", lambda: log_steps.witnesses(self.case))
        for claim in ("entries", "tiles", "root", "append-only"):
            self.take(claim, _only_a_part)
        stated = self.stated()
        if stated is None or self.path is None:
            for claim in ("receipts", *OF_RECEIPTS):
                self.take(claim, _unjudged)
            return self.result(0)
        matching = Matching(self.path, self.state.gone, self.tallied)
        try:
            matching.prove(proofs, stated)
            self.tell_receipts(stated, Walked(root=stated.root), matching)
        finally:
            matching.close()
        return self.result(stated.size)

    # --- the log ---------------------------------------------------------------------------------

    def stated(self) -> Checkpoint | None:
        """Read size and root, if the log's own key signed them."""
        if self.verdicts[0].verdict is not Word.HOLDS:
            return None
        return parse_checkpoint(parse_note(self.note).text)

    def walk(self, stated: Checkpoint) -> tuple[Walked, Matching | None]:
        self.before = self.state.audited
        matching = Matching(self.path, self.state.gone, self.tallied) if self.path else None
        done = 0

        def on_bundle(first: int, entries: Entries) -> None:
            if matching:
                matching.on_bundle(first, entries)

        def after_bundle(walk: Walk, found: Walked) -> None:
            nonlocal done
            done += 1
            if done % SAVE_EVERY_BUNDLES == 0:
                self.progress("leaves", walk.size, stated.size)
                if found.clean and not self.tallied.faults and self.extends(found):
                    self.save()

        walked = walk_log(
            self.source,
            stated.size,
            self.state.walk,
            earlier=self.before.size if self.before and self.before.size <= stated.size else None,
            on_bundle=on_bundle,
            after_bundle=after_bundle,
        )
        self.progress("leaves", stated.size, stated.size)
        if matching and walked.stopped is None:
            matching.finish(stated.size)
        return walked, matching

    def tell_log(self, stated: Checkpoint, walked: Walked) -> None:
        def entries() -> str:
            _settle(walked.entries)
            if walked.stopped:
                raise Unknown(walked.stopped)
            if walked.newer:
                raise Newer(f"newer: {walked.newer} entries are of a version unknown here")
            return f"{stated.size} entries in {walked.bundles} bundles read"

        def tiles() -> str:
            _settle(walked.tiles)
            if walked.stopped:
                raise Unknown(walked.stopped)
            return f"{walked.hash_tiles} tiles are what the entries give"

        def root() -> str:
            if walked.root is None:
                raise Unknown(walked.stopped or "not computed")
            if walked.root != stated.root:
                raise Broken(
                    f"root of {stated.size} leaves",
                    "the entries give another root than the log signed",
                    expected=stated.root.hex(),
                    found=walked.root.hex(),
                )
            return f"{stated.size} leaves give {stated.root.hex()[:16]}…, as signed"

        self.take("entries", entries)
        self.take("tiles", tiles)
        self.take("root", root)
        self.take("append-only", lambda: self.append_only(stated, walked))

    def append_only(self, stated: Checkpoint, walked: Walked) -> str:
        """Hold this checkpoint against the one audited last; where they can't both be, keep both as evidence."""
        before = self.before
        if before is None:
            raise NotClaimed("no earlier audit is known: name a state file with --resume to have the next one compared")
        where = f"log of {before.size} leaves, audited before"
        if stated.size < before.size:
            self.keep_evidence(before)
            raise Broken(where, "is shorter now", expected=f"{before.size} leaves or more", found=stated.size)
        if walked.earlier_root is None:
            raise Unknown(walked.stopped or "the earlier size was not reached")
        if walked.earlier_root != before.root:
            self.keep_evidence(before)
            raise Broken(where, "was rewritten since", expected=before.root.hex(), found=walked.earlier_root.hex())
        grown = stated.size - before.size
        return f"the {before.size} leaves audited before are its beginning, {grown} were added"

    def extends(self, walked: Walked) -> bool:
        """Tell whether the log still is what was audited before, as far as it was walked."""
        return self.before is None or walked.earlier_root in (None, self.before.root)

    def keep_evidence(self, before: Audited) -> None:
        """Keep both signed checkpoints: together they prove that the log's key signed two histories."""
        if self.state_path is None:
            return
        kept = {"before": before.note, "now": self.note}
        path = self.state_path.with_name(f"{self.state_path.name}.evidence.json")
        write_durably(path, (json.dumps(kept, indent=2) + "\n").encode())

    # --- the receipts ----------------------------------------------------------------------------

    def tell_receipts(self, stated: Checkpoint, walked: Walked, matching: Matching | None) -> None:
        if matching is None:
            for claim in ("receipts", *OF_RECEIPTS):
                self.take(claim, _none_given)
            return
        counts = self.state.gone.counts
        withheld = counts["redacted"] + counts["erased"]

        def match() -> str:
            self.settle("receipts")
            if walked.stopped:
                raise Unknown(f"not all lines were compared: {walked.stopped}")
            if walked.root != stated.root:
                raise Unknown("the entries are not those of the signed root")
            if gone := matching.without_act():
                if counts["redacted"] or counts["shown"] + counts["erased"] < stated.size:
                    raise Unknown(f"{len(gone)} are said to be erased, and no act at hand says so: {gone[0]}")
                raise Broken(
                    f"receipt {gone[0]}",
                    "is said to be erased, and no logged act says so",
                    expected="a ReceiptErased that names it",
                    found=f"{len(gone)} without one",
                )
            more = f"; {counts['redacted']} redacted, {counts['erased']} erased" if withheld else ""
            return f"{counts['shown']} receipts stand at their leaves of {stated.size}{more}"

        self.take("receipts", match)
        if walked.stopped is None:
            self.judge_groups(matching, complete=counts["shown"] == stated.size)
        for claim in OF_RECEIPTS:
            self.take(claim, self.sum_of(claim))

    def judge_groups(self, matching: Matching, *, complete: bool) -> None:
        self.tallied.counts = self.state.gone.counts
        for bucket in range(self.state.gone.bucket, BUCKETS):
            for lines in matching.groups(bucket):
                judge_group(lines, self.trust, self.note, complete=complete, tallied=self.tallied)
            self.state.gone.bucket = bucket + 1
            self.progress("buckets of jobs", bucket + 1, BUCKETS)
            log_is_whole = all(item.verdict is not Word.BROKEN for item in self.verdicts)
            if log_is_whole and not self.tallied.faults and not self.tallied.reasons and not self.tallied.newer:
                self.save()

    def sum_of(self, claim: str) -> Callable[[], str]:
        """Sum a claim up over all groups."""
        tallied = self.tallied

        def check() -> str:
            self.settle(claim)
            holds, silent = tallied.of(claim, Word.HOLDS), tallied.of(claim, Word.NOT_CLAIMED)
            if unknown := tallied.of(claim, Word.UNKNOWN):
                # An earlier run that this one goes on from has counted, and kept no reasons.
                reasons = tallied.reasons.get(claim) or Counter({"found by an earlier run": unknown})
                text, count = reasons.most_common(1)[0]
                raise Unknown(f"in {unknown} groups of receipts, in {count} because {text}; holds in {holds}")
            if not holds:
                raise NotClaimed(f"in none of {silent} groups of receipts" if silent else "nothing at hand claims it")
            return f"in {holds} groups of receipts" + (f", in {silent} not claimed" if silent else "")

        return check

    def settle(self, claim: str) -> None:
        """Raise what broke. Raises: ManyBroken."""
        Faults(list(self.tallied.faults.get(claim, ()))).settle()

    # --- the state -------------------------------------------------------------------------------

    def read_state(self) -> None:
        if self.state_path is None or not self.state_path.exists():
            return
        with self.state_path.open("rb") as stream:
            self.state = read_state(stream.read(MAX_STATE_BYTES + 1), self.trust.origin)
        mark = file_mark(self.path) if self.path else ""
        # Where the walk is ahead of the receipts at hand, their leaves must be walked again.
        if self.path and self.state.gone.file != mark:
            self.start_anew()

    def start_anew(self) -> None:
        self.state = State(self.trust.origin, self.state.audited)
        self.state.gone.file = file_mark(self.path) if self.path else ""
        self.tallied = Tallied()

    def save(self) -> None:
        if self.state_path is not None:
            self.state.gone.file = file_mark(self.path) if self.path else ""
            write_state(self.state_path, self.state)

    # --- the verdicts ----------------------------------------------------------------------------

    def take(self, claim: str, check: Callable[[], str]) -> None:
        def watched(_: Case) -> str:
            try:
                return check()
            except Newer:
                self.newer = True
                raise

        self.verdicts.append(judge(Step(claim, watched, _LIES[claim]), self.case))

    def result(self, size: int) -> Audit:
        required = tuple(
            item.claim
            for item in self.verdicts
            if item.verdict is not Word.NOT_CLAIMED
            and (item.claim in _ALWAYS | _STRUCTURE or item.claim in self.trust.require)
        )
        broken = any(item.verdict is Word.BROKEN for item in self.verdicts)
        unknown = any(item.claim in required and item.verdict is Word.UNKNOWN for item in self.verdicts)
        code = (
            EXIT_BROKEN
            if broken
            else EXIT_NEWER
            if self.newer or self.tallied.newer
            else EXIT_UNKNOWN
            if unknown
            else EXIT_HOLDS
        )
        counts = {"size": size, **{name: self.state.gone.counts[name] for name in ("shown", "redacted", "erased")}}
        report = Report(tuple(self.verdicts), code, job_id=f"log {self.trust.origin}")
        return Audit(report, replace(self.trust, require=required), counts)


def _settle(faults: Faults) -> None:
    faults.settle()


def _unjudged() -> str:
    raise Unknown("the log did not sign this checkpoint (see checkpoint)")


def _only_a_part() -> str:
    raise NotClaimed("a part of the log: each receipt comes with its own proof")


def _none_given() -> str:
    raise NotClaimed("no receipts at hand: name an export with --receipts")
