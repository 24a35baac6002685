"""Derive the log anew from the receipts' bytes, and name every place that says something else.

1. Receipts: bytes lead to the NID, columns say what the bytes say, each links to the one before it.
2. Bundles: contiguous, one leaf a receipt, each entry what its receipt leads to; other receipts are pending.
3. Tree: tiles on disk, full and partial, and the head's frontier, hash by hash.
4. Checkpoints: root, signature, the published file.
5. Anchors: what the commit says, and the signed transactions that carry it.

All rows are of one moment (a snapshot); the file and the folder are read before it, so a log that grows meanwhile
does not look broken. Rows come in pages by key, tiles one at a time: a log of any size needs the same few megabytes,
but for one bit a receipt.

Where receipt and bundle disagree about a leaf, the tree goes on with the one that the tile on disk confirms: one
changed place is told as one difference, not as every later root. What can't be seen: that a checkpoint was ever
signed, when its row is gone and neither the published file nor an anchor names it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from receipts.anchor import commit_data
from receipts.canonical import MAX_RECEIPT_BYTES, NotCanonical, decode_canonical, encode, nid, utc
from receipts.chain.rlp import NotRlp, decode_raw_transaction
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.checkpoint import (
    NoteBroken,
    Vkey,
    check_note,
    log_nid,
    parse_checkpoint,
    parse_note,
)
from receipts.committers.erc7053 import NotCalldata, decode_commit, encode_commit
from receipts.events import EVENTS, About
from receipts.log import LogError, known_vkeys, leaf_entry, log_head, tile_path
from receipts.merkle import HASH_SIZE, Frontier, Hash, leaf_hash
from receipts.models import Bundle, Checkpoint, Commit, TransactionHash
from receipts.record import idempotency_key
from receipts.tiles import (
    HEIGHT,
    WIDTH,
    Growing,
    Tile,
    TilePathWrong,
    decode_bundle,
    encode_bundle,
    parse_tile_path,
)

PAGE: Final = 16  # bundles at a time: at most 4,096 receipts
ROWS: Final = 500
SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that does not say what the rest leads to."""

    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} | {self.where} | {self.expected} | {self.found}"


@dataclass(slots=True)
class Counts:
    """How far a check has come."""

    receipts: int = 0
    leaves: int = 0
    bundles: int = 0
    tiles: int = 0
    checkpoints: int = 0
    anchors: int = 0
    pending: int = 0
    erased: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in asdict(self).items())


class LeafNotPublished(LogError):
    """A check can only begin at a leaf that a checkpoint covers, and whose tiles are there."""


def check_log(
    *, from_leaf: int = 0, counts: Counts | None = None, progress: Callable[[], None] = lambda: None
) -> Iterator[Difference]:
    """Check the whole log, or what came from a leaf on (rounded down to its tile); what lies before is believed then.

    `counts` is kept up to date while it runs; `progress` is called after every page.

    Raises: LogNotFounded, LeafNotPublished.
    """
    yield from _Check(Counts() if counts is None else counts, progress).run(from_leaf)


# --- one check ---------------------------------------------------------------------------------------


