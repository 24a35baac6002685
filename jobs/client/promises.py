"""Keep the hub's promises, and see later whether it kept them: what a client needs to prove that it was left out.

A promise is the hub's signed word that a receipt is in the log by a time. It is asked of the public log alone: its
signed checkpoint and its leaf hashes, from which everyone computes the same root. So nobody needs the hub's leave.

    kept      the receipt's leaf is in the log
    pending   it is not, and the time has not passed
    broken    it is not, and the time has passed: the evidence is written into one file
    unknown   it can't be said: by whom it is signed, or what the log holds

    {"format": "tallystick-promise/1", "job_id": …, "url": …, "promise": {"claim": …, "sig": {…}}}
    {"format": "tallystick-broken-promise/1", "promise": …, "checkpoint": "<the signed note>",
     "leaves": "<base64 of all leaf hashes>", "asked": {"url": …, "at": …}}

The evidence shows offline that the checkpoint's whole tree does not hold the receipt. That the checkpoint was made
after the promise's time is shown only where a witness cosigned it then; else it is the word of whoever fetched it.
"""

import base64
import binascii
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.claims import PROMISE, ClaimBroken, read_claim
from jobs.client.trust import Trust
from jobs.client.verdicts import Unknown
from receipts.canonical import NotCanonical, decode, encode, read_utc, utc
from receipts.checkpoint import Checkpoint, NoteBroken, check_cosignature, check_note, parse_checkpoint, parse_note
from receipts.durable import write_durably
from receipts.keys import SignatureBroken, verify_text
from receipts.merkle import HASH_SIZE, leaf_hash, root_of
from receipts.tiles import WIDTH, Tile

if TYPE_CHECKING:
    from jobs.client.auditing.source import Source

FORMAT: Final = "tallystick-promise/1"
EVIDENCE: Final = "tallystick-broken-promise/1"
KEPT_AS: Final = ".promise.json"
BROKEN_AS: Final = ".broken-promise.json"
MAX_PROMISE_BYTES: Final = 64 * 1024
MAX_LEAVES: Final = 1_000_000  # 32 MB of leaf hashes: more are not fetched to look for one
MAX_EVIDENCE_BYTES: Final = 64 * 1024 * 1024


class NotAPromise(ValueError):
    """This is no promise, or no evidence about one, that can be read."""


class State(StrEnum):
    """How a promise stands."""

    KEPT = "kept"
    PENDING = "pending"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Promised:
    """The hub's word, read from its claim: the receipt `nid` is in the log `log` by `by`."""

    claim: str
    sig: Mapping[str, Any]
    log: str
    nid: str
    at: dt.datetime
    by: dt.datetime
    job_id: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """How a promise stands, in words, and the evidence to keep where it is broken."""

    nid: str
    state: State
    words: str
    evidence: bytes | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The log as it was seen: its checkpoint, every leaf's hash, and when it was fetched."""

    note: str
    stated: Checkpoint
    leaves: tuple[bytes, ...]
    url: str
    at: dt.datetime
    cosigned: tuple[tuple[str, dt.datetime], ...]  # which trusted witness, when


# --- keep ----------------------------------------------------------------------------------------


def keep_promise(folder: Path, promise: Mapping[str, Any], *, nid: str, job_id: str, url: str) -> Path:
    """Keep the promise that came with an answer, durably.

    Raises: NotAPromise, when it is not one about that receipt; OSError.
    """
    kept = {"format": FORMAT, "job_id": job_id, "url": url, "promise": {**promise}}
    try:
        data = encode(kept) + b"\n"
    except NotCanonical as error:
        raise NotAPromise(f"{error.where}: {error.rule}") from None
    if read_promise(data).nid != nid:
        raise NotAPromise(f"it is about another receipt than {nid}")
    path = folder / f"{nid}{KEPT_AS}"
    write_durably(path, data, mode=0o600)
    return path


def read_promise(data: bytes) -> Promised:
    """Read a kept promise; whose signature it carries is not looked at. Raises: NotAPromise."""
    value = _object(data, FORMAT, {"format", "job_id", "url", "promise"}, MAX_PROMISE_BYTES)
    if not isinstance(value["job_id"], str) or not isinstance(value["url"], str):
        raise NotAPromise("job_id and url are text")
    return _promised(value["promise"], job_id=value["job_id"], url=value["url"])


