"""Recovering the log: files come back from the rows, lost rows from a copy, and a crash anywhere only delays it."""

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from receipts import log, recover
from receipts.check import check_log
from receipts.durable import write_durably
from receipts.exported import RECEIPTS, Line, write_line
from receipts.log import LogForked, LogIsOlder
from receipts.merkle import Frontier, leaf_hash
from receipts.models import Bundle, Checkpoint, Pending, Receipt, Thread
from receipts.recover import BundlesDisagree, CopyUnusable, Lost, Repair, lost_leaves, rebuild_files, replay
from receipts.tiles import decode_bundle
from tests.receipts import small_log
from tests.receipts.small_log import past_the_guards
from tests.receipts.test_check_mutations import resigned
from tests.receipts.test_log import Crash, files

pytestmark = pytest.mark.django_db
SIZES = (3, 270, 290)


@pytest.fixture
def folder(settings: Any, tmp_path: Path, db: None) -> Path:
    """A log of 290 leaves and five pending receipts; the folder of its files."""
    small_log.found(settings, tmp_path)
    small_log.build(SIZES)
    assert isinstance(settings.TLOG_DIR, Path)
    return settings.TLOG_DIR


def damage_everything(folder: Path) -> None:
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def tell(*arguments: str) -> str:
    out = StringIO()
    call_command("recover_log", *arguments, stdout=out)
    return out.getvalue()


# --- files from the rows -------------------------------------------------------------------------------------


def test_a_whole_log_needs_no_repair(folder: Path) -> None:
    before = files(folder)
    assert list(rebuild_files()) == []
    assert tell() == "0 files made anew\n"
    assert files(folder) == before


def test_every_damaged_file_is_made_anew_to_the_byte(folder: Path) -> None:
    before = files(folder)
    damage_everything(folder)
    assert len(list(check_log())) >= len(before)
    assert {repair.path for repair in rebuild_files()} == set(before)
    aside = {path: data for path, data in files(folder).items() if path.startswith("checkpoint.damaged.")}
    assert files(folder) == before | aside
    assert len(aside) == 1, "a checkpoint that can't be read is kept: it may be evidence"
    assert list(check_log()) == []


def test_a_folder_that_is_gone_comes_back_with_all_that_the_newest_checkpoint_needs(folder: Path) -> None:
    before = files(folder)
    shutil.rmtree(folder)
    told = tell()
    assert "tile/0/000: missing, made anew\n" in told
    assert told.endswith(f"{len(files(folder))} files made anew\n")
    assert files(folder).items() <= before.items()
    assert list(check_log()) == []
    assert log.turn().published == 295, "and the log goes on"


def test_a_dry_run_says_what_is_damaged_and_changes_nothing(folder: Path) -> None:
    damage_everything(folder)
    before = files(folder)
    assert "checkpoint: damaged\n" in tell("--dry-run")
    assert files(folder) == before


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("UPDATE receipts_bundle SET entries = overlay(entries placing '\\x41'::bytea from 40)", "the bundles give"),
        ("DELETE FROM receipts_bundle WHERE first_leaf = 3", "leaf 3 is in no bundle"),
        ("UPDATE receipts_checkpoint SET root = sha256(root) WHERE size = 270", "at 270 leaves the bundles give"),
        ("UPDATE receipts_checkpoint SET note = 'x' WHERE size = 270", "is not signed by this log"),
        ("UPDATE receipts_loghead SET frontier = sha256('x') || substr(frontier, 33)", "another frontier"),
    ],
)
def test_bundles_that_do_not_lead_to_what_was_signed_make_no_file(folder: Path, change: str, rule: str) -> None:
    (folder / "tile/0/000").unlink()
    with past_the_guards() as cursor:
        cursor.execute(change)
    before = files(folder)
    with pytest.raises(BundlesDisagree, match=rule):
        list(rebuild_files())
    with pytest.raises(CommandError, match=rule):
        tell()
    assert files(folder) == before


def test_a_published_checkpoint_of_another_history_is_not_written_over(folder: Path, settings: Any) -> None:
    from receipts.checkpoint import Checkpoint as SignedSize
    from receipts.checkpoint import sign_note
    from receipts.keys import ed25519_signer

    signer = ed25519_signer("log", settings.KEYS_DIR)
    forked = sign_note(SignedSize(small_log.ORIGIN, 290, bytes(32)).text(), small_log.ORIGIN, signer, signer.public)
    (folder / "checkpoint").write_text(forked)
    with pytest.raises(LogForked):
        list(rebuild_files())
    assert (folder / "checkpoint").read_text() == forked


