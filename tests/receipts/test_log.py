"""The log: leaves in order, one checkpoint at a time, whole after every crash, and never two histories."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from receipts import log
from receipts.canonical import decode_canonical, nid_digest
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.checkpoint import log_nid, make_vkey, open_checkpoint, sign_note
from receipts.keys import ed25519_signer, make_key_file
from receipts.log import (
    BATCH,
    ClockWentBack,
    LogForked,
    LogIsOlder,
    LogNotFounded,
    RootDisagrees,
    SequencerFenced,
    Turn,
    found_log,
    inclusion,
    leaf_index,
    leaf_indices,
    publish,
    receipt_at,
    sequence,
    turn,
)
from receipts.merkle import Frontier, check_consistency, check_inclusion, consistency_proof, leaf_hash
from receipts.models import Bundle, Checkpoint, LogHead, Pending, Receipt, Tenant
from receipts.tiles import WIDTH, Tile, decode_bundle, parse_tile_path, reader, tiles_between
from tests.receipts.test_merkle import plain_root, reading
from tests.receipts.test_record import at_once, queries, write

ORIGIN = "log.example/ada"
THREADS = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def house(tmp_path: Path, settings: Any, db: None) -> LogHead:
    """A founded log with its key and an empty folder of tiles; a checkpoint is due at once."""
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.KEYS_DIR = tmp_path / "keys"
    settings.CHECKPOINT_SECONDS = 0
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    return found_log(ORIGIN)


def receipts(count: int) -> None:
    """Write that many receipts of one house affair."""
    for _ in range(count):
        write("ReputationChanged", subject="provider-bo", tenant_id=None, attempt=0, n=Receipt.objects.count() + 1)


def many_receipts(count: int) -> None:
    """Write many receipts as one statement would: rows and pending leaves, without the ceremony of each."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH made AS (INSERT INTO receipts_receipt"
            " (nid, subject, event_type, attempt, n, seq, origin, occurred_at, body)"
            " SELECT 'bafkrei' || rpad(translate(md5(i::text || clock_timestamp()::text), '0189', 'ghij'), 52, 'a'),"
            " 'many-' || i || clock_timestamp(), 'Census', 0, 0, 1, '', now(), '{}'"
            " FROM generate_series(1, %s) AS i RETURNING id)"
            " INSERT INTO receipts_pending SELECT id FROM made",
            [count],
        )


def leaves() -> list[bytes]:
    """The leaf hashes that the receipts in the order of their leaves must have: computed from receipts alone."""
    ids = [receipt_id for bundle in Bundle.objects.order_by("first_leaf") for receipt_id in bundle.receipt_ids]
    rows = Receipt.objects.in_bulk(ids)
    return [
        leaf_hash(f'{{"eventType":"{rows[one].event_type}","nid":"{rows[one].nid}","v":1}}'.encode()) for one in ids
    ]


def published(settings: Any) -> SignedSize:
    """The checkpoint as anyone reads it, checked under the log's key."""
    return open_checkpoint((settings.TLOG_DIR / "checkpoint").read_text(), log.current_vkey())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def require_whole(settings: Any) -> None:
    """Check all that must hold of a log at rest: one leaf a receipt, rows and files agree, every byte recomputed."""
    hashes = leaves()
    head = log.log_head()
    assert head.size == len(hashes) == Receipt.objects.count() - Pending.objects.count()
    at = 0
    for bundle in Bundle.objects.order_by("first_leaf"):
        assert (bundle.first_leaf, bundle.count) == (at, len(bundle.receipt_ids))
        assert [leaf_hash(entry) for entry in decode_bundle(bytes(bundle.entries))] == hashes[at : at + bundle.count]
        at += bundle.count
    assert len({one for bundle in Bundle.objects.all() for one in bundle.receipt_ids}) == at
    newest = Checkpoint.objects.order_by("-size").first()
    if newest is None:
        assert not (Path(settings.TLOG_DIR) / "checkpoint").exists()
        return
    told = published(settings)
    assert (told.origin, told.size, told.root) == (ORIGIN, newest.size, bytes(newest.root))
    for row in Checkpoint.objects.all():
        assert bytes(row.root) == plain_root(hashes[: row.size])
        proof = consistency_proof(reading(hashes), row.size, told.size)
        check_consistency(row.size, bytes(row.root), told.size, told.root, proof)
    for tile in tiles_between(0, told.size):
        data = (Path(settings.TLOG_DIR) / tile.path()).read_bytes()
        if tile.level is None:
            rows = decode_bundle(data)
            assert [leaf_hash(entry) for entry in rows] == hashes[tile.index * WIDTH :][: tile.width]
        else:
            span = WIDTH**tile.level
            first = tile.index * WIDTH
            assert data == b"".join(
                plain_root(hashes[i * span : (i + 1) * span]) for i in range(first, first + tile.width)
            )