# --- look ----------------------------------------------------------------------------------------


def look(source: "Source", trust: Trust, *, now: dt.datetime) -> Seen:
    """Fetch the log's checkpoint and all its leaf hashes, and check both against its key. Raises: Unknown."""
    from jobs.client.auditing.source import NoLogThere, read_checkpoint, read_tile

    try:
        note = read_checkpoint(source)
    except NoLogThere as error:
        raise Unknown(str(error)) from None
    stated = _signed_checkpoint(note, trust)
    if stated.size > MAX_LEAVES:
        raise Unknown(
            f"the log has {stated.size} leaves: more than {MAX_LEAVES} are not fetched (check a tally instead)"
        )
    data = b"".join(
        read_tile(source, Tile(0, first // WIDTH, min(WIDTH, stated.size - first)))[
            : HASH_SIZE * min(WIDTH, stated.size - first)
        ]
        for first in range(0, stated.size, WIDTH)
    )
    leaves = _leaves(data)
    if len(leaves) != stated.size or root_of(leaves) != stated.root:
        raise Unknown(f"the leaf hashes at {source.name} do not lead to the root that the log signed")
    return Seen(note, stated, leaves, source.name, now, _cosigned(note, trust))


def judge(promise: Promised, trust: Trust, seen: Seen) -> Judged:
    """Say how a promise stands against the log as it was seen."""
    try:
        _require_hub(promise, trust)
    except SignatureBroken as error:
        return Judged(promise.nid, State.UNKNOWN, str(error))
    index = _find(promise, seen.leaves)
    if index is not None:
        return Judged(promise.nid, State.KEPT, f"leaf {index} of {seen.stated.size}, {_in_time(promise, seen)}")
    told = f"not among the {seen.stated.size} leaves that the log signed for, by {utc(promise.by)}"
    if seen.at <= promise.by:
        return Judged(promise.nid, State.PENDING, f"not in the log yet: promised by {utc(promise.by)}")
    evidence = {
        "format": EVIDENCE,
        "promise": {"claim": promise.claim, "sig": dict(promise.sig)},
        "checkpoint": seen.note,
        "leaves": base64.b64encode(b"".join(seen.leaves)).decode(),
        "asked": {"url": seen.url, "at": utc(seen.at)},
    }
    return Judged(promise.nid, State.BROKEN, told, encode(evidence) + b"\n")


# --- check evidence ------------------------------------------------------------------------------


def check_evidence(data: bytes, trust: Trust) -> tuple[State, list[str]]:
    """Judge, offline, a file that says that a promise was broken: a line for each thing it shows or does not.

    Broken: shown to the end. Unknown: what is missing is told. Kept: the accusation is false.
    Raises: NotAPromise, for a file whose signatures or hashes do not hold: it shows nothing.
    """
    value = _object(data, EVIDENCE, {"format", "promise", "checkpoint", "leaves", "asked"}, MAX_EVIDENCE_BYTES)
    promise = _promised(value["promise"])
    note, asked = value["checkpoint"], value["asked"]
    if not isinstance(note, str) or not isinstance(asked, dict) or set(asked) != {"url", "at"}:
        raise NotAPromise("checkpoint is text, asked has url and at")
    try:
        _require_hub(promise, trust)
        stated, cosigned = _signed_checkpoint(note, trust), _cosigned(note, trust)
        fetched = read_utc(asked["at"]) if isinstance(asked["at"], str) else None
        leaves = _leaves(base64.b64decode(value["leaves"], validate=True))
    except (SignatureBroken, Unknown, NotCanonical, binascii.Error, TypeError, ValueError) as error:
        raise NotAPromise(f"it shows nothing: {error}") from None
    lines = [
        f"promised     the hub signed at {utc(promise.at)}: {promise.nid} is in the log by {utc(promise.by)}",
        f"signed       the log signed {stated.size} leaves, root {stated.root.hex()[:16]}…",
    ]
    if len(leaves) != stated.size or root_of(leaves) != stated.root:
        raise NotAPromise("it shows nothing: the leaves do not lead to the root that the log signed")
    index = _find(promise, leaves)
    if index is not None:
        return State.KEPT, [*lines, f"left out     no: it is leaf {index}"]
    lines.append(
        "left out     the leaves lead to that root and the receipt is none of them — false only if SHA-256 is broken"
    )
    after = [f"{name} at {utc(moment)}" for name, moment in cosigned if moment > promise.by]
    if after:
        lines.append(f"after        cosigned by {', '.join(after)} — false only if they collude against the hub")
        return State.BROKEN, lines
    when = utc(fetched) if fetched else "a time that it does not tell"
    lines.append(
        f"after        not shown: the file says that it was fetched at {when}, and no trusted witness signed then"
    )
    return State.UNKNOWN, lines


# --- read strictly -------------------------------------------------------------------------------


def _object(data: bytes, format_: str, names: set[str], limit: int) -> dict[str, Any]:
    try:
        value = decode(data, max_bytes=limit)
    except NotCanonical as error:
        raise NotAPromise(f"{error.where}: {error.rule}") from None
    if not isinstance(value, dict) or value.get("format") != format_ or set(value) != names:
        raise NotAPromise(f"a JSON object of the format {format_} with {', '.join(sorted(names))} is due")
    return value


def _promised(value: Any, *, job_id: str = "", url: str = "") -> Promised:
    if not isinstance(value, dict) or set(value) != {"claim", "sig"} or not isinstance(value["claim"], str):
        raise NotAPromise("a promise has claim and sig")
    if not isinstance(value["sig"], dict):
        raise NotAPromise("the promise's sig is an object")
    try:
        told = read_claim(value["claim"], PROMISE)
    except (ClaimBroken, NotCanonical) as error:
        raise NotAPromise(f"the promise's claim: {error}") from None
    return Promised(
        value["claim"], value["sig"], told["log"], told["nid"], read_utc(told["at"]), read_utc(told["by"]), job_id, url
    )


def _require_hub(promise: Promised, trust: Trust) -> None:
    """Insist that a hub key of the trust file signed the promise, about its log. Raises: SignatureBroken."""
    signer = verify_text(promise.claim, promise.sig)
    if signer not in {key.key_id for key in trust.holding("hub")}:
        raise SignatureBroken(f"signed by {signer}, which is no hub key of the trust file")
    if promise.log != trust.origin:
        raise SignatureBroken(f"is about the log {promise.log[:100]}, the trust file's is {trust.origin}")


def _signed_checkpoint(text: str, trust: Trust) -> Checkpoint:
    """Read a checkpoint that one of the log's keys signed. Raises: Unknown."""
    try:
        note = parse_note(text)
        stated = parse_checkpoint(note.text)
        names = {item.key_hash for item in note.signatures if item.name == trust.origin}
        signing = [vkey for vkey in trust.log_vkeys if vkey.key_hash in names]
        if not signing or stated.origin != trust.origin:
            raise NoteBroken("no key of the trust file's log signed it")
        check_note(note, signing[0])
    except NoteBroken as error:
        raise Unknown(f"the checkpoint is not the log's: {error}") from None
    return stated


def _cosigned(text: str, trust: Trust) -> tuple[tuple[str, dt.datetime], ...]:
    """Tell which trusted witnesses cosigned, and when; lines that do not hold are passed over."""
    note, found = parse_note(text), []
    for vkey in trust.witnesses:
        try:
            found.append((vkey.name, dt.datetime.fromtimestamp(check_cosignature(note, vkey), dt.UTC)))
        except (NoteBroken, OverflowError, ValueError):
            continue
    return tuple(found)


def _find(promise: Promised, leaves: tuple[bytes, ...]) -> int | None:
    wanted = leaf_hash(encode({"eventType": "JobSubmitted", "nid": promise.nid, "v": 1}))
    try:
        return leaves.index(wanted)
    except ValueError:
        return None


def _in_time(promise: Promised, seen: Seen) -> str:
    """Say what shows that the leaf was there in time."""
    early = [f"{name} cosigned it at {utc(moment)}" for name, moment in seen.cosigned if moment <= promise.by]
    if early:
        return f"{early[0]}, promised by {utc(promise.by)}"
    if seen.at <= promise.by:
        return f"seen before {utc(promise.by)}, as promised"
    return f"promised by {utc(promise.by)}; that it was there by then is not shown"


def _leaves(data: bytes) -> tuple[bytes, ...]:
    if len(data) % HASH_SIZE:
        raise Unknown(f"leaf hashes have {HASH_SIZE} bytes each, these are {len(data)}")
    return tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))
