"""Bring a log back: its files from the database, or its database from a copy of its files.

`rebuild_files`: tiles and the published checkpoint are made anew from the bundles, never from what lies on disk, and
only after every signed checkpoint's root was found in the bundles again.

`replay`: a database that was restored from an older copy has lost leaves that were published. They come back where
both the log's files and the receipts' bytes were kept elsewhere: the same receipts at the same leaves, under the
same root. What stood in the jobs' and tokens' tables does not come back with them.

All rows come back in one transaction, files after it, each whole: killed at any line, running it again goes on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from receipts import log as ledger
from receipts.canonical import MAX_RECEIPT_BYTES, NotCanonical, decode_canonical, nid, read_utc
from receipts.check import width_due, widths_on_disk
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.checkpoint import NoteBroken, open_checkpoint
from receipts.durable import write_durably
from receipts.events import EVENTS, About
from receipts.exported import LOG, RECEIPTS, LineBroken, read_line
from receipts.log import BATCH, LogError, LogForked, known_vkeys, log_head
from receipts.merkle import Frontier, leaf_hash
from receipts.models import Bundle, Checkpoint, LogHead, Receipt, Tenant
from receipts.record import NewRow, copy_rows, database_now, idempotency_key
from receipts.tiles import WIDTH, Growing, Tile, TilePathWrong, decode_bundle, encode_bundle

PAGE: Final = 64


class BundlesDisagree(LogError):
    """The bundles don't lead to a root that was signed: files made from them would be false. Try again: no."""


class CopyUnusable(LogError):
    """The copy does not bring back what was lost; the message says what is missing. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A file that was made anew, and what was wrong with it."""

    path: str
    was: str

    def __str__(self) -> str:
        return f"{self.path}: {self.was}, made anew"


@dataclass(frozen=True, slots=True)
class Lost:
    """What a restored database lacks: leaves from `start` until before `end`, by the published checkpoint."""

    start: int
    end: int

    def __str__(self) -> str:
        return (
            f"{self.end} leaves are published, the database holds {self.start}: leaves {self.start} to {self.end - 1}"
            " are missing, this database was restored from an older copy"
        )


# --- what is missing -----------------------------------------------------------------------------------


def lost_leaves() -> Lost | None:
    """Tell what was published and is not in the database; None where nothing is missing.

    A published file that is damaged tells nothing here: it is made anew.
    """
    head, told = log_head(), _published_size()
    if told is None or told.size <= head.size:
        return None
    return Lost(head.size, told.size)


def _published_size() -> SignedSize | None:
    try:
        note = (Path(settings.TLOG_DIR) / "checkpoint").read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    return _opened(note)


def _opened(note: str) -> SignedSize | None:
    """Open a note under whichever of the log's keys signed it; None where none of them did."""
    for vkey in known_vkeys(log_head()):
        try:
            return open_checkpoint(note, vkey)
        except NoteBroken:
            continue
    return None


# --- files from the database -------------------------------------------------------------------------------