class _Check:
    def __init__(self, counts: Counts, progress: Callable[[], None]) -> None:
        self.counts = counts
        self.progress = progress
        self.at = 0  # leaves so far
        self.had = _Bits()  # receipts that have a leaf
        self.whole = True  # False: a leaf is nowhere to be found, and no root can be computed beyond it

    def run(self, from_leaf: int) -> Iterator[Difference]:
        note = _published()
        listed = _highest_tiles()
        with _snapshot():
            self.head = log_head()
            self.vkeys = known_vkeys(self.head)
            self.erased = _erased_nids()
            self.published: int = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
            self.tree = _Tree(self.published, self.counts)
            if from_leaf:
                self._begin_at(from_leaf // WIDTH * WIDTH)
            self.checkpoints = self._checkpoint_rows(self.at)
            self.next = next(self.checkpoints, None)
            yield from self._leaves()
            yield from self._receipts_without_leaf(everything=not from_leaf)
            yield from self._head()
            yield from self.tree.rest()
            yield from self._dangling()
            yield from self._file(note)
        yield from _strays(listed, self.head.size)

    def _begin_at(self, leaf: int) -> None:
        if leaf > self.published:
            raise LeafNotPublished(f"leaf {leaf} is beyond the {self.published} that the newest checkpoint covers")
        self.tree.begin(leaf)
        self.at = leaf

    # 1 and 2. Receipts in the order of their leaves.

    def _leaves(self) -> Iterator[Difference]:
        after = (
            Bundle.objects.filter(first_leaf__lte=self.at).order_by("-first_leaf").values_list("first_leaf", flat=True)
        ).first()
        key = -(2**63) if after is None or not self.at else after - 1
        while page := list(Bundle.objects.filter(first_leaf__gt=key).order_by("first_leaf")[:PAGE]):
            rows = _receipt_rows([one for bundle in page for one in bundle.receipt_ids])
            for bundle in page:
                yield from self._bundle(bundle, rows)
            key = page[-1].first_leaf
            self.progress()

    def _bundle(self, bundle: Bundle, rows: dict[int, "_Row"]) -> Iterator[Difference]:
        where = f"bundle of leaf {bundle.first_leaf}"
        self.counts.bundles += 1
        ids = bundle.receipt_ids
        entries: list[bytes] = []
        try:
            entries = decode_bundle(bytes(bundle.entries))
        except TilePathWrong as error:
            yield Difference("bundle entries", where, f"{len(ids)} entries", str(error))
        # Two of three tell how many leaves there are: count, receipts, entries.
        size = len(entries) if entries and len(entries) == bundle.count else len(ids)
        for what, expected, found in (
            ("bundle count", size, bundle.count),
            ("bundle receipts", size, len(ids)),
            ("bundle entries", size, len(entries) or size),
            ("bundle lowest receipt", min(ids, default=0), bundle.lowest_receipt),
            ("bundle highest receipt", max(ids, default=0), bundle.highest_receipt),
        ):
            if expected != found:
                yield Difference(what, where, str(expected), str(found))
        pairs = _pairs(ids, entries, size, rows)
        skipped = 0
        if not self.counts.leaves and bundle.first_leaf < self.at:
            skipped = self.at - bundle.first_leaf  # a check from a leaf on begins inside of this bundle
        elif bundle.first_leaf != self.at:
            due = f"first leaf {self.at}"
            if entries and self.tree.on_disk(self.at) == leaf_hash(entries[0]):
                yield Difference("bundle first leaf", where, due, str(bundle.first_leaf))
            elif bundle.first_leaf < self.at:
                yield Difference("bundle overlap", where, due, str(bundle.first_leaf))
                for one in ids:
                    self.had.add(one)
                return
            else:
                yield Difference("bundle gap", f"leaf {self.at}", due, where)
                yield from self._fill(bundle.first_leaf)
        for offset, (receipt_id, entry) in enumerate(pairs[skipped:], start=skipped):
            row = rows.get(receipt_id) if receipt_id is not None else None
            yield from self._leaf(receipt_id, row, entry, f"{where}, entry {offset}", readable=bool(entries))

    def _leaf(
        self, receipt_id: int | None, row: "_Row | None", entry: bytes | None, where: str, *, readable: bool
    ) -> Iterator[Difference]:
        place = f"leaf {self.at}, receipt {receipt_id}"
        derived = None
        if receipt_id is not None and self.had.add(receipt_id):
            yield Difference("receipt with two leaves", f"{place}, {where}", "one leaf", "another before it")
        if row is None:
            yield Difference("receipt missing", f"{place}, {where}", _shown(entry), "no row")
        else:
            derived = yield from self._receipt(row, place, entry)
            if row.pending:
                yield Difference("pending", place, "no pending row, as it has a leaf", "a pending row")
        if derived is not None and derived != entry and readable:
            yield Difference("bundle entry", f"{place}, {where}", _shown(derived), _shown(entry))
        yield from self._add([one for one in (derived, entry) if one is not None])

    def _receipt(self, row: "_Row", place: str, entry: bytes | None) -> Generator[Difference, None, bytes]:
        """Check one receipt by itself and in its chain; return the entry that it leads to."""
        self.counts.receipts += 1
        place = f"{place}, {row.subject}"
        told = leaf_entry(row.nid, row.event_type)
        if not row.body and row.nid in self.erased:
            self.counts.erased += 1
            return told
        name = nid(row.body)
        if name != row.nid:
            # The entry knows which of the two was changed.
            if entry is not None and name.encode() in entry:
                yield Difference("receipt NID", place, name, row.nid)
            else:
                yield Difference("receipt bytes", place, row.nid, name)
        try:
            body = _read(row.body)
            wanted = _columns(body, row)
            derived = leaf_entry(name, body["eventType"])
        except (NotCanonical, KeyError, TypeError, AttributeError) as error:
            yield Difference("receipt bytes", place, "a receipt in canonical form", str(error))
            return told
        for column, (expected, found) in wanted.items():
            if expected != found:
                yield Difference(f"receipt {column}", place, _shown(expected), _shown(found))
        yield from _links(row, body, place)
        return told if told == entry else derived

    def _add(self, candidates: Sequence[bytes]) -> Iterator[Difference]:
        """Add the leaf that these entries (of receipt and bundle) tell of; the tile decides where they disagree."""
        hashes = [leaf_hash(one) for one in candidates]
        on_disk = self.tree.on_disk(self.at) if len(set(hashes)) != 1 else None
        if on_disk in hashes or len(set(hashes)) == 1:
            at = hashes.index(on_disk) if on_disk in hashes else 0
            yield from self._grow(candidates[at], hashes[at])
        elif candidates:
            yield from self._grow(candidates[-1], hashes[-1])
        else:
            yield from self._grow(None, on_disk)

    def _fill(self, until: int) -> Iterator[Difference]:
        """Take leaves that no bundle holds from the tiles, so that what comes after can be checked."""
        while self.at < until and self.whole:
            yield from self._add([])
        self.at = max(self.at, until)

    def _grow(self, entry: bytes | None, hash_: Hash | None) -> Iterator[Difference]:
        if hash_ is None and self.whole:
            self.whole = False
            yield Difference("tree", f"leaf {self.at}", "its hash, in a bundle or a tile", "neither")
        self.at += 1
        self.counts.leaves += 1
        if not self.whole or hash_ is None:
            return
        yield from self.tree.add(entry, hash_)
        while self.next is not None and self.next[0].size <= self.at:
            row, anchors = self.next
            self.next = next(self.checkpoints, None)
            yield from self._checkpoint(row, anchors, self.tree.frontier.root() if row.size == self.at else None)

    def _receipts_without_leaf(self, *, everything: bool) -> Iterator[Difference]:
        for ids in _pages("SELECT receipt_id FROM receipts_pending WHERE receipt_id > %s ORDER BY receipt_id LIMIT %s"):
            rows = _receipt_rows(ids)
            self.counts.pending += len(ids)
            for receipt_id in ids:
                place = f"receipt {receipt_id}, pending"
                row = rows.get(receipt_id)
                if row is None:
                    yield Difference("pending", place, "a receipt", "no row")
                elif receipt_id not in self.had:
                    yield from self._receipt(row, place, None)
        if not everything:
            return
        query = "SELECT id FROM receipts_receipt WHERE id > %s ORDER BY id LIMIT %s"
        for ids in _pages(query, size=10_000):
            rest = [one for one in ids if one not in self.had]
            rows = _receipt_rows(rest)
            for receipt_id, row in rows.items():
                if not row.pending:
                    place = f"receipt {receipt_id}, without leaf"
                    yield Difference("receipt without leaf", place, "a leaf, or a pending row", "neither")
                    yield from self._receipt(row, place, None)

    # 3. The head.

    def _head(self) -> Iterator[Difference]:
        head = self.head
        named = log_nid(head.origin, head.first_vkey)
        if head.nid != named:
            yield Difference("head NID", "log head", named, head.nid)
        if head.size != self.at:
            yield Difference("head size", "log head", f"{self.at}, where the bundles end", str(head.size))
        if self.whole and bytes(head.frontier) != b"".join(self.tree.frontier.hashes):
            expected = b"".join(self.tree.frontier.hashes).hex()
            yield Difference("head frontier", f"log head at {head.size}", expected, bytes(head.frontier).hex())
        while self.next is not None:
            row, anchors = self.next
            self.next = next(self.checkpoints, None)
            if self.whole:
                where = f"checkpoint of {row.size}"
                yield Difference("checkpoint size", where, f"at most {self.at} leaves", str(row.size))
            yield from self._checkpoint(row, anchors, None)

    # 4. Checkpoints.

    def _checkpoint_rows(self, after: int) -> Iterator[tuple[Checkpoint, list[Commit]]]:
        while page := list(Checkpoint.objects.filter(size__gt=after).order_by("size")[:ROWS]):
            sizes = [row.size for row in page]
            commits: dict[int | None, list[Commit]] = {}
            anchors = Commit.objects.filter(checkpoint_id__in=sizes).select_related("transaction")
            for commit in anchors.order_by("id"):
                commits.setdefault(commit.checkpoint_id, []).append(commit)
            for row in page:
                yield row, commits.get(row.size, [])
            after = sizes[-1]

    def _checkpoint(self, row: Checkpoint, anchors: list[Commit], root: Hash | None) -> Iterator[Difference]:
        self.counts.checkpoints += 1
        where = f"checkpoint of {row.size}"
        root = root or bytes(row.root)  # where the tree can't tell, row, note and anchor must still agree
        if bytes(row.root) != root:
            yield Difference("checkpoint root", where, root.hex(), bytes(row.root).hex())
        expected = SignedSize(self.head.origin, row.size, root)
        yield from _note(row.note, expected, self.vkeys, where, "checkpoint note")
        for commit in anchors:
            yield from self._anchor(commit, expected)

    def _file(self, note: str | None) -> Iterator[Difference]:
        where = "published file checkpoint"
        newest = Checkpoint.objects.order_by("-size").first()
        if note is None or newest is None:
            if note is not None or newest is not None:
                told = "a file" if newest else "no file, as nothing was signed"
                yield Difference("published checkpoint", where, told, _shown(note or "no file"))
            return
        size = _size_told(note)
        if size is not None and size < newest.size:
            # A publisher's row comes before its file: the file was read between the two, or never written.
            note = _published() or note
            if (_size_told(note) or 0) > newest.size:
                return  # the log grew while it was checked
            size = _size_told(note)
        if size is None:
            yield Difference("published checkpoint", where, f"a note of {newest.size} leaves", _shown(note))
        elif size > newest.size:
            found = f"{size} leaves are published: the database is older, or rows are gone"
            yield Difference("published checkpoint", where, f"{newest.size} leaves", found)
        elif size < newest.size:
            yield Difference("published checkpoint", where, f"{newest.size} leaves", f"{size} leaves")
        else:
            root = self.tree.roots.get(newest.size, bytes(newest.root))
            yield from _note(note, SignedSize(self.head.origin, size, root), self.vkeys, where, "published checkpoint")

    # 5. Anchors.

    def _anchor(self, commit: Commit, of: SignedSize) -> Iterator[Difference]:
        self.counts.anchors += 1
        where = f"anchor of {of.size} (commit {commit.pk})"
        told = commit_data(of, self.head.nid)
        if commit.asset_cid != self.head.nid:
            yield Difference("anchor asset", where, self.head.nid, commit.asset_cid)
        if commit.commit_data != told:
            yield Difference("anchor data", where, told, commit.commit_data)
        key = commit.transaction.key.partition("#")[0]
        if key != f"anchor:{self.head.nid}:{of.size}":
            yield Difference("anchor transaction", where, f"anchor:{self.head.nid}:{of.size}", commit.transaction.key)
        call = encode_commit(self.head.nid, told)
        if bytes(commit.transaction.data) != call:
            found = _call(bytes(commit.transaction.data))
            yield Difference("anchor call", where, _shown(told), found)
        hashes = list(TransactionHash.objects.filter(transaction=commit.transaction).order_by("signed_at", "hash"))
        for sent in hashes:
            yield from _sent(sent, commit, call, f"{where}, transaction {sent.hash}")
        if commit.transaction.hash and commit.transaction.hash not in [sent.hash for sent in hashes]:
            yield Difference("anchor transaction", where, f"signed bytes of {commit.transaction.hash}", "no row")

    def _dangling(self) -> Iterator[Difference]:
        """Find what points to rows that are gone: the database would not let it happen, a restore does."""
        for what, where, expected, query, first in _DANGLING:
            for keys in _pages(query, first=first):
                for key in keys:
                    yield Difference(what, f"{where} {key}", expected, "no row")


_DANGLING: Final[tuple[tuple[str, str, str, str, Any], ...]] = (
    (
        "checkpoint missing",
        "checkpoint of",
        "the row that an anchor names",
        "SELECT c.checkpoint_id FROM receipts_commit c LEFT JOIN receipts_checkpoint p ON p.size = c.checkpoint_id"
        " WHERE p.size IS NULL AND c.checkpoint_id > %s ORDER BY c.checkpoint_id LIMIT %s",
        -(2**63),
    ),
    (
        "anchor missing",
        "transaction",
        "the commit that it carries",
        "SELECT t.key FROM receipts_chaintransaction t LEFT JOIN receipts_commit c ON c.transaction_id = t.id"
        " WHERE t.purpose = 'anchor' AND t.state NOT IN ('replaced', 'failed') AND c.id IS NULL AND t.key > %s"
        " ORDER BY t.key LIMIT %s",
        "",
    ),
    (
        "thread without receipts",
        "thread",
        "a receipt",
        "SELECT t.subject FROM receipts_thread t WHERE t.subject > %s AND NOT EXISTS"
        " (SELECT 1 FROM receipts_receipt r WHERE r.subject = t.subject) ORDER BY t.subject LIMIT %s",
        "",
    ),
)


def _pairs(
    ids: Sequence[int], entries: Sequence[bytes], size: int, rows: dict[int, "_Row"]
) -> list[tuple[int | None, bytes | None]]:
    """Pair receipts with entries: by place, or where one is short of the other, by what they say."""
    if len(ids) == len(entries):
        return list(zip(ids, entries, strict=True))
    told = {leaf_entry(rows[one].nid, rows[one].event_type): one for one in ids if one in rows}
    if len(entries) == size:
        return [(told.get(entry), entry) for entry in entries]
    entry_of = {one: entry for entry, one in told.items() if entry in set(entries)}
    return [(one, entry_of.get(one)) for one in ids]


# --- receipts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A receipt with what stands beside it: the receipt before, whether one follows, its thread, its pending row."""

    id: int
    nid: str
    tenant: str | None
    subject: str
    event_type: str
    attempt: int
    n: int
    seq: int
    origin: str
    occurred_at: Any
    body: bytes
    before: str | None
    followed: bool
    pending: bool
    thread: bool
    first_nid: str
    head_nid: str
    thread_seq: int
    thread_tenant: str | None


def _receipt_rows(ids: Sequence[int]) -> dict[int, _Row]:
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.id, r.nid, r.tenant_id, r.subject, r.event_type, r.attempt, r.n, r.seq, r.origin, r.occurred_at,"
            " r.body, b.nid, a.id IS NOT NULL, p.receipt_id IS NOT NULL, t.subject IS NOT NULL, t.first_nid,"
            " t.head_nid, t.seq, t.tenant_id FROM receipts_receipt r"
            " LEFT JOIN receipts_receipt b ON b.subject = r.subject AND b.seq = r.seq - 1"
            " LEFT JOIN receipts_receipt a ON a.subject = r.subject AND a.seq = r.seq + 1"
            " LEFT JOIN receipts_pending p ON p.receipt_id = r.id"
            " LEFT JOIN receipts_thread t ON t.subject = r.subject WHERE r.id = ANY(%s)",
            [list(ids)],
        )
        return {row[0]: _Row(*row) for row in cursor.fetchall()}


