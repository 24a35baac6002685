"""Make receipts a log: sequence, integrate, publish, recover.

    pending rows --sequence--> bundle + head     one transaction, fenced by compare-and-swap on the head
    bundles      --integrate-> tiles on disk     derived from bundles alone; writing them twice changes nothing
    tiles        --publish---> checkpoint row, then the file `checkpoint`
    everything   --recover---> the file follows the row, the row never follows the file

A crash between any two of these leaves work that the next `turn` finishes. Nothing is signed before
its root was computed a second way, from the tiles as they were read back from disk.

Source: C2SP tlog-tiles and tlog-checkpoint; the order of writes is learnt from the Sunlight log.
"""

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection, transaction

from receipts.canonical import NotCanonical, encode, unb64url
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.checkpoint import NoteBroken, Vkey, log_nid, make_vkey, open_checkpoint, parse_note, parse_vkey, sign_note
from receipts.durable import write_durably
from receipts.keys import Ed25519Signer, ed25519_signer
from receipts.merkle import HASH_SIZE, Frontier, inclusion_proof, leaf_hash, root_of, subtree_root
from receipts.models import Bundle, Checkpoint, LogHead, PublicKey, Receipt
from receipts.models.witnesses import published_note
from receipts.tiles import WIDTH, Tile, decode_bundle, encode_bundle, reader, tile_hashes, tiles_between

BATCH: Final = 256
SEQUENCER_LOCK: Final = 0x74616C6C79  # "tally": advisory, it only saves work; the head row is the fence
PUBLISHER_LOCK: Final = SEQUENCER_LOCK + 1


class LogError(Exception):
    """The log can't go on as it stands."""


class LogNotFounded(LogError):
    """There is no log yet: `found_house` makes it."""


class SequencerFenced(LogError):
    """Another sequencer moved the head meanwhile; this batch was rolled back. Try again: yes."""


class RootDisagrees(LogError):
    """The tiles on disk lead to another root than the bundles in the database. Nothing was signed. Try again: no."""


class LogIsOlder(LogError):
    """The database is older than the published checkpoint: it was restored, and may not append. Try again: no."""


class LogForked(LogError):
    """What is published is no checkpoint that this database signed: another history, or another key. Try again: no."""


class LogKeyEnded(LogError):
    """The log's key at hand is none that counts for the next checkpoint: `manage.py keys settle`. Try again: then."""


class ClockWentBack(LogError):
    """The database's clock is behind the newest checkpoint. Try again: when it has caught up."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of the log did."""

    sequenced: int
    published: int | None  # the size of the new checkpoint


def found_log(origin: str) -> LogHead:
    """Make the log's head once; its NID names it for good, whatever keys it signs with later."""
    signer = ed25519_signer("log", settings.KEYS_DIR)
    vkey = str(make_vkey(origin, signer.public))
    head, _ = LogHead.objects.get_or_create(
        id=1, defaults={"origin": origin, "first_vkey": vkey, "nid": log_nid(origin, vkey)}
    )
    return head


def log_head() -> LogHead:
    """Read the head. Raises: LogNotFounded."""
    head = LogHead.objects.filter(id=1).first()
    if head is None:
        raise LogNotFounded("the log has not been founded")
    return head


def turn() -> Turn:
    """Sequence what is pending, then publish a checkpoint if one is due.

    Raises: LogError.
    """
    require_one_history()  # before a leaf is given: another history must not even begin
    sequenced = 0
    while (count := sequence()) > 0:
        sequenced += count
        if count < BATCH:
            break
    return Turn(sequenced, publish())


# --- sequence ------------------------------------------------------------------------------------


def leaf_entry(nid: str, event_type: str) -> bytes:
    """Write the entry of one leaf: the log holds NIDs and types, nothing else."""
    return encode({"eventType": event_type, "nid": nid, "v": 1})