# --- the ordinary turn --------------------------------------------------------------------------------


def test_a_turn_gives_every_receipt_a_leaf_and_publishes_the_root(settings: Any) -> None:
    receipts(5)
    assert turn() == Turn(sequenced=5, published=5)
    assert not Pending.objects.exists()
    require_whole(settings)


def test_leaves_are_in_the_order_in_which_receipts_were_written(settings: Any) -> None:
    receipts(3)
    turn()
    receipts(3)
    turn()
    ids = [leaf_index(receipt_id) for receipt_id in Receipt.objects.order_by("id").values_list("id", flat=True)]
    assert ids == [0, 1, 2, 3, 4, 5]


def test_an_idle_turn_does_nothing(settings: Any) -> None:
    assert turn() == Turn(0, None)
    receipts(1)
    turn()
    before = files(settings.TLOG_DIR)
    assert turn() == Turn(0, None)
    assert files(settings.TLOG_DIR) == before
    assert Checkpoint.objects.count() == 1


def test_the_log_holds_nids_and_types_and_nothing_else(settings: Any) -> None:
    write()
    turn()
    entry = decode_bundle((settings.TLOG_DIR / "tile/entries/000.p/1").read_bytes())[0]
    assert decode_canonical(entry) == {"eventType": "JobSubmitted", "nid": Receipt.objects.get().nid, "v": 1}


def test_every_leaf_is_proven_from_the_published_files_alone(settings: Any) -> None:
    receipts(7)
    turn()
    told = published(settings)
    for receipt in Receipt.objects.all():
        index = leaf_index(receipt.pk)
        assert index is not None
        leaf = leaf_hash(log.leaf_entry(receipt.nid, receipt.event_type))
        check_inclusion(leaf, index, told.size, inclusion(index, told.size), told.root)
        assert receipt_at(index) == receipt


def test_a_pending_receipt_has_no_leaf_and_no_leaf_means_no_receipt(settings: Any) -> None:
    receipts(2)
    first, second = Receipt.objects.order_by("id")
    sequence(limit=1)
    assert leaf_indices([first.pk, second.pk]) == {first.pk: 0}
    assert leaf_index(second.pk) is None
    assert receipt_at(1) is None
    assert receipt_at(0) == first


def test_a_checkpoint_comes_at_most_once_in_its_time(settings: Any) -> None:
    settings.CHECKPOINT_SECONDS = 3600
    receipts(1)
    assert turn().published == 1
    receipts(1)
    assert turn() == Turn(1, None)
    settings.CHECKPOINT_SECONDS = 0
    assert turn() == Turn(0, 2)
    require_whole(settings)


def test_the_log_grows_over_full_tiles(settings: Any) -> None:
    for more in (1, 254, 1, 1, 300, 211, 2):
        many_receipts(more)
        turn()
    assert log.log_head().size == 770
    require_whole(settings)
    paths = {path for path in files(settings.TLOG_DIR) if path != "checkpoint"}
    assert {"tile/0/000", "tile/0/001", "tile/0/002", "tile/1/000.p/3", "tile/entries/002"} <= paths
    for path in paths:
        assert parse_tile_path(path).path() == path


def test_a_flood_is_sequenced_in_batches(settings: Any) -> None:
    many_receipts(2 * BATCH + 10)
    assert turn() == Turn(2 * BATCH + 10, 2 * BATCH + 10)
    assert list(Bundle.objects.values_list("first_leaf", "count")) == [(0, BATCH), (BATCH, BATCH), (2 * BATCH, 10)]
    require_whole(settings)


def test_a_batch_costs_the_same_few_queries_however_large(settings: Any) -> None:
    counts = []
    for more in (1, 200):
        many_receipts(more)
        with queries() as seen:
            assert sequence() == more
        counts.append(len([sql for sql in seen if "SAVEPOINT" not in sql]))
    assert counts[0] == counts[1] <= 6