def _read(data: bytes) -> Any:
    """Read a receipt's bytes; the quick way where they are plain text, which is nearly always."""
    # Where the quick reader or writer refuses, the strict reader says why.
    with contextlib.suppress(ValueError, RecursionError):
        if len(data) <= MAX_RECEIPT_BYTES and encode(value := json.loads(data)) == data:
            return value
    return decode_canonical(data)


def _columns(body: dict[str, Any], row: _Row) -> dict[str, tuple[Any, Any]]:
    """Say what each column must hold by the bytes, and what it holds."""
    event = EVENTS.get(body["eventType"])
    job = "jobId" in body
    about = event.about if event else (About.JOB if job else About.HOUSE)
    found: dict[str, tuple[Any, Any]] = {
        "type": (body["eventType"], row.event_type),
        "subject": (body["jobId"] if job else body["subject"], row.subject),
        "seq": (body["seq"], row.seq),
        "time": (body["occurredAt"], utc(row.occurred_at)),
        "origin": (body["origin"] if job else "", row.origin),
        "idempotency key (attempt, n)": (
            body["idempotencyKey"],
            idempotency_key(row.event_type, row.subject, row.attempt, row.n, about),
        ),
    }
    if job:
        found |= {"tenant": (body["tenant"], row.tenant), "attempt": (body["attempt"], row.attempt)}
    return found