def sequence(limit: int = BATCH) -> int:
    """Give leaf indices to at most `limit` pending receipts, in one durable transaction.

    Raises: SequencerFenced, when another sequencer was faster; nothing is left behind.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [SEQUENCER_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(
            "SELECT p.receipt_id, r.nid, r.event_type, clock_timestamp() FROM receipts_pending p"
            " JOIN receipts_receipt r ON r.id = p.receipt_id ORDER BY p.receipt_id LIMIT %s",
            [limit],
        )
        rows = cursor.fetchall()
        if not rows:
            return 0
        head = log_head()
        ids = [row[0] for row in rows]
        entries = [leaf_entry(row[1], row[2]) for row in rows]
        frontier = Frontier.read(head.size, bytes(head.frontier))
        for entry in entries:
            frontier.append(leaf_hash(entry))
        # The fence comes first: of two that read one head, the second waits here and then finds it moved.
        if not LogHead.objects.filter(id=1, size=head.size).update(
            size=frontier.size, frontier=b"".join(frontier.hashes)
        ):
            raise SequencerFenced(f"the head left {head.size} leaves while {len(ids)} were being added")
        Bundle.objects.create(
            first_leaf=head.size,
            count=len(rows),
            receipt_ids=ids,
            lowest_receipt=min(ids),
            highest_receipt=max(ids),
            entries=encode_bundle(entries),
            sequenced_at=rows[-1][3],
        )
        cursor.execute("DELETE FROM receipts_pending WHERE receipt_id = ANY(%s)", [ids])
        if cursor.rowcount != len(ids):
            raise SequencerFenced(f"{len(ids) - cursor.rowcount} of {len(ids)} receipts have leaves already")
        # Point of no return: with this commit the leaves have their places for good.
        return len(ids)


# --- integrate -----------------------------------------------------------------------------------


def tile_path(tile: Tile) -> Path:
    """Where a tile lies on disk."""
    return Path(settings.TLOG_DIR) / tile.path()


def integrate(old: int, new: int) -> None:
    """Write the tiles that lie between two sizes, lower levels first. Repeating it writes the same bytes."""
    if old == new:
        return
    entries = _entries(old // WIDTH * WIDTH, new)
    first = old // WIDTH * WIDTH
    for tile in tiles_between(old, new):
        if tile.level is None or tile.level == 0:
            rows = entries[tile.index * WIDTH - first :][: tile.width]
            data = encode_bundle(rows) if tile.level is None else b"".join(map(leaf_hash, rows))
        else:
            below = range(tile.index * WIDTH, tile.index * WIDTH + tile.width)
            data = b"".join(root_of(tile_hashes(read_tile(Tile(tile.level - 1, index)))) for index in below)
        write_durably(tile_path(tile), data)


def _entries(start: int, end: int) -> list[bytes]:
    """Read leaf entries [start, end) from the bundles that hold them."""
    found: list[bytes] = []
    at = start
    rows = Bundle.objects.filter(first_leaf__gt=start - BATCH, first_leaf__lt=end).order_by("first_leaf")
    for bundle in rows.only("first_leaf", "count", "entries"):
        if bundle.first_leaf + bundle.count <= at:
            continue
        entries = decode_bundle(bytes(bundle.entries))
        if bundle.first_leaf > at or len(entries) != bundle.count:
            break
        found += entries[at - bundle.first_leaf : end - bundle.first_leaf]
        at = min(end, bundle.first_leaf + bundle.count)
    if at != end:
        raise RootDisagrees(f"leaf {at} is in no bundle, though the head says that there are {end}")
    return found


# --- publish -------------------------------------------------------------------------------------


def publish() -> int | None:
    """Sign and publish a checkpoint if the log grew and the last one is old enough; give its size.

    Raises: RootDisagrees, LogIsOlder, LogForked, LogKeyEnded, ClockWentBack. Nothing is signed then.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s), clock_timestamp()", [PUBLISHER_LOCK])
        mine, now = cursor.fetchone()
        if not mine:
            return None
        last = require_one_history()
        if last is not None:
            _follow_witnesses(last)
        head = log_head()
        if head.size == (last.size if last else 0):
            return None
        if last is not None:
            if now < last.signed_at:
                raise ClockWentBack(f"the database's clock says {now}, the newest checkpoint {last.signed_at}")
            if now - last.signed_at < dt.timedelta(seconds=settings.CHECKPOINT_SECONDS):
                return None
        signer = _signer_for(head)
        if signer is None:
            return None
        integrate(last.size if last else 0, head.size)
        root = Frontier.read(head.size, bytes(head.frontier)).root()
        again = root_on_disk(head.size)
        if root != again:
            raise RootDisagrees(f"at {head.size} leaves the bundles give {root.hex()}, the tiles {again.hex()}")
        note = sign_note(SignedSize(head.origin, head.size, root).text(), head.origin, signer, signer.public)
        Checkpoint.objects.create(size=head.size, root=root, note=note, signed_at=now)
    # A crash here leaves the row without the file; the next turn writes the file.
    _publish_file(note)
    return head.size


