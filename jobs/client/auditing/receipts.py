"""Hold exported receipts against the log, then judge each job's by the verifier's own steps. Pure but for the file.

Two passes over the file, neither of which keeps the receipts: the first, beside the walk through the log, compares
each line with its leaf and notes where in the file each job's lines are (16 bytes a receipt); the second reads one
job at a time and judges it as a tally is judged.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from jobs.client.auditing.state import Gone
from jobs.client.auditing.walk import MOST_FAULTS
from jobs.client.case import PUBLIC_IN_A_TALLY, Case, Read
from jobs.client.steps import signed, story, tokens
from jobs.client.tally_format import LoggedReceipt, Promise, Tally
from jobs.client.trust import Trust
from jobs.client.verdicts import Broken, Fault, ManyBroken, Newer, NotClaimed, Unknown, Word, reading, require_equal
from receipts.canonical import nid
from receipts.checkpoint import Checkpoint
from receipts.events import EVENTS, About
from receipts.exported import MAX_LINE_BYTES, Line, LineBroken, ProofLine, read_line, read_proof_line
from receipts.keyacts import KeyActRefused, check_act
from receipts.keys import SignatureBroken, verify_text
from receipts.merkle import ProofBroken, check_inclusion, leaf_hash

BUCKETS: Final = 256
CANONICAL: Final = "receipts-canonical"
CHAIN: Final = "receipts-chain"
KEYS: Final = "idempotency-keys"
REQUEST: Final = "request-signed"
WORK: Final = "work-signed"
USAGE: Final = "usage"
ATTESTATION: Final = "attestation"
METER: Final = "meter"
HOUSE: Final = "house-signed"

_JOB: Final = re.compile(rb'"jobId":"([^"\\]{1,100})"')
_SUBJECT: Final = re.compile(rb'"subject":"([^"\\]{1,100})"')
_TYPE: Final = re.compile(rb'"eventType":"([A-Za-z0-9]{1,40})"')
_USAGE_HASH: Final = re.compile(rb'"receipt_hash":"(0x[0-9a-f]{64})"')
_ERASES: Final = re.compile(rb'"erased":"(bafkrei[a-z2-7]{52})".*"eventType":"ReceiptErased"')
_PLACE: Final = re.compile(r"receipts\[([0-9]+)\]")
_NOTHING: Final = Promise("", {"alg": "", "key_id": "", "sig": ""})


class NotAnExport(ValueError):
    """This file can't be read as an export: the message names line, field and rule."""


@dataclass(slots=True)
class Tallied:
    """How often each claim ended how, and where the broken ones broke."""

    counts: Counter[str] = field(default_factory=Counter)  # "claim/word" -> how many
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def newer(self) -> bool:
        """Tell whether a receipt is of a type or version unknown here."""
        return self.counts["newer"] > 0

    def add(self, claim: str, word: Word) -> None:
        """Count one verdict."""
        self.counts[f"{claim}/{word}"] += 1

    def of(self, claim: str, word: Word) -> int:
        """Say how often a claim ended so."""
        return self.counts[f"{claim}/{word}"]

    def fault(self, claim: str, fault: Fault) -> None:
        """Keep where a claim broke; beyond so many, only that it did."""
        kept = self.faults.setdefault(claim, [])
        if len(kept) < MOST_FAULTS:
            kept.append(fault)

    def reason(self, claim: str, text: str) -> None:
        """Keep why a claim is unknown."""
        kept = self.reasons.setdefault(claim, Counter())
        if text in kept or len(kept) < MOST_FAULTS:
            kept[text] += 1