def _links(row: _Row, body: dict[str, Any], place: str) -> Iterator[Difference]:
    """Check a receipt's place in its subject's chain."""
    if row.seq > 1 and row.before is None:
        yield Difference("chain gap", place, f"receipt {row.seq - 1} of {row.subject}", "no row")
    elif body.get("prev") != row.before:
        yield Difference("chain link", place, _shown(row.before), _shown(body.get("prev")))
    if not row.thread:
        yield Difference("thread missing", place, f"a thread of {row.subject}", "no row")
        return
    if "nid" in body and body["nid"] != row.first_nid:
        yield Difference("chain first NID", place, row.first_nid, body["nid"])
    if row.seq == 1 and row.first_nid != row.nid:
        yield Difference("thread first NID", place, row.nid, row.first_nid)
    if row.tenant != row.thread_tenant:
        yield Difference("thread tenant", place, _shown(row.tenant), _shown(row.thread_tenant))
    if row.followed:
        return
    if (row.thread_seq, row.head_nid) != (row.seq, row.nid):
        expected, found = f"{row.nid} at {row.seq}", f"{row.head_nid} at {row.thread_seq}"
        yield Difference("thread head", place, expected, found)


def _erased_nids() -> set[str]:
    """Collect the NIDs whose bytes were erased by a logged act."""
    found: set[str] = set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM receipts_receipt WHERE event_type = 'ReceiptErased'")
        for (body,) in cursor.fetchall():
            try:
                found.add(decode_canonical(bytes(body))["data"]["erased"])
            except (NotCanonical, KeyError, TypeError):
                continue  # a broken receipt erases nothing; it is told where its leaf is checked
    return found


