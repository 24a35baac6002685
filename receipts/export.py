"""Write receipts for auditors: exact bytes or a table, and beside them what proves that the log holds them.

Reads by bundle, in the order of the leaves, so that memory stays the same however long the log is. Everything goes
into a draft folder that is renamed when it is whole: a crash leaves a dot folder, never half an export.
"""

import csv
import datetime as dt
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from django.db.models import Max, Min, Q

from receipts.api.tlog import published_tile
from receipts.canonical import utc
from receipts.durable import fsync_folder
from receipts.events import EVENTS, About
from receipts.exported import (
    LOG,
    PROOFS,
    RECEIPTS,
    Line,
    ProofLine,
    write_checkpoint_line,
    write_line,
    write_proof_line,
)
from receipts.log import read_tile
from receipts.merkle import inclusion_proof
from receipts.models import Bundle, Checkpoint, Receipt
from receipts.tiles import Tile, reader, tiles_between

Form = Literal["jsonl", "csv"]

CSV_COLUMNS: Final = (
    "leaf",
    "nid",
    "eventType",
    "tenant",
    "subject",
    "attempt",
    "seq",
    "occurredAt",
    "origin",
    "withheld",
    "bytes",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class ExportRefused(Exception):
    """Nothing was exported; the message says what is due instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which receipts: all that is given must fit. `since` counts from, `until` before; leaves from, to before."""

    tenant: str | None = None
    job: str | None = None
    event_type: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    leaf_from: int | None = None
    leaf_to: int | None = None

    @property
    def everything(self) -> bool:
        """Tell whether nothing is left out."""
        return self == Wanted()


@dataclass(slots=True)
class Counts:
    """What an export holds, and of which size of the log."""

    size: int
    receipts: int = 0
    redacted: int = 0
    erased: int = 0
    proofs: int = 0
    tiles: int = 0
    waiting: int = 0  # fit, but no checkpoint covers them yet


def export(*, out: Path, form: Form, wanted: Wanted, redact: bool = False) -> Counts:
    """Write an export to the folder `out`, which must not be there yet.

    The whole log comes with its tiles, so that an audit computes everything anew; a part of it with one inclusion
    proof for each receipt. All are of the newest checkpoint.

    Raises: ExportRefused.
    """
    if out.exists():
        raise ExportRefused(f"{out} is there already: an export is written once, name another folder")
    checkpoint = Checkpoint.objects.order_by("-size").first()
    if checkpoint is None:
        raise ExportRefused("no checkpoint was published yet: there is nothing that could be proved")
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ExportRefused(f"{draft.parent} can't be written: {error.strerror}") from None
    try:
        counts = Counts(checkpoint.size)
        _write_receipts(draft, form, wanted, redact, checkpoint, counts)
        if wanted.everything:
            _write_log(draft / LOG, checkpoint, counts)
        fsync_folder(draft)
        draft.rename(out)
    except OSError as error:
        raise ExportRefused(f"{out} can't be written: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    fsync_folder(out.parent)
    return counts


def neutral(cell: object) -> str:
    """Write a cell so that no spreadsheet takes it for a formula: an apostrophe before = + - @, TAB and CR."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _write_receipts(
    folder: Path, form: Form, wanted: Wanted, redact: bool, checkpoint: Checkpoint, counts: Counts
) -> None:
    proofs = None if wanted.everything else (folder / PROOFS).open("wb")
    with (folder / (RECEIPTS if form == "jsonl" else "receipts.csv")).open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)  # RFC 4180: CRLF, quotes where a cell needs them
        if form == "csv":
            table.writerow(CSV_COLUMNS)
        if proofs:
            proofs.write(write_checkpoint_line(checkpoint.note))
        for batch in _batches(wanted, checkpoint.size, counts):
            # One reader a batch: it keeps each tile that it reads, and batches are neighbours.
            read = reader(read_tile, checkpoint.size)
            for leaf, receipt in batch:
                line = _line(leaf, receipt, redact)
                counts.receipts += 1
                counts.redacted += line.withheld == "redacted"
                counts.erased += line.withheld == "erased"
                if form == "jsonl":
                    lines.write(write_line(line).decode())
                else:
                    table.writerow(map(neutral, _row(line, receipt)))
                if proofs:
                    counts.proofs += 1
                    path = inclusion_proof(read, leaf, checkpoint.size)
                    proofs.write(write_proof_line(ProofLine(leaf, tuple(path))))
        _close(lines)
    if proofs:
        with proofs:
            _close(proofs)


def _close(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _batches(wanted: Wanted, size: int, counts: Counts) -> Iterator[list[tuple[int, Receipt]]]:
    """Give the receipts that fit, bundle by bundle, in the order of their leaves."""
    fitting = Receipt.objects.filter(_fits(wanted)).order_by()
    ends = fitting.aggregate(first=Min("id"), last=Max("id"))
    if ends["first"] is None:
        return
    low, high = max(0, wanted.leaf_from or 0), size if wanted.leaf_to is None else min(size, wanted.leaf_to)
    bundles = Bundle.objects.filter(
        first_leaf__lt=high, lowest_receipt__lte=ends["last"], highest_receipt__gte=ends["first"]
    ).order_by("first_leaf")
    for bundle in bundles.only("first_leaf", "count", "receipt_ids").iterator(chunk_size=64):
        if bundle.first_leaf + bundle.count <= low:
            continue
        places = {
            receipt_id: bundle.first_leaf + offset
            for offset, receipt_id in enumerate(bundle.receipt_ids)
            if low <= bundle.first_leaf + offset < high
        }
        found = [(places[row.id], row) for row in fitting.filter(id__in=list(places))]
        yield sorted(found, key=lambda pair: pair[0])
    counts.waiting = fitting.filter(pending__isnull=False).count()


def _fits(wanted: Wanted) -> Q:
    fits = Q()
    for name, value in (
        ("tenant_id", wanted.tenant),
        ("subject", wanted.job),
        ("event_type", wanted.event_type),
        ("occurred_at__gte", wanted.since),
        ("occurred_at__lt", wanted.until),
    ):
        if value is not None:
            fits &= Q(**{name: value})
    return fits


def _line(leaf: int, receipt: Receipt, redact: bool) -> Line:
    body = bytes(receipt.body or b"")
    if not body:
        return Line(leaf, receipt.nid, None, receipt.event_type, "erased")
    known = EVENTS.get(receipt.event_type)
    if redact and (known is None or known.about is not About.PUBLIC):
        return Line(leaf, receipt.nid, None, receipt.event_type, "redacted")
    return Line(leaf, receipt.nid, body)


def _row(line: Line, receipt: Receipt) -> tuple[object, ...]:
    if line.withheld:
        empty = (None,) * 6
        return (line.leaf, line.nid, line.event_type, *empty, line.withheld, None)
    assert line.body is not None
    return (
        line.leaf,
        line.nid,
        receipt.event_type,
        receipt.tenant_id,
        receipt.subject,
        receipt.attempt,
        receipt.seq,
        utc(receipt.occurred_at),
        receipt.origin,
        None,
        line.body.decode(errors="backslashreplace"),
    )


def _write_log(folder: Path, checkpoint: Checkpoint, counts: Counts) -> None:
    """Lay the log out as it is published, at the size of this checkpoint."""
    for tile in tiles_between(0, checkpoint.size):
        _put(folder / tile.path(), _tile(tile))
        counts.tiles += 1
    _put(folder / "checkpoint", checkpoint.note.encode())


def _tile(tile: Tile) -> bytes:
    data = published_tile(tile)
    if data is None:
        raise ExportRefused(f"{tile.path()} is missing on disk: the log can't be exported whole")
    return data


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