class Matching:
    """The first pass: lines against leaves, and where each group's lines are."""

    def __init__(self, path: Path, gone: Gone, tallied: Tallied) -> None:
        self._stream: BinaryIO = path.open("rb")
        self._gone = gone
        self._tallied = tallied
        self._keys = [array("Q") for _ in range(BUCKETS)]
        self._offsets = [array("Q") for _ in range(BUCKETS)]
        self._links: dict[int, int] = {}  # of usage claims: the subject's key -> the key of its job
        self._erased: dict[str, int] = {}
        self._acts: set[str] = set()
        self._number = 0
        self._next: tuple[int, Line] | None = None
        self._index_again()

    def on_bundle(self, first: int, entries: Sequence[bytes]) -> None:
        """Compare the lines of these leaves. Raises: NotAnExport."""
        end = first + len(entries)
        while (item := self._peek()) is not None and item[1].leaf < end:
            offset, line = item
            if line.leaf < first:
                raise NotAnExport(f"line {self._number}: leaf: {line.leaf} stands behind leaf {first}; lines ascend")
            self._next = None
            self._gone.last_leaf = line.leaf
            self._match(line, entries[line.leaf - first])
            self._note(offset, line)
            self._gone.offset = self._stream.tell()

    def prove(self, proofs: BinaryIO, stated: Checkpoint) -> None:
        """Follow each line's own path to the root, where the log itself is not at hand. Raises: NotAnExport."""
        while (item := self._peek()) is not None:
            offset, line = item
            self._next = None
            self._gone.last_leaf = line.leaf
            raw = proofs.readline(MAX_LINE_BYTES + 2)
            try:
                proof = read_proof_line(raw)
            except LineBroken as error:
                raise NotAnExport(f"proof of line {self._number}: {error}") from None
            if proof.leaf != line.leaf:
                raise NotAnExport(f"proof of line {self._number}: leaf: is {proof.leaf}, {line.leaf} is due")
            self._prove(line, proof, stated)
            self._note(offset, line)
        if proofs.readline(1):
            raise NotAnExport("there are more proofs than receipts")

    def finish(self, size: int) -> None:
        """Name what the file still holds: leaves that this checkpoint does not cover. Raises: NotAnExport."""
        while (item := self._peek()) is not None:
            self._next = None
            self._gone.last_leaf = item[1].leaf
            self._gone.counts["beyond"] += 1
            self._tallied.fault(
                "receipts",
                Broken(
                    f"leaf {item[1].leaf} ({item[1].nid})",
                    "lies beyond the checkpoint",
                    expected=f"a leaf before {size}",
                    found=item[1].leaf,
                ).fault,
            )

    def groups(self, bucket: int) -> Iterator[list[Line]]:
        """Give the lines of each group in a bucket, one group at a time, by ascending leaf."""
        places: dict[int, list[int]] = {}
        for key, offset in zip(self._keys[bucket], self._offsets[bucket], strict=True):
            places.setdefault(key, []).append(offset)
        for offsets in places.values():
            lines = []
            for offset in offsets:
                self._stream.seek(offset)
                lines.append(read_line(self._stream.readline(MAX_LINE_BYTES + 2)))
            yield lines

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def _index_again(self) -> None:
        """Find the groups of the lines that an earlier run has compared already."""
        end = self._gone.offset
        self._gone.offset = 0
        before = self._gone.last_leaf
        self._gone.last_leaf = -1
        while self._stream.tell() < end:
            item = self._peek()
            if item is None:
                break
            self._next = None
            self._gone.last_leaf = item[1].leaf
            self._note(*item)
        if self._stream.tell() != end or self._gone.last_leaf != before:
            raise NotAnExport("the state was kept for another file: remove it and start anew")
        self._gone.offset = end

    def _peek(self) -> tuple[int, Line] | None:
        if self._next is None:
            offset = self._stream.tell()
            raw = self._stream.readline(MAX_LINE_BYTES + 2)
            if not raw:
                return None
            self._number += 1
            if not raw.endswith(b"\n"):
                raise NotAnExport(f"line {self._number}: is longer than {MAX_LINE_BYTES} bytes, or cut off")
            try:
                line = read_line(raw)
            except LineBroken as error:
                raise NotAnExport(f"line {self._number}: {error}") from None
            if line.leaf <= self._gone.last_leaf:
                raise NotAnExport(
                    f"line {self._number}: leaf: {line.leaf} stands behind leaf {self._gone.last_leaf}; lines ascend"
                )
            self._next = (offset, line)
        return self._next

    def _match(self, line: Line, entry: bytes) -> None:
        due = self._entry_of(line)
        if due is not None and entry != due:
            told = entry.decode("ascii", "backslashreplace")
            self._wrong(Broken(_where(line), "is not what the log has there", expected=told, found=due.decode()))

    def _prove(self, line: Line, proof: ProofLine, stated: Checkpoint) -> None:
        due = self._entry_of(line)
        if due is None:
            return
        try:
            check_inclusion(leaf_hash(due), line.leaf, stated.size, proof.proof, stated.root)
        except ProofBroken as error:
            self._wrong(Broken(_where(line), error.rule))

    def _entry_of(self, line: Line) -> bytes | None:
        """Write the log's entry for a line, from its bytes where they are shown; None where they are not its own."""
        if line.body is None:
            self._gone.counts[str(line.withheld)] += 1
            return _entry(line.event_type, line.nid)
        self._gone.counts["shown"] += 1
        found = _TYPE.search(line.body)
        name = nid(line.body)
        if name != line.nid:
            self._wrong(Broken(f"{_where(line)} bytes", "do not hash to their NID", expected=line.nid, found=name))
            return None
        return _entry(found[1].decode() if found else "", name)

    def _wrong(self, error: Broken) -> None:
        self._gone.counts["wrong"] += 1
        self._tallied.fault("receipts", error.fault)

    def without_act(self) -> list[str]:
        """Name the receipts that are said to be erased, where no receipt at hand says that they were."""
        return sorted(self._erased.keys() - self._acts)

    def _note(self, offset: int, line: Line) -> None:
        if line.body is None:
            if line.withheld == "erased":
                self._erased[line.nid] = line.leaf
            return
        if act := _ERASES.search(line.body):
            self._acts.add(act[1].decode())
        job = _JOB.search(line.body)
        found = job or _SUBJECT.search(line.body)
        key = _key(found[1] if found else b"")
        if job:
            claimed = _USAGE_HASH.search(line.body)
            if claimed:
                self._links[_key(b"usage:" + claimed[1])] = key
        else:
            key = self._links.get(key, key)
        bucket = key % BUCKETS
        self._keys[bucket].append(key)
        self._offsets[bucket].append(offset)