class _Bits:
    """A set of receipt ids: one bit each, so that a million cost little."""

    def __init__(self) -> None:
        self.bits = bytearray()
        self.far: set[int] = set()  # ids that no sequence gives: only a changed bundle holds them

    def __contains__(self, value: int) -> bool:
        byte, bit = divmod(value, 8)
        return value in self.far or (0 <= byte < len(self.bits) and bool(self.bits[byte] >> bit & 1))

    def add(self, value: int) -> bool:
        """Add an id; tell whether it was there."""
        there = value in self
        byte, bit = divmod(value, 8)
        if not 0 <= byte <= len(self.bits) + 2**24:
            self.far.add(value)
            return there
        if byte >= len(self.bits):
            self.bits.extend(bytes(byte - len(self.bits) + 4096))
        self.bits[byte] |= 1 << bit
        return there


# --- the tree and its tiles ------------------------------------------------------------------------------


class _Tree:
    """The tree as the leaves lead to it, held against the tiles on disk as each is filled."""

    def __init__(self, published: int, counts: Counts) -> None:
        self.published = published
        self.counts = counts
        self.growing = Growing()
        self.roots: dict[int, Hash] = {}
        self._cached: tuple[int, bytes] | None = None

    @property
    def frontier(self) -> Frontier:
        """The right edge so far."""
        return self.growing.frontier

    def begin(self, leaf: int) -> None:
        """Stand at a leaf that begins a tile, with what the tiles on disk say of the leaves before it.

        Raises: LeafNotPublished, when one of them is not there.
        """
        try:
            self.growing.begin(leaf, widest_on_disk)
        except TilePathWrong as error:
            raise LeafNotPublished(f"the tiles before leaf {leaf} can't be read: {error}") from None

    def add(self, entry: bytes | None, hash_: Hash) -> Iterator[Difference]:
        """Add a leaf; check each tile that it fills."""
        filled = self.growing.add(entry, hash_)
        if self.frontier.size == self.published:
            self.roots[self.published] = self.frontier.root()
        for tile, rows in filled:
            yield from self._check_tile(tile, rows)

    def rest(self) -> Iterator[Difference]:
        """Check the tiles of the right edge."""
        for tile, rows in self.growing.rest():
            yield from self._check_tile(tile, rows)

    def on_disk(self, leaf: int) -> Hash | None:
        """Give a leaf's hash as the tile on disk has it."""
        index, offset = divmod(leaf, WIDTH)
        if self._cached is None or self._cached[0] != index:
            self._cached = index, widest_on_disk(Tile(0, index))
        data = self._cached[1][offset * HASH_SIZE : (offset + 1) * HASH_SIZE]
        return data if len(data) == HASH_SIZE else None

    def _check_tile(self, tile: Tile, rows: Sequence[bytes | None]) -> Iterator[Difference]:
        """Check a tile's file and each of its partial ones; that what was published needs is there."""
        here = widths_on_disk(tile)
        due = width_due(tile, self.published)
        if due > 0 and due not in here and WIDTH not in here:
            missing = Tile(tile.level, tile.index, due).path()
            yield Difference("tile", missing, f"{due} {'entries' if tile.level is None else 'hashes'}", "no file")
        for width in here:
            self.counts.tiles += 1
            if width > len(rows):
                continue  # beyond the head; told where the folder is walked
            one = Tile(tile.level, tile.index, width)
            yield from _compare(one, tile_path(one).read_bytes(), rows[:width])