def require_one_history() -> Checkpoint | None:
    """Hold what is published against the rows, bring a file that fell behind up to date, give the newest row.

    Raises: LogIsOlder, LogForked.
    """
    path = Path(settings.TLOG_DIR) / "checkpoint"
    # The file is read before the row: a publisher commits its row first, so the row is never the older one.
    note = path.read_text(errors="replace") if path.exists() else None
    last = Checkpoint.objects.order_by("-size").first()
    if not note and last is None:
        return None
    told = _open_own(note or (last.note if last else ""))
    if last is None or told.size > last.size:
        raise LogIsOlder(
            f"the published checkpoint has {told.size} leaves, the database's newest {last.size if last else 0}: "
            "this database was restored from an older copy"
        )
    if not Checkpoint.objects.filter(size=told.size, root=told.root).exists():
        raise LogForked(f"the published root of {told.size} leaves, {told.root.hex()}, was never signed here")
    if not note or told.size < last.size:
        _publish_file(published_note(last))  # a crash fell between the row and the file: the row counts
    return last


def _open_own(note: str) -> SignedSize:
    """Open a checkpoint under whichever of the log's keys signed it: rotating a key is no fork.

    An ended key counts for sizes up to its last leaf. Beyond, it may have been revoked after it signed: then the
    note must be, to the byte, one that this database committed.
    """
    log_keys = _log_keys()
    try:
        signed_by = {item.key_hash for item in parse_note(note).signatures}
        for vkey, until_leaf in log_keys:
            if vkey.key_hash in signed_by:
                told = open_checkpoint(note, vkey)
                if until_leaf is None or told.size <= until_leaf:
                    return told
                if any(note.startswith(row.note) for row in Checkpoint.objects.filter(size=told.size)):
                    return told
                raise LogForked(
                    f"the published checkpoint of {told.size} is signed by a key that ended at {until_leaf}"
                )
        raise NoteBroken(f"not signed by {' or '.join(str(vkey) for vkey, _ in log_keys)}")
    except NoteBroken as error:
        raise LogForked(f"the published checkpoint is not this log's: {error}") from None


def _log_keys() -> list[tuple[Vkey, int | None]]:
    """Every key that this log signs or signed with, and the leaf at which it ended."""
    origin = log_head().origin
    rows = PublicKey.objects.filter(role=PublicKey.Role.LOG).order_by("-id").values_list("key_id", "until_leaf")
    found: list[tuple[Vkey, int | None]] = [
        (make_vkey(origin, unb64url(key_id, size=32)), until_leaf) for key_id, until_leaf in rows
    ]
    # A log signs from its founding on, a moment before its key is registered.
    return found or [(current_vkey(), None)]


def known_vkeys(head: LogHead) -> list[Vkey]:
    """List the keys that may have signed this log's checkpoints: its first, and those that were rotated in."""
    found: list[Vkey] = []
    with suppress(NoteBroken):  # a key that can't be read has signed nothing
        found.append(parse_vkey(head.first_vkey))
    for key in PublicKey.objects.filter(role=PublicKey.Role.LOG, alg=PublicKey.Alg.ED25519).order_by("id"):
        with suppress(NotCanonical):
            found.append(make_vkey(head.origin, unb64url(key.key_id, size=32)))
    return found