def _where(line: Line) -> str:
    return f"leaf {line.leaf} ({line.nid})"


def _entry(event_type: str, name: str) -> bytes:
    return b'{"eventType":"%b","nid":"%b","v":1}' % (event_type.encode("ascii", "replace"), name.encode())


def file_mark(path: Path) -> str:
    """Name a file so that a changed one is not taken for it."""
    stat = path.stat()
    return f"{stat.st_size} bytes of {stat.st_mtime_ns}"


def judge_group(lines: Sequence[Line], trust: Trust, note: str, *, complete: bool, tallied: Tallied) -> None:
    """Judge what belongs together: one job's receipts and the public ones about it, or those of one subject.

    Unless the export is `complete`, a gap means that the rest was not exported.
    """
    first = next((line for line in lines if line.body is not None and _JOB.search(line.body)), None)
    job = _JOB.search(first.body) if first is not None and first.body is not None else None
    # The public ones stand behind the job's, whatever their leaves: the order of a tally.
    ordered = sorted(lines, key=_place_in_a_tally)
    case = Case(
        Tally(
            job_id=job[1].decode(errors="replace") if job else "",
            job_nid=str(nid(ordered[0].body or b"")),
            receipts=tuple(LoggedReceipt(line.body or b"", line.leaf, None) for line in ordered),
            checkpoint=note,
            promise=_NOTHING,
        ),
        trust,
    )
    told = Told(ordered, tallied)
    told.take(CANONICAL, lambda: story.receipts_canonical(case))
    if len(case.readable) < len(case.attempted):
        tallied.counts["newer"] += sum(isinstance(item, Newer) for item in case.attempted)
        return  # what can't be read is told above; the rest of its story can't be judged
    if job:
        _judge_job(case, told, complete)
    else:
        _judge_subject(case, told, complete)


def _judge_job(case: Case, told: "Told", complete: bool) -> None:
    types = {item.type for item in case.readable}
    gap = _gap([item for item in case.readable if EVENTS[item.type].about is About.JOB])
    if gap and not complete:
        for claim in (CHAIN, KEYS):
            told.unknown(claim, "not all of a job's receipts are at hand")
        return
    told.take(CHAIN, lambda: story.receipts_chain(case))
    told.take(KEYS, lambda: story.idempotency_keys(case))
    if "JobSubmitted" in types:
        told.take(REQUEST, lambda: signed.request_signed(case))
    if any("claim" in item.data or "sig" in item.data for item in case.readable if item.type in signed.CLAIM_OF):
        told.take(WORK, lambda: signed.work_signed(case))
    if "UsageReceipt" in types:
        told.take(USAGE, lambda: tokens.usage(case))
    if "UsageAttested" in types:
        told.take(ATTESTATION, lambda: tokens.attestation(case))
    if "JobCompleted" in types:
        told.take(METER, lambda: tokens.meter(case))


def _judge_subject(case: Case, told: "Told", complete: bool) -> None:
    receipts = case.readable
    if _gap(receipts) and not complete:
        for claim in (CHAIN, KEYS):
            told.unknown(claim, "not all of a subject's receipts are at hand")
    else:
        told.take(CHAIN, lambda: _subject_chain(receipts))
        told.take(KEYS, lambda: _subject_keys(receipts))
    for item in receipts:
        if item.type in _SIGNED:
            claim, check = _SIGNED[item.type]
            told.take(claim, partial(check, case, item))