def _compare(tile: Tile, data: bytes, rows: Sequence[bytes | None]) -> Iterator[Difference]:
    """Hold a tile's bytes against the hashes or entries that are due; None is an entry that nothing tells of."""
    if None not in rows and data == (
        encode_bundle([row for row in rows if row is not None]) if tile.level is None else b"".join(filter(None, rows))
    ):
        return
    if tile.level is None:
        try:
            found = decode_bundle(data)
        except TilePathWrong as error:
            yield Difference("tile", tile.path(), f"{len(rows)} entries", str(error))
            return
    else:
        found = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
    told = "entry" if tile.level is None else "hash"
    if len(found) != len(rows) or (tile.level is not None and len(data) % HASH_SIZE):
        yield Difference("tile", tile.path(), f"{len(rows)} of one {told} each", f"{len(data)} bytes, {len(found)}")
    span = WIDTH ** (tile.level or 0)
    for offset, (expected, one) in enumerate(zip(rows, found, strict=False)):
        if expected is not None and expected != one:
            first = (tile.index * WIDTH + offset) * span
            leaves = f"leaf {first}" if span == 1 else f"leaves {first} to {first + span - 1}"
            shown = (_shown(expected), _shown(one)) if tile.level is None else (expected.hex(), one.hex())
            yield Difference("tile", f"{tile.path()}, {told} {offset} ({leaves})", *shown)