def _signer_for(head: LogHead) -> Ed25519Signer | None:
    """Load the key that signs the checkpoint of this head; None where it has to wait for its first leaf.

    Who follows signs nothing before its own KeyRotated is in the log: a checkpoint up to there is the old key's to
    sign, and no checkpoint needs both.
    Raises: LogKeyEnded.
    """
    signer = ed25519_signer("log", settings.KEYS_DIR)
    rows = {row.key_id: row for row in PublicKey.objects.filter(role=PublicKey.Role.LOG)}
    if not rows:
        return signer
    row = rows.get(signer.key_id)
    if row is None or (row.until_leaf is not None and head.size > row.until_leaf):
        ended = "is none of the log's" if row is None else f"ended at leaf {row.until_leaf}"
        raise LogKeyEnded(f"the log's key at hand, {signer.key_id}, {ended}: nothing is signed at {head.size} leaves")
    return signer if row.since_leaf < head.size else None


def root_on_disk(size: int) -> bytes:
    """Compute the root of the first `size` leaves from the tiles as they lie on disk."""
    return subtree_root(reader(read_tile, size), 0, size)


def read_tile(tile: Tile) -> bytes:
    """Read a tile's hashes from disk: the full tile where it has replaced the partial one.

    Raises: RootDisagrees, when neither is there, or it is cut short.
    """
    size = tile.width * HASH_SIZE
    for candidate in (tile, Tile(tile.level, tile.index)):
        try:
            data = tile_path(candidate).read_bytes()[:size]
        except FileNotFoundError:
            continue
        if len(data) < size:
            raise RootDisagrees(f"{candidate.path()} has {len(data)} bytes on disk, {size} are due")
        return data
    raise RootDisagrees(f"{tile.path()} is missing on disk")


def _follow_witnesses(last: Checkpoint) -> None:
    """Put the cosignatures that came since under the published checkpoint. Where they are stored is the database."""
    note, path = published_note(last), Path(settings.TLOG_DIR) / "checkpoint"
    if path.read_text(errors="replace") != note:
        _publish_file(note)


def _publish_file(note: str) -> None:
    write_durably(Path(settings.TLOG_DIR) / "checkpoint", note.encode())


def current_vkey() -> Vkey:
    """Give the verifier key that the log signs with now."""
    return make_vkey(log_head().origin, ed25519_signer("log", settings.KEYS_DIR).public)


# --- prove ---------------------------------------------------------------------------------------


def leaf_index(receipt_id: int) -> int | None:
    """Find a receipt's leaf by its bundle's range; None while it is pending."""
    return leaf_indices([receipt_id]).get(receipt_id)


def leaf_indices(receipt_ids: list[int]) -> dict[int, int]:
    """Find the leaves of several receipts in one query; pending ones are left out."""
    if not receipt_ids:
        return {}
    wanted = set(receipt_ids)
    found: dict[int, int] = {}
    bundles = Bundle.objects.filter(lowest_receipt__lte=max(wanted), highest_receipt__gte=min(wanted))
    for first, ids in bundles.values_list("first_leaf", "receipt_ids"):
        for offset, receipt_id in enumerate(ids):
            if receipt_id in wanted:
                found[receipt_id] = first + offset
    return found


def receipt_at(leaf: int) -> Receipt | None:
    """Find the receipt of a leaf."""
    bundle = Bundle.objects.filter(first_leaf__lte=leaf).order_by("-first_leaf").first()
    if bundle is None or leaf >= bundle.first_leaf + bundle.count:
        return None
    return Receipt.objects.get(pk=bundle.receipt_ids[leaf - bundle.first_leaf])


def inclusion(index: int, size: int) -> list[bytes]:
    """Prove leaf `index` in the tree of `size` leaves, from the published tiles.

    Raises: ProofBroken, when there is no such leaf; RootDisagrees, when a tile is missing.
    """
    return inclusion_proof(reader(read_tile, size), index, size)