def _gap(receipts: Sequence[Read]) -> bool:
    return any(item.body["seq"] != number for number, item in enumerate(receipts, start=1))


def _subject_chain(receipts: Sequence[Read]) -> str:
    for place, item in enumerate(receipts):
        require_equal(item.at("subject"), item.body.get("subject"), receipts[0].body.get("subject"), "is another's")
        story.require_public_link(receipts[:place], item)
    return f"{len(receipts)} linked"


def _subject_keys(receipts: Sequence[Read]) -> str:
    seen: set[str] = set()
    for item in receipts:
        key, plain = item.body["idempotencyKey"], f"{item.body['subject']}-{item.type}"
        if not re.fullmatch(re.escape(plain) + "(-[1-9][0-9]{0,8}){0,2}", key):
            raise Broken(item.at("idempotencyKey"), "is not the key of this receipt", expected=plain, found=key)
        if key in seen:
            raise Broken(item.at("idempotencyKey"), "stands twice", found=key)
        seen.add(key)
    return f"{len(seen)} keys"


def _key_act(case: Case, item: Read) -> str:
    """Check who signed a key act by the rule that the house goes by, and that the receipt tells what was signed."""
    # The act by which a root key steps down stands at the first leaf that it no longer counts for.
    leaves = () if item.leaf is None else (item.leaf, item.leaf - 1)
    roots = {
        key.key_id
        for key in case.trust.holding("root")
        if item.leaf is None or any(key.counts_at(leaf) for leaf in leaves)
    }
    with reading(item.at("data.signatures"), KeyActRefused):
        act = check_act(item.data["claim"], item.data["signatures"], roots=roots)
    for name in ("act", "role", "key_id", "from_leaf"):
        require_equal(item.at(f"data.{name}"), item.data[name], getattr(act, name), "is not what was signed")
    return "signed by both keys" if act.act == "rotated" else "signed by the root key"


def _registered(_: Case, item: Read) -> str:
    if "claim" not in item.data:
        raise NotClaimed("as told by the house")
    with reading(item.at("data.claim"), SignatureBroken):
        verify_text(item.data["claim"], item.data["sig"], key_id=item.data["provider"])
    return "signed by the provider"


def _attested(case: Case, item: Read) -> str:
    return f"{len(tokens.require_attesters(case, item))} attesters"


# What is signed in receipts that belong to no job at hand.
_SIGNED: Final[dict[str, tuple[str, Callable[[Case, Read], str]]]] = {
    "KeyRotated": (HOUSE, _key_act),
    "ProviderRegistered": (HOUSE, _registered),
    "UsageAttested": (ATTESTATION, _attested),
}


class Told:
    """Notes how the steps over one group end, each fault with its leaf and NID."""

    def __init__(self, lines: Sequence[Line], tallied: Tallied) -> None:
        self._lines = lines
        self._tallied = tallied

    def take(self, claim: str, check: Callable[[], str]) -> None:
        """Take one step."""
        try:
            check()
            self._tallied.add(claim, Word.HOLDS)
        except ManyBroken as error:
            self._broken(claim, error.faults)
        except Broken as error:
            self._broken(claim, (error.fault,))
        except Unknown as error:
            self.unknown(claim, str(error))
        except NotClaimed:
            self._tallied.add(claim, Word.NOT_CLAIMED)

    def unknown(self, claim: str, reason: str) -> None:
        """Note that a claim can't be judged here."""
        self._tallied.add(claim, Word.UNKNOWN)
        self._tallied.reason(claim, _PLACE.sub(self._located, reason))

    def _broken(self, claim: str, faults: Sequence[Fault]) -> None:
        self._tallied.add(claim, Word.BROKEN)
        for fault in faults:
            located = _PLACE.sub(self._located, fault.field)
            rule = _PLACE.sub(self._located, fault.rule)
            if located == fault.field:
                located = f"leaf {self._lines[0].leaf} {located}"
            self._tallied.fault(claim, Fault(located, rule, fault.expected, fault.found))

    def _located(self, match: re.Match[str]) -> str:
        line = self._lines[int(match[1])]
        return f"leaf {line.leaf} ({line.nid})"


def _place_in_a_tally(line: Line) -> tuple[int, int]:
    body = line.body or b""
    if _JOB.search(body):
        return 0, line.leaf
    found = _TYPE.search(body)
    name = found[1].decode() if found else ""
    return (PUBLIC_IN_A_TALLY.index(name) + 1 if name in PUBLIC_IN_A_TALLY else 3), line.leaf


def _key(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