def widest_on_disk(tile: Tile) -> bytes:
    """Read a tile's file, or else its widest partial one; empty where there is none."""
    widths = widths_on_disk(tile)
    return tile_path(Tile(tile.level, tile.index, widths[-1])).read_bytes() if widths else b""


def width_due(tile: Tile, size: int) -> int:
    """Tell how wide a tile is in the log of `size` leaves; 0 or less where it has none."""
    return min(WIDTH, (size >> (HEIGHT * (tile.level or 0))) - tile.index * WIDTH)


def widths_on_disk(tile: Tile) -> list[int]:
    """List the widths in which a tile lies on disk, the full one last."""
    path = tile_path(Tile(tile.level, tile.index))
    folder = path.with_name(path.name + ".p")
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    found = sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))
    return [one for one in found if 0 < one < WIDTH] + ([WIDTH] if path.is_file() else [])


def _highest_tiles() -> list[str]:
    """Walk the folder of tiles: names that are no tile's, and of each level the tile that reaches farthest."""
    strange: list[str] = []
    highest: dict[int | None, Tile] = {}
    root = Path(settings.TLOG_DIR)
    for folder, _, names in os.walk(root / "tile"):
        for name in names:
            if name.startswith("."):
                continue  # a draft that a crash left
            path = str((Path(folder) / name).relative_to(root))
            try:
                tile = parse_tile_path(path)
            except TilePathWrong:
                strange.append(path)
                continue
            known = highest.get(tile.level)
            if known is None or _end(tile) > _end(known):
                highest[tile.level] = tile
    return strange + [tile.path() for tile in highest.values()]