def test_the_log_is_founded_once_and_named_for_good(settings: Any) -> None:
    vkey = str(make_vkey(ORIGIN, ed25519_signer("log", settings.KEYS_DIR).public))
    again = found_log("another.example/log")
    assert (again.origin, again.first_vkey, again.nid) == (ORIGIN, vkey, log_nid(ORIGIN, vkey))
    assert len(nid_digest(again.nid)) == 32


def test_without_a_founded_log_nothing_is_sequenced() -> None:
    receipts(1)
    LogHead.objects.all().delete()
    with pytest.raises(LogNotFounded):
        turn()
    assert Pending.objects.count() == 1


# --- crashes -------------------------------------------------------------------------------------------


class Crash(Exception):
    """The process dies here."""


def dies(target: str, *, on_call: int = 1, after: bool = False) -> Callable[[pytest.MonkeyPatch], None]:
    """Make a function of the log die on its n-th call, before or after it has done its work."""

    def arm(monkeypatch: pytest.MonkeyPatch) -> None:
        owner: Any = log
        *path, name = target.split(".")
        for part in path:
            owner = getattr(owner, part)
        works, calls = getattr(owner, name), iter(range(1, 10_000))

        def deadly(*args: Any, **kwargs: Any) -> Any:
            now = next(calls) == on_call
            if now and not after:
                raise Crash(target)
            done = works(*args, **kwargs)
            if now:
                raise Crash(target)
            return done

        monkeypatch.setattr(owner, name, deadly)

    return arm


# Where it dies -> how many checkpoints and how many leaves are there afterwards, of 3 before and 300 new receipts.
CRASHES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int, int]] = {
    "before the first row of the batch": (dies("leaf_entry"), 1, 3),
    "between two leaves of the batch": (dies("Frontier.append", on_call=7), 1, 3),
    "before the bundle is written": (dies("Bundle.objects.create"), 1, 3),
    "after the bundle, before the commit": (dies("Bundle.objects.create", after=True), 1, 3),
    "between two batches": (dies("sequence", on_call=2), 1, 259),
    "sequenced, not published": (dies("publish"), 1, 303),
    "before the first tile": (dies("integrate"), 1, 303),
    "while the first tile is written": (dies("write_durably"), 1, 303),
    "between two tiles": (dies("write_durably", on_call=3), 1, 303),
    "after the last tile": (dies("integrate", after=True), 1, 303),
    "before the root is read back": (dies("root_on_disk"), 1, 303),
    "before the checkpoint is signed": (dies("sign_note"), 1, 303),
    "after the checkpoint is signed, before its row": (dies("Checkpoint.objects.create"), 1, 303),
    "after the row, before its commit": (dies("Checkpoint.objects.create", after=True), 1, 303),
    "after the commit, before the file": (dies("_publish_file"), 2, 303),
    "after the file": (dies("_publish_file", after=True), 2, 303),
}