def test_a_checkpoint_under_a_foreign_key_gives_way_to_the_signed_one(folder: Path) -> None:
    import random

    (folder / "checkpoint").write_text(resigned((folder / "checkpoint").read_text(), random.Random(1)))
    assert list(rebuild_files()) == [Repair("checkpoint", "damaged")]
    assert list(check_log()) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_write_is_made_good_by_the_next_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    before = files(folder)
    writes = write_durably
    points = 0
    while True:
        shutil.rmtree(folder)
        calls = iter(range(1000))

        def deadly(path: Path, data: bytes, *, point: int = points, calls: Any = calls) -> None:
            now = next(calls) == point
            if now and not after:
                raise Crash(str(path))
            writes(path, data)
            if now:
                raise Crash(str(path))

        with monkeypatch.context() as patch:
            patch.setattr(recover, "write_durably", deadly)
            try:
                list(rebuild_files())
                break
            except Crash:
                points += 1
        left = files(folder) if folder.exists() else {}
        assert left.items() <= before.items(), "what a crash leaves is whole"
        if "checkpoint" in left:
            assert list(check_log()) == [], "the checkpoint comes last"
        list(rebuild_files())
        assert list(check_log()) == []
    assert points >= 6


# --- rows from a copy -------------------------------------------------------------------------------------------


def restore_older(size: int) -> None:
    """Put the database back to how it was at `size` leaves: later receipts, threads, checkpoints and anchors go."""
    bundles = Bundle.objects.filter(first_leaf__lt=size).order_by("first_leaf")
    kept = [one for bundle in bundles for one in bundle.receipt_ids]
    frontier = Frontier()
    for bundle in bundles:
        for entry in decode_bundle(bytes(bundle.entries)):
            frontier.append(leaf_hash(entry))
    assert frontier.size == len(kept) == size
    with past_the_guards() as cursor:
        cursor.execute("DELETE FROM receipts_commit WHERE checkpoint_id > %s", [size])
        cursor.execute(
            "DELETE FROM receipts_transactionhash"
            " WHERE transaction_id NOT IN (SELECT transaction_id FROM receipts_commit)"
        )
        cursor.execute(
            "DELETE FROM receipts_chaintransaction WHERE id NOT IN (SELECT transaction_id FROM receipts_commit)"
        )
        cursor.execute("DELETE FROM receipts_checkpoint WHERE size > %s", [size])
        cursor.execute("DELETE FROM receipts_bundle WHERE first_leaf >= %s", [size])
        cursor.execute("DELETE FROM receipts_pending")
        cursor.execute("DELETE FROM receipts_receipt WHERE NOT id = ANY(%s)", [kept])
        cursor.execute(
            "DELETE FROM receipts_thread t WHERE NOT EXISTS (SELECT FROM receipts_receipt WHERE subject = t.subject)"
        )
        cursor.execute(
            "UPDATE receipts_thread t SET (head_nid, seq) = (SELECT nid, seq FROM receipts_receipt r"
            " WHERE r.subject = t.subject ORDER BY seq DESC LIMIT 1)"
        )
        cursor.execute("UPDATE receipts_loghead SET size = %s, frontier = %s", [size, b"".join(frontier.hashes)])


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """What was kept elsewhere: the log's files, and the receipts' bytes as an export writes them."""
    kept = tmp_path / "copy"
    shutil.copytree(folder, kept / "log")
    with (kept / RECEIPTS).open("wb") as out:
        for leaf, receipt in enumerate(Receipt.objects.order_by("id")[:290]):
            out.write(write_line(Line(leaf, receipt.nid, bytes(receipt.body))))
    return kept


def rows() -> list[tuple[Any, ...]]:
    columns = ("nid", "tenant_id", "subject", "event_type", "attempt", "n", "seq", "origin", "body")
    return [
        tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
        for row in Receipt.objects.order_by("id").values_list(*columns)
    ]


def test_lost_leaves_are_told_in_one_line(folder: Path) -> None:
    assert lost_leaves() is None
    restore_older(3)
    assert lost_leaves() == Lost(3, 290)
    with pytest.raises(LogIsOlder):
        log.turn()
    with pytest.raises(CommandError, match="290 leaves are published, the database holds 3: leaves 3 to 289 are") as no:
        tell()
    assert no.value.returncode == 1


@pytest.mark.parametrize("size", [3, 259, 270])
def test_what_a_restored_database_lost_comes_back_at_the_same_leaves(folder: Path, copy: Path, size: int) -> None:
    before, root = rows()[:290], bytes(Checkpoint.objects.get(size=290).root)
    threads = set(Thread.objects.values_list("subject", "first_nid", "tenant_id"))
    restore_older(size)
    told = tell("--from", str(copy))
    assert told.startswith(f"leaves {size} to 289: put back under the published root\n")
    assert rows() == before
    assert set(Thread.objects.values_list("subject", "first_nid", "tenant_id")) <= threads
    assert bytes(Checkpoint.objects.get(size=290).root) == root
    assert not Pending.objects.exists()
    assert list(check_log()) == []
    small_log.grow(3, start=290)
    assert log.turn().published == 293, "and the log goes on where it was"
    assert list(check_log()) == []