def _end(tile: Tile) -> int:
    return tile.index * WIDTH + tile.width


def _strays(listed: list[str], size: int) -> Iterator[Difference]:
    for path in listed:
        try:
            tile = parse_tile_path(path)
        except TilePathWrong as error:
            yield Difference("tile", path, "the name of a tile", str(error))
            continue
        if _end(tile) > size >> (HEIGHT * (tile.level or 0)):
            yield Difference("tile", path, f"no tile beyond the {size} leaves of the log", "a file")


# --- notes and transactions --------------------------------------------------------------------------------


def _note(text: str, expected: SignedSize, vkeys: list[Vkey], where: str, what: str) -> Iterator[Difference]:
    """Check that a note says what is expected, under one of the log's keys; other signatures are witnesses' affair."""
    try:
        note = parse_note(text)
    except NoteBroken as error:
        yield Difference(what, where, "a signed note", str(error))
        return
    if note.text != expected.text():
        yield Difference(what, where, _shown(expected.text()), _shown(note.text))
    reasons = []
    for vkey in vkeys:
        try:
            check_note(note, vkey)
        except NoteBroken as error:
            reasons.append(str(error))
        else:
            return
    yield Difference(f"{what} signature", where, "a signature of this log's key", reasons[0] if reasons else "no key")


def _sent(sent: TransactionHash, commit: Commit, call: bytes, where: str) -> Iterator[Difference]:
    """Check that signed bytes are the call that the commit tells of, or the empty transfer that freed its nonce."""
    row = commit.transaction
    try:
        raw = decode_raw_transaction(bytes(sent.raw))
    except NotRlp as error:
        yield Difference("anchor raw transaction", where, "a signed transaction", str(error))
        return
    filler = raw.data == b"" and raw.value == 0 and raw.to == row.sender
    for what, expected, found in (
        ("hash", sent.hash, raw.hash),
        ("sender", row.sender, raw.sender),
        ("chain", row.chain_id, raw.chain_id),
        ("nonce", row.nonce, raw.nonce),
        ("register", raw.to if filler else row.to, raw.to),
    ):
        if expected != found:
            yield Difference(f"anchor raw transaction {what}", where, str(expected), str(found))
    if raw.data != call and not filler:
        yield Difference("anchor raw transaction call", where, _call(call), _call(raw.data))


def _call(data: bytes) -> str:
    try:
        return _shown(decode_commit(data).commit_data)
    except NotCalldata as error:
        return f"{data[:8].hex()}…: {error}"


# --- small things ----------------------------------------------------------------------------------------


@contextmanager
def _snapshot() -> Iterator[None]:
    """Read everything as of one moment; inside a caller's transaction, as of that."""
    alone = not connection.in_atomic_block
    with transaction.atomic():
        if alone:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _pages(query: str, *, first: Any = -1, size: int = ROWS) -> Iterator[list[Any]]:
    """Run a query of one column page by page, by that column's value."""
    key = first
    while True:
        with connection.cursor() as cursor:
            cursor.execute(query, [key, size])
            found = [row[0] for row in cursor.fetchall()]
        if not found:
            return
        yield found
        key = found[-1]


def _published() -> str | None:
    path = Path(settings.TLOG_DIR) / "checkpoint"
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None


def _size_told(note: str | None) -> int | None:
    try:
        return parse_checkpoint(parse_note(note or "").text).size
    except NoteBroken:
        return None


def _shown(value: Any) -> str:
    """Show a value on one line, short enough to read."""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    text = "".join(one if one.isprintable() else "\\n" if one == "\n" else "\ufffd" for one in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