@pytest.mark.parametrize(("arm", "checkpoints", "size"), CRASHES.values(), ids=CRASHES.keys())
def test_a_crash_anywhere_is_made_good_by_the_next_turn(
    arm: Callable[[pytest.MonkeyPatch], None],
    checkpoints: int,
    size: int,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receipts(3)
    turn()
    first = published(settings)
    many_receipts(300)
    with monkeypatch.context() as patch:
        arm(patch)
        with pytest.raises(Crash):
            turn()
    # Nothing is half done: what was published still stands, and every receipt is either pending or a leaf.
    assert Checkpoint.objects.count() == checkpoints
    assert log.log_head().size == size
    assert Receipt.objects.count() == size + Pending.objects.count()
    assert published(settings).size in (first.size, 303)
    turn()
    assert published(settings).size == 303
    assert Checkpoint.objects.filter(size=first.size, root=first.root).exists()
    require_whole(settings)


def test_a_crash_followed_by_growth_leaves_no_second_history(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size that was integrated but never signed is skipped; its partial tiles stay and harm nobody."""
    receipts(3)
    turn()
    many_receipts(10)
    with monkeypatch.context() as patch:
        dies("sign_note")(patch)
        with pytest.raises(Crash):
            turn()
    many_receipts(10)
    turn()
    assert list(Checkpoint.objects.values_list("size", flat=True)) == [3, 23]
    require_whole(settings)


def test_a_checkpoint_file_that_fell_behind_follows_the_row(settings: Any) -> None:
    receipts(2)
    turn()
    old = (settings.TLOG_DIR / "checkpoint").read_text()
    receipts(2)
    turn()
    (settings.TLOG_DIR / "checkpoint").write_text(old)
    turn()
    assert published(settings).size == 4
    (settings.TLOG_DIR / "checkpoint").unlink()
    turn()
    assert published(settings).size == 4


# --- two sequencers -------------------------------------------------------------------------------------


@contextmanager
def past_the_advisory_lock(at: str = "", meet: threading.Barrier | None = None) -> Iterator[None]:
    """Give this thread every advisory lock, and let it wait for the other one after the statement `at`."""

    def run(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        text = str(sql).replace("pg_try_advisory_xact_lock(%s)", "(%s IS NOT NULL)")
        done = execute(text, params, many, context)
        if meet is not None and at and at in text:
            meet.wait(timeout=10)
        return done

    with connection.execute_wrapper(run):
        yield


@THREADS
def test_of_two_sequencers_on_one_head_one_is_fenced_and_leaves_nothing(settings: Any) -> None:
    """The advisory lock only saves work: without it, both read the same head, and one of them must lose."""
    receipts(5)
    meet = threading.Barrier(2)

    def race() -> int:
        with past_the_advisory_lock("FROM receipts_pending p", meet):
            return sequence()

    outcomes = at_once(race, race)
    assert sorted(map(repr, outcomes))[0] == "5", outcomes
    assert sum(isinstance(outcome, SequencerFenced) for outcome in outcomes) == 1, outcomes
    turn()
    assert log.log_head().size == 5
    require_whole(settings)


def test_a_sequencer_that_read_an_older_head_is_fenced(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts(2)
    stale = log.log_head()
    sequence()
    receipts(2)
    with monkeypatch.context() as patch:
        patch.setattr(log, "log_head", lambda: stale)
        with pytest.raises(SequencerFenced):
            sequence()
    assert Pending.objects.count() == 2
    turn()
    require_whole(settings)


@THREADS
def test_while_one_sequences_the_other_does_nothing(settings: Any) -> None:
    receipts(2)
    with transaction.atomic():
        assert sequence() == 2
        (outcome,) = at_once(sequence)
        assert outcome == 0
    turn()
    require_whole(settings)


@THREADS
def test_writers_and_sequencers_at_once_lose_no_receipt(settings: Any) -> None:
    def writer(name: str) -> Callable[[], None]:
        def run() -> None:
            for n in range(1, 16):
                write("ReputationChanged", subject=name, tenant_id=None, attempt=0, n=n)

        return run

    def sequencer() -> None:
        for _ in range(30):
            turn()

    outcomes = at_once(writer("provider-a"), writer("provider-b"), writer("provider-c"), sequencer, sequencer)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    turn()
    assert log.log_head().size == 45
    require_whole(settings)


# --- what is not signed ----------------------------------------------------------------------------------


@contextmanager
def as_a_restore_would() -> Iterator[Any]:
    """Change evidence past its guards, as putting back an older copy of the database does."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")


def restore(size: int) -> None:
    """Put the database back to how it was at `size` leaves; the published files stay."""
    hashes = leaves()[:size]
    frontier = Frontier()
    for item in hashes:
        frontier.append(item)
    with as_a_restore_would() as cursor:
        cursor.execute("DELETE FROM receipts_checkpoint WHERE size > %s", [size])
        cursor.execute("DELETE FROM receipts_bundle WHERE first_leaf >= %s", [size])
        cursor.execute("UPDATE receipts_loghead SET size = %s, frontier = %s", [size, b"".join(frontier.hashes)])


def test_a_restored_older_database_may_not_append(settings: Any) -> None:
    receipts(3)
    turn()
    receipts(3)
    turn()
    before = files(settings.TLOG_DIR)
    restore(3)
    receipts(1)
    with pytest.raises(LogIsOlder, match="has 6 leaves, the database's newest 3"):
        turn()
    assert files(settings.TLOG_DIR) == before
    assert Checkpoint.objects.count() == 1
    assert log.log_head().size == 3, "no leaf was given either: another history must not even begin"
    assert Pending.objects.count() == 1


def test_an_emptied_database_may_not_append(settings: Any) -> None:
    receipts(3)
    turn()
    restore(0)
    receipts(1)
    with pytest.raises(LogIsOlder):
        turn()


def test_another_history_of_the_same_size_is_refused(settings: Any) -> None:
    """The folder holds what was published; a row of that size with another root means two histories."""
    receipts(3)
    turn()
    signer = ed25519_signer("log", settings.KEYS_DIR)
    forked = sign_note(SignedSize(ORIGIN, 3, bytes(32)).text(), ORIGIN, signer, signer.public)
    (settings.TLOG_DIR / "checkpoint").write_text(forked)
    receipts(1)
    with pytest.raises(LogForked):
        turn()
    assert Checkpoint.objects.count() == 1


def test_a_published_file_of_another_history_behind_us_is_refused(settings: Any) -> None:
    receipts(3)
    turn()
    receipts(3)
    turn()
    signer = ed25519_signer("log", settings.KEYS_DIR)
    forked = sign_note(SignedSize(ORIGIN, 3, bytes(32)).text(), ORIGIN, signer, signer.public)
    (settings.TLOG_DIR / "checkpoint").write_text(forked)
    receipts(1)
    with pytest.raises(LogForked):
        turn()
    assert Checkpoint.objects.count() == 2


def test_a_published_file_that_is_no_checkpoint_of_ours_stops_the_log(settings: Any) -> None:
    receipts(1)
    turn()
    (settings.TLOG_DIR / "checkpoint").write_text("rubbish\n")
    receipts(1)
    with pytest.raises(LogForked):
        turn()
    assert Checkpoint.objects.count() == 1


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a tile is changed": lambda folder: (folder / "tile/0/001.p/44").write_bytes(bytes(44 * 32)),
    "a tile is cut": lambda folder: (folder / "tile/0/001.p/44").write_bytes(bytes(32)),
    "a tile is gone": lambda folder: (folder / "tile/0/001.p/44").unlink(),
    "the tile above is changed": lambda folder: (folder / "tile/1/000.p/1").write_bytes(bytes(32)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_nothing_is_signed_over_tiles_that_disagree(
    damage: Callable[[Path], object], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root is computed a second way, from the tiles as they lie on disk."""
    many_receipts(300)
    integrate = log.integrate

    def damaged(old: int, new: int) -> None:
        integrate(old, new)
        damage(settings.TLOG_DIR)

    with monkeypatch.context() as patch:
        patch.setattr(log, "integrate", damaged)
        with pytest.raises(RootDisagrees):
            turn()
    assert not Checkpoint.objects.exists()
    assert not (settings.TLOG_DIR / "checkpoint").exists()
    assert turn().published == 300, "what was damaged before it was signed is written again"
    require_whole(settings)


def test_nothing_is_signed_when_a_bundle_is_missing(settings: Any) -> None:
    receipts(4)
    sequence()
    with as_a_restore_would() as cursor:
        cursor.execute("DELETE FROM receipts_bundle")
    with pytest.raises(RootDisagrees, match="leaf 0 is in no bundle"):
        publish()


def test_nothing_is_signed_when_the_bundles_were_changed(settings: Any) -> None:
    receipts(4)
    sequence()
    with as_a_restore_would() as cursor:
        cursor.execute("UPDATE receipts_bundle SET entries = overlay(entries placing '\\x41'::bytea from 10)")
    with pytest.raises(RootDisagrees):
        publish()
    assert not Checkpoint.objects.exists()


def test_a_clock_that_went_back_signs_nothing(settings: Any) -> None:
    receipts(1)
    turn()
    with as_a_restore_would() as cursor:
        cursor.execute("UPDATE receipts_checkpoint SET signed_at = signed_at + interval '1 hour'")
    receipts(1)
    with pytest.raises(ClockWentBack):
        turn()


def test_another_log_key_than_the_published_one_stops_the_log(settings: Any, tmp_path: Path) -> None:
    receipts(1)
    turn()
    settings.KEYS_DIR = tmp_path / "other-keys"
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    receipts(1)
    with pytest.raises(LogForked):
        turn()


# --- what any client reads --------------------------------------------------------------------------------


def test_any_reader_of_tiles_follows_the_log(settings: Any) -> None:
    """A client that knows the folder and the verifier key alone: root, proofs and growth."""
    many_receipts(270)
    turn()
    old = published(settings)
    many_receipts(260)
    turn()
    new = published(settings)
    hashes = leaves()

    def fetch(tile: Tile) -> bytes:
        return (Path(settings.TLOG_DIR) / tile.path()).read_bytes()

    read = reader(fetch, new.size)
    check_consistency(old.size, old.root, new.size, new.root, consistency_proof(read, old.size, new.size))
    for index in (0, 255, 256, 269, 529):
        check_inclusion(hashes[index], index, new.size, inclusion(index, new.size), new.root)