def test_a_copy_of_tlog_with_bare_receipts_will_do(folder: Path, copy: Path) -> None:
    (copy / RECEIPTS).write_bytes(b"".join(bytes(one.body) + b"\n" for one in Receipt.objects.order_by("id")))
    for path in (copy / "log").iterdir():
        path.rename(copy / path.name)
    (copy / "log").rmdir()
    restore_older(3)
    assert replay(copy) == Lost(3, 290)
    assert list(check_log()) == []


def test_receipts_that_the_database_still_holds_as_pending_need_no_copy(folder: Path, copy: Path) -> None:
    with past_the_guards() as cursor:
        cursor.execute("INSERT INTO receipts_pending SELECT id FROM receipts_receipt ORDER BY id OFFSET 270 LIMIT 20")
        cursor.execute("DELETE FROM receipts_commit WHERE checkpoint_id = 290")
        cursor.execute("DELETE FROM receipts_checkpoint WHERE size = 290")
        cursor.execute("DELETE FROM receipts_bundle WHERE first_leaf = 270")
        frontier = Frontier()
        for bundle in Bundle.objects.order_by("first_leaf"):
            for entry in decode_bundle(bytes(bundle.entries)):
                frontier.append(leaf_hash(entry))
        cursor.execute("UPDATE receipts_loghead SET size = 270, frontier = %s", [b"".join(frontier.hashes)])
    (copy / RECEIPTS).unlink()
    assert replay(copy) == Lost(270, 290)
    assert Pending.objects.count() == 5


def without(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))


SPOILS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a receipt is missing": (lambda copy: without(copy / RECEIPTS, 100), "of 1 lost receipts .* first at leaf 100"),
    "all receipts are missing": (lambda copy: (copy / RECEIPTS).unlink(), "of 287 lost receipts .* first at leaf 3"),
    "a line is no receipt": (lambda copy: (copy / RECEIPTS).write_text("rubbish\n"), "line 1"),
    "the checkpoint is missing": (lambda copy: (copy / "log/checkpoint").unlink(), "can't be read"),
    "the checkpoint is not the log's": (lambda copy: (copy / "log/checkpoint").write_text("x\n"), "not signed by"),
    "the copy is too old": (
        lambda copy: (copy / "log/checkpoint").write_text(Checkpoint.objects.get(size=3).note),
        "ends at 3 leaves, 290 are published",
    ),
    "a tile is missing": (lambda copy: (copy / "log/tile/entries/000").unlink(), "tile/entries/000 of the copy"),
    "a tile is another": (
        lambda copy: (copy / "log/tile/entries/000").write_bytes(
            (copy / "log/tile/entries/000").read_bytes().replace(b"JobStarted", b"JobFailed!")
        ),
        "of another history",
    ),
}


@pytest.mark.parametrize(("spoil", "rule"), SPOILS.values(), ids=SPOILS.keys())
def test_a_copy_that_does_not_bring_everything_back_changes_nothing(
    folder: Path, copy: Path, spoil: Callable[[Path], object], rule: str
) -> None:
    spoil(copy)
    restore_older(3)
    before = rows(), files(folder)
    with pytest.raises(CopyUnusable, match=rule):
        replay(copy)
    assert (rows(), files(folder)) == before
    assert log.log_head().size == 3


def test_a_receipt_written_since_in_a_lost_one_s_place_is_refused(folder: Path, copy: Path) -> None:
    restore_older(3)
    small_log.grow(1, start=3)
    with pytest.raises(CopyUnusable, match="stand in the lost ones' places"):
        replay(copy)
    assert log.log_head().size == 3


POINTS = ["copy_rows", "encode_bundle", "Bundle.objects.create", "LogHead.objects.filter", "Checkpoint.objects.create"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_while_rows_are_put_back_leaves_none_of_them(
    folder: Path, copy: Path, point: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_older(3)
    before = rows()
    owner: Any = recover
    *path, name = point.split(".")
    for part in path:
        owner = getattr(owner, part)
    works = getattr(owner, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if not after:
            raise Crash(point)
        works(*args, **kwargs)
        raise Crash(point)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, deadly)
        # The head's filter is only reached when everything before it was done.
        with pytest.raises(Crash):
            replay(copy)
    assert rows() == before
    assert (log.log_head().size, Bundle.objects.count(), Checkpoint.objects.count()) == (3, 1, 1)
    assert replay(copy) == Lost(3, 290)
    assert list(check_log()) == []