def rebuild_files(*, dry_run: bool = False) -> Iterator[Repair]:
    """Make every tile that is missing or damaged anew, then the published checkpoint.

    Raises: BundlesDisagree, LogForked, LogIsOlder; no file was touched then.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # No checkpoint is published meanwhile; leaves may be given.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ledger.PUBLISHER_LOCK])
        head, newest = log_head(), Checkpoint.objects.order_by("-size").first()
        if newest is None:
            return
        _require_same_history(newest)
        _require_signed_roots(head)
        growing = Growing()
        for entry in _entries(head.size):
            for tile, rows in growing.add(entry, leaf_hash(entry)):
                yield from _rebuilt(tile, rows, newest.size, dry_run=dry_run)
        for tile, rows in growing.rest():
            yield from _rebuilt(tile, rows, newest.size, dry_run=dry_run)
        # Last, as when it is published: whoever reads the checkpoint finds the tiles.
        yield from _rebuilt_checkpoint(newest, dry_run=dry_run)


def _require_same_history(newest: Checkpoint) -> None:
    """Refuse where the published file was signed by this log, and not by this database."""
    told = _published_size()
    if told is None:
        return
    if told.size > newest.size:
        raise ledger.LogIsOlder(str(Lost(newest.size, told.size)))
    if not Checkpoint.objects.filter(size=told.size, root=told.root).exists():
        raise LogForked(f"the published root of {told.size} leaves, {told.root.hex()}, was never signed here")


def _require_signed_roots(head: LogHead) -> None:
    """Derive every signed root from the bundles again, before a file is touched."""
    frontier = Frontier()
    rows = _checkpoints()
    row = next(rows, None)
    for entry in _entries(head.size):
        frontier.append(leaf_hash(entry))
        while row is not None and row.size == frontier.size:
            told = _opened(row.note)
            root = frontier.root()
            if told is None or (told.size, told.root) != (row.size, root) or bytes(row.root) != root:
                raise BundlesDisagree(
                    f"at {row.size} leaves the bundles give {root.hex()}, the signed checkpoint"
                    f" {told.root.hex() if told else 'is not signed by this log'}"
                )
            row = next(rows, None)
    if row is not None:
        raise BundlesDisagree(f"the bundles end at {frontier.size} leaves, a checkpoint of {row.size} was signed")
    if b"".join(frontier.hashes) != bytes(head.frontier):
        raise BundlesDisagree(f"at {head.size} leaves the bundles give another frontier than the head")


def _checkpoints() -> Iterator[Checkpoint]:
    """Read all checkpoints by size, a page at a time."""
    size = -1
    while page := list(Checkpoint.objects.filter(size__gt=size).order_by("size")[:500]):
        yield from page
        size = page[-1].size


def _entries(end: int) -> Iterator[bytes]:
    """Read all leaf entries from the bundles, a page at a time. Raises: BundlesDisagree, at a gap."""
    at, key = 0, -1
    while page := list(Bundle.objects.filter(first_leaf__gt=key, first_leaf__lt=end).order_by("first_leaf")[:PAGE]):
        for bundle in page:
            if bundle.first_leaf != at:
                raise BundlesDisagree(f"leaf {at} is in no bundle: the next one begins at {bundle.first_leaf}")
            try:
                entries = decode_bundle(bytes(bundle.entries))
            except TilePathWrong as error:
                raise BundlesDisagree(f"the bundle of leaf {at} can't be read: {error}") from None
            at += len(entries)
            yield from entries
        key = page[-1].first_leaf
    if at != end:
        raise BundlesDisagree(f"the bundles end at {at} leaves, the head says {end}")


def _rebuilt(tile: Tile, rows: Sequence[bytes | None], published: int, *, dry_run: bool) -> Iterator[Repair]:
    whole = [row for row in rows if row is not None]
    here = widths_on_disk(tile)
    due = width_due(tile, published)
    if due > 0 and due not in here and WIDTH not in here:
        here.append(due)
    for width in here:
        if width > len(whole):
            continue  # of leaves that were never signed: the next checkpoint writes it
        one = Tile(tile.level, tile.index, width)
        data = encode_bundle(whole[:width]) if tile.level is None else b"".join(whole[:width])
        yield from _written(ledger.tile_path(one), one.path(), data, dry_run=dry_run)


def _rebuilt_checkpoint(newest: Checkpoint, *, dry_run: bool) -> Iterator[Repair]:
    path = Path(settings.TLOG_DIR) / "checkpoint"
    told = _published_size()
    if told is not None and told.size == newest.size:
        return  # what witnesses added to it stays
    if path.exists() and told is None and not dry_run:
        # It may be evidence of what happened: kept under the name of its content.
        damaged = path.read_bytes()
        aside = path.with_name(f"checkpoint.damaged.{hashlib.sha256(damaged).hexdigest()[:16]}")
        write_durably(aside, damaged)
    yield from _written(path, "checkpoint", newest.note.encode(), dry_run=dry_run)


def _written(path: Path, name: str, data: bytes, *, dry_run: bool) -> Iterator[Repair]:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = None
    if found == data:
        return
    if not dry_run:
        write_durably(path, data)
    yield Repair(name, "missing" if found is None else "damaged")


# --- the database from a copy --------------------------------------------------------------------------------


def replay(folder: Path) -> Lost | None:
    """Give lost receipts back their rows and leaves, from a folder with the log's files and `receipts.jsonl`.

    The folder is an export of the whole log, or a copy of `/tlog/` with that file beside it; one line of it is a line
    of an export, or a receipt's exact bytes. None where nothing is lost.

    Raises: CopyUnusable; nothing was changed then.
    """
    lost = lost_leaves()
    if lost is None:
        return None
    files = folder / LOG if (folder / LOG).is_dir() else folder
    note, told = _copied_checkpoint(files, lost)
    with transaction.atomic(), connection.cursor() as cursor:
        # Nobody sequences or publishes meanwhile; the head's compare-and-swap stays the fence.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s), pg_advisory_xact_lock(%s)",
            [ledger.SEQUENCER_LOCK, ledger.PUBLISHER_LOCK],
        )
        head = log_head()
        entries = _copied_entries(files, head.size, told.size)
        frontier = Frontier.read(head.size, bytes(head.frontier))
        for entry in entries:
            frontier.append(leaf_hash(entry))
        if frontier.root() != told.root:
            raise CopyUnusable(
                f"the database's {head.size} leaves and the copy's up to {told.size} lead to {frontier.root().hex()},"
                f" published is {told.root.hex()}: the copy, or the database, is of another history"
            )
        ids = _receipts_of(entries, folder, head.size)
        for start in range(0, len(entries), BATCH):
            part = ids[start : start + BATCH]
            Bundle.objects.create(
                first_leaf=head.size + start,
                count=len(part),
                receipt_ids=part,
                lowest_receipt=min(part),
                highest_receipt=max(part),
                entries=encode_bundle(entries[start : start + BATCH]),
                sequenced_at=database_now(),
            )
        cursor.execute("DELETE FROM receipts_pending WHERE receipt_id = ANY(%s)", [ids])
        if not LogHead.objects.filter(id=1, size=head.size).update(
            size=frontier.size, frontier=b"".join(frontier.hashes)
        ):
            raise ledger.SequencerFenced(f"the head left {head.size} leaves while lost ones were put back")
        Checkpoint.objects.create(size=told.size, root=told.root, note=note, signed_at=database_now())
        # Point of no return: the leaves are back; a crash here leaves files for `rebuild_files`.
    return Lost(head.size, told.size)


def _copied_checkpoint(files: Path, lost: Lost) -> tuple[str, SignedSize]:
    try:
        note = (files / "checkpoint").read_bytes().decode(errors="replace")
    except OSError as error:
        raise CopyUnusable(f"{files / 'checkpoint'} can't be read: {error.strerror}") from None
    told = _opened(note)
    if told is None:
        raise CopyUnusable(f"{files / 'checkpoint'} is not signed by this log's key")
    published = _published_size()
    if told.size < lost.end:
        raise CopyUnusable(f"the copy ends at {told.size} leaves, {lost.end} are published")
    if published is not None and told.size == published.size and told.root != published.root:
        raise CopyUnusable(f"two roots were signed for {told.size} leaves: {told.root.hex()}, {published.root.hex()}")
    # Only the log's own word becomes a row; what witnesses added to the file is theirs.
    text, _, lines = note.partition("\n\n")
    own = [line for line in lines.splitlines(keepends=True) if _opened(f"{text}\n\n{line}") is not None]
    return f"{text}\n\n{own[0]}", told


def _copied_entries(files: Path, start: int, end: int) -> list[bytes]:
    """Read the entries of leaves [start, end) from the copy's bundles. What they say is checked by the root."""
    found: list[bytes] = []
    for index in range(start // WIDTH, -(-end // WIDTH)):
        width = min(WIDTH, end - index * WIDTH)
        whole, partial = files / Tile(None, index).path(), files / Tile(None, index, width).path()
        try:
            entries = decode_bundle((whole if whole.is_file() else partial).read_bytes())
        except (OSError, TilePathWrong) as error:
            raise CopyUnusable(f"{Tile(None, index, width).path()} of the copy can't be read: {error}") from None
        if len(entries) < width:
            raise CopyUnusable(f"{Tile(None, index, width).path()} of the copy holds {len(entries)} entries")
        found += entries[max(0, start - index * WIDTH) : width]
    return found


def _receipts_of(entries: Sequence[bytes], folder: Path, first: int) -> list[int]:
    """Find or put back the receipt of every entry; give their ids in the order of the leaves."""
    names = [decode_canonical(entry)["nid"] for entry in entries]
    known = dict(Receipt.objects.filter(nid__in=names).values_list("nid", "id"))
    missing = [name for name in names if name not in known]
    bodies = _copied_bodies(folder, set(missing)) if missing else {}
    unknown = [at for at, name in enumerate(names, start=first) if name not in known and name not in bodies]
    if unknown:
        raise CopyUnusable(
            f"the bytes of {len(unknown)} lost receipts are neither in the database nor in {folder / RECEIPTS},"
            f" the first at leaf {unknown[0]}"
        )
    rows = [_row(bodies[name]) for name in missing]
    for tenant in sorted({row.tenant_id for row in rows if row.tenant_id is not None}):
        Tenant.objects.get_or_create(id=tenant, defaults={"name": tenant})
    try:
        with transaction.atomic():
            copy_rows(rows, pending=False)
    except IntegrityError as error:
        raise CopyUnusable(f"receipts that were written since stand in the lost ones' places: {error}") from None
    known |= dict(Receipt.objects.filter(nid__in=missing).values_list("nid", "id"))
    return [known[name] for name in names]


def _copied_bodies(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read those receipts of `receipts.jsonl` that are wanted; their NID is computed, never believed."""
    found: dict[str, bytes] = {}
    try:
        with (folder / RECEIPTS).open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                body = _copied_body(raw.rstrip(b"\n"), f"{folder / RECEIPTS}, line {number}")
                if body is not None and (name := nid(body)) in wanted:
                    found[name] = body
    except FileNotFoundError:
        return found
    return found


def _copied_body(line: bytes, where: str) -> bytes | None:
    try:
        return read_line(line).body
    except LineBroken as error:
        if len(line) <= MAX_RECEIPT_BYTES and line.startswith(b"{") and b'"eventType"' in line:
            return line  # a receipt as it is
        raise CopyUnusable(f"{where}: {error}") from None


def _row(body: bytes) -> NewRow:
    """Read the columns of a receipt out of its bytes."""
    try:
        value = decode_canonical(body)
        about = EVENTS[value["eventType"]].about
        subject = value["jobId"] if about is About.JOB else value["subject"]
        attempt, n = _attempt_and_n(value, subject, about)
        return NewRow(
            nid=nid(body),
            tenant_id=value.get("tenant"),
            subject=subject,
            event_type=value["eventType"],
            attempt=attempt,
            n=n,
            seq=value["seq"],
            origin=value.get("origin", ""),
            occurred_at=read_utc(value["occurredAt"]),
            body=body,
            first_nid=value.get("nid"),
        )
    except (NotCanonical, KeyError, TypeError, ValueError) as error:
        raise CopyUnusable(f"the lost receipt {nid(body)} can't be read: {error}") from None


def _attempt_and_n(value: dict[str, Any], subject: str, about: About) -> tuple[int, int]:
    """Read attempt and n; an affair of the house names its attempt in the idempotency key alone, from 2 on."""
    stem = idempotency_key(value["eventType"], subject, 0, 0, about)
    parts = [int(part) for part in value["idempotencyKey"].removeprefix(stem).split("-")[1:]]
    n = parts[1] if len(parts) == 2 else 0
    attempt = value["attempt"] if about is About.JOB else parts[0] if parts and parts[0] > 1 else 0
    if idempotency_key(value["eventType"], subject, attempt, n, about) != value["idempotencyKey"]:
        raise NotCanonical("idempotencyKey", "does not fit the receipt")
    return attempt, n
