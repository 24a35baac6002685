"""Keep how far an audit came, and what it saw last, so that a killed one goes on and a rewritten log is found.

The file is the auditor's own and replaced whole. It is only written while nothing is broken: what was found broken
is found again by the next run.
"""

import base64
import binascii
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobs.client.auditing.walk import Walk
from receipts.canonical import MAX_SAFE_INTEGER, NotCanonical, decode
from receipts.durable import write_durably
from receipts.merkle import HASH_SIZE
from receipts.tiles import WIDTH

FORMAT: Final = "tallystick-audit/1"
MAX_STATE_BYTES: Final = 4 * 1024 * 1024
_MOST_LEVELS: Final = 8


class NotAState(ValueError):
    """This is no state of an audit, or of another log's."""


@dataclass(frozen=True, slots=True)
class Audited:
    """A checkpoint that was audited to its end: what later ones must extend."""

    size: int
    root: bytes
    note: str


@dataclass(slots=True)
class Gone:
    """How far the receipts of one file were held against the log and judged."""

    file: str = ""  # which file this is about: its size and time of change
    offset: int = 0
    last_leaf: int = -1
    bucket: int = 0  # of the groups, how many buckets were judged
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class State:
    """What an audit keeps: how far the walk came, how far the receipts, and the last audited checkpoint."""

    origin: str
    audited: Audited | None = None
    walk: Walk = field(default_factory=Walk)
    gone: Gone = field(default_factory=Gone)


def write_state(path: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    walk, gone = state.walk, state.gone
    value: dict[str, Any] = {
        "format": FORMAT,
        "log": state.origin,
        "walk": {"size": walk.size, "levels": [_b64(b"".join(row)) for row in walk.levels]},
        "receipts": {
            "file": gone.file,
            "offset": gone.offset,
            "last_leaf": gone.last_leaf,
            "bucket": gone.bucket,
            "counts": dict(gone.counts),
        },
    }
    if state.audited:
        audited = state.audited
        value["audited"] = {"size": audited.size, "root": _b64(audited.root), "note": audited.note}
    write_durably(path, (json.dumps(value, sort_keys=True) + "\n").encode())


def read_state(data: bytes, origin: str) -> State:
    """Read a state, of this log. Raises: NotAState."""
    try:
        value = decode(data, max_bytes=MAX_STATE_BYTES)
    except NotCanonical as error:
        raise NotAState(f"no state of an audit: {error}") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise NotAState(f"no state of an audit: its format is not {FORMAT}")
    if not {"format", "log", "walk", "receipts"} <= value.keys() <= {"format", "log", "walk", "receipts", "audited"}:
        raise NotAState("a state has format, log, walk, receipts and perhaps audited")
    if value["log"] != origin:
        raise NotAState(f"the state is of the log {str(value['log'])[:100]!r}, not of {origin!r}")
    audited = _fields(value["audited"], "audited", size=int, root=str, note=str) if "audited" in value else None
    walk = _fields(value["walk"], "walk", size=int, levels=list)
    gone = _fields(value["receipts"], "receipts", file=str, offset=int, last_leaf=int, bucket=int, counts=dict)
    counts = gone["counts"]
    if not all(_is_natural(count) for count in counts.values()):
        raise NotAState("receipts.counts: are whole numbers")
    return State(
        origin,
        Audited(audited["size"], _unb64("audited.root", audited["root"], HASH_SIZE), audited["note"])
        if audited
        else None,
        _walk(walk),
        Gone(gone["file"], gone["offset"], gone["last_leaf"], gone["bucket"], Counter(counts)),
    )


def _walk(value: dict[str, Any]) -> Walk:
    """Read how far the walk came; the open tiles must be those of its size."""
    size, levels = value["size"], value["levels"]
    if size % WIDTH or len(levels) > _MOST_LEVELS:
        raise NotAState("walk: ends behind a full bundle and has at most 8 levels")
    rows: list[list[bytes]] = []
    rest = size // WIDTH
    for index, text in enumerate(levels):
        data = _unb64(f"walk.levels[{index}]", text, rest % WIDTH * HASH_SIZE)
        rows.append([data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])
        rest //= WIDTH
    if rest:
        raise NotAState(f"walk.levels: too few for {size} leaves")
    return Walk(size, rows)


def _fields(value: Any, where: str, **kinds: type) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        raise NotAState(f"{where}: has {', '.join(kinds)}")
    for name, kind in kinds.items():
        if not isinstance(value[name], kind) or (kind is int and not _is_natural(value[name], least=-1)):
            raise NotAState(f"{where}.{name}: is of the wrong type")
    return value


def _is_natural(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_SAFE_INTEGER


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(where: str, text: Any, size: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise NotAState(f"{where}: is not base64") from None
    if len(data) != size:
        raise NotAState(f"{where}: has {len(data)} bytes where {size} are due")
    return data
