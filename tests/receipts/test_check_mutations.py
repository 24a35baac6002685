"""Whatever is changed in the log's rows or files past every guard, a check finds it and names the place.

Each mutation is applied by the owner of the database (past triggers and foreign keys) or to the files, checked, and
undone. Beside it stands what a plain audit table would have noticed: the same rows and constraints, without hashes.
"""

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from receipts import log
from receipts.canonical import decode, encode, nid
from receipts.check import Difference, check_log
from receipts.checkpoint import sign_note
from receipts.keys import Ed25519Signer
from receipts.models import Bundle, Checkpoint, Commit, LogHead, Pending, Receipt, Thread, TransactionHash
from receipts.tiles import decode_bundle, encode_bundle
from tests.receipts import small_log

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
COUNT = 10_000 if FULL else 60
SEED = 20261121
GUARDED = ("receipts_receipt", "receipts_bundle", "receipts_checkpoint")


@dataclass
class Mutation:
    """One change: statements or files, and the places of which the check must name one."""

    places: list[str]
    rows: list[tuple[str, list[Any]]] = field(default_factory=list)
    files: dict[str, bytes | None] = field(default_factory=dict)


class NothingToChange(Exception):
    """The dice chose a change that changes nothing: throw again."""


class Log:
    """The log as it was built, to choose from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.receipts = list(Receipt.objects.order_by("id"))
        self.bundles = list(Bundle.objects.order_by("first_leaf"))
        self.checkpoints = list(Checkpoint.objects.order_by("size"))
        self.commits = list(Commit.objects.select_related("transaction").order_by("id"))
        self.hashes = {sent.transaction_id: sent for sent in TransactionHash.objects.all()}
        self.threads = list(Thread.objects.order_by("subject"))
        self.pending = list(Pending.objects.values_list("receipt_id", flat=True))
        self.head = LogHead.objects.get()
        self.files = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        self.tiles = [path for path in self.files if path != "checkpoint"]

    def needed(self) -> list[str]:
        """The tiles that the newest checkpoint can't do without."""
        full = [path for path in self.tiles if ".p/" not in path]
        widest = {path.rpartition("/")[0]: path for path in self.tiles if ".p/" in path}
        for path in self.tiles:
            if ".p/" in path and int(path.rpartition("/")[2]) > int(widest[path.rpartition("/")[0]].rpartition("/")[2]):
                widest[path.rpartition("/")[0]] = path
        return full + [path for folder, path in widest.items() if folder.removesuffix(".p") not in full]


Kind = Callable[[Log, random.Random], Mutation]


def flipped(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


def other(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text))
    return text[:place] + dice.choice([c for c in "abcdefgh234567" if c != text[place]]) + text[place + 1 :]


def changed(data: bytes, dice: random.Random) -> bytes:
    """Flip, cut, lengthen or take out a part of some bytes."""
    place = dice.randrange(len(data))
    part = dice.randrange(1, 40)
    ways = [
        flipped(data, dice),
        data[:place],
        data[:place] + data[place + part :],
        data[:place] + dice.randbytes(part) + data[place:],
    ]
    return dice.choice([way for way in ways if way != data])


def set_(table: str, key: str, **columns: Any) -> Callable[[Any], list[tuple[str, list[Any]]]]:
    text = ", ".join(f"{name} = %s" for name in columns)
    return lambda value: [(f"UPDATE {table} SET {text} WHERE {key} = %s", [*columns.values(), value])]


# --- receipts ------------------------------------------------------------------------------------------


def of_receipt(row: Receipt, **columns: Any) -> Mutation:
    return Mutation([f"receipt {row.pk}"], set_("receipts_receipt", "id", **columns)(row.pk))


def receipt_body_bytes(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    return of_receipt(row, body=changed(bytes(row.body), dice))


def rewritten(row: Receipt, dice: random.Random) -> bytes:
    """A receipt that says something else, in perfect form."""
    body = decode(bytes(row.body))
    names = ["actor", "salt", "occurredAt", *(["prev"] if "prev" in body else [])]
    name = dice.choice(names)
    body[name] = other(body[name], dice) if name != "occurredAt" else "2026-01-01T00:00:00.000Z"
    return encode(body)


def receipt_body_rewritten(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    return of_receipt(row, body=rewritten(row, dice))


def receipt_body_and_nid_rewritten(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    body = rewritten(row, dice)
    return of_receipt(row, body=body, nid=nid(body))


def receipt_and_bundle_rewritten(log_: Log, dice: random.Random) -> Mutation:
    """The forger who knows the house: bytes, NID, entry and thread agree; only tree and anchors don't."""
    bundle = dice.choice(log_.bundles)
    offset = dice.randrange(bundle.count)
    row = next(one for one in log_.receipts if one.pk == bundle.receipt_ids[offset])
    body = rewritten(row, dice)
    entries = decode_bundle(bytes(bundle.entries))
    entries[offset] = log.leaf_entry(nid(body), row.event_type)
    mutation = of_receipt(row, body=body, nid=nid(body))
    mutation.rows += of_bundle(bundle, entries=encode_bundle(entries)).rows
    mutation.places = [f"leaf {bundle.first_leaf + offset}"]
    return mutation


def receipt_bodies_swapped(log_: Log, dice: random.Random) -> Mutation:
    one, two = dice.sample(log_.receipts, 2)
    mutation = of_receipt(one, body=bytes(two.body))
    mutation.rows += of_receipt(two, body=bytes(one.body)).rows
    return mutation


def receipt_column(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    import datetime as dt

    ways: list[dict[str, Any]] = [
        {"nid": other(row.nid, dice)},
        {"seq": row.seq + dice.randrange(100, 200)},
        {"event_type": dice.choice([t for t in ("JobSubmitted", "JobFailed", "Census") if t != row.event_type])},
        {"tenant_id": "mallory" if row.tenant_id is None or dice.random() < 0.5 else None},
        {"subject": other(row.subject, dice)},
        {"n": row.n + dice.randrange(1, 9)},
        {"origin": "simulated"},
        {"occurred_at": row.occurred_at + dt.timedelta(seconds=dice.choice([-1, 1]) * dice.randrange(1, 10**6))},
    ]
    if row.tenant_id is not None:  # of an affair of the house the attempt means nothing
        ways.append({"attempt": row.attempt + dice.randrange(2, 9)})
    return of_receipt(row, **dice.choice(ways))


def receipt_deleted(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    return Mutation([f"receipt {row.pk}"], [("DELETE FROM receipts_receipt WHERE id = %s", [row.pk])])


def receipt_inserted(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.receipts)
    body = rewritten(row, dice)
    made = 10**6 + dice.randrange(10**6)
    columns = "tenant_id, subject, event_type, attempt, origin, occurred_at"
    statement = (
        f"INSERT INTO receipts_receipt (id, nid, body, seq, n, {columns})"
        f" SELECT %s, %s, %s, seq + 1000, n + 1000, {columns} FROM receipts_receipt WHERE id = %s"
    )
    mutation = Mutation([f"receipt {made}"], [(statement, [made, nid(body), body, row.pk])])
    if dice.random() < 0.5:
        mutation.rows.append(("INSERT INTO receipts_pending (receipt_id) VALUES (%s)", [made]))
    return mutation


# --- bundles, pending, head ------------------------------------------------------------------------------


def of_bundle(row: Bundle, **columns: Any) -> Mutation:
    places = [f"bundle of leaf {row.first_leaf}"]
    return Mutation(places, set_("receipts_bundle", "first_leaf", **columns)(row.first_leaf))


def bundle_entries(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.bundles)
    entries = decode_bundle(bytes(row.entries))
    place = dice.randrange(len(entries))
    way = dice.choice(["bytes", "delete", "insert", "swap", "entry"])
    if way == "bytes":
        return of_bundle(row, entries=changed(bytes(row.entries), dice))
    if way == "delete":
        del entries[place]
    elif way == "insert":
        entries.insert(place, log.leaf_entry(nid(dice.randbytes(8)), "JobFailed"))
    elif way == "entry":
        entries[place] = log.leaf_entry(nid(dice.randbytes(8)), "JobFailed")
    else:
        at = dice.randrange(len(entries))
        if at == place:
            raise NothingToChange
        entries[place], entries[at] = entries[at], entries[place]
    return of_bundle(row, entries=encode_bundle(entries))


def bundle_receipts(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.bundles)
    ids = list(row.receipt_ids)
    place = dice.randrange(len(ids))
    way = dice.choice(["delete", "insert", "swap", "other"])
    if way == "delete":
        del ids[place]
    elif way == "insert":
        ids.insert(place, dice.choice(log_.receipts).pk)
    elif way == "other":
        ids[place] = dice.choice([one.pk for one in log_.receipts if one.pk != ids[place]] + [10**9])
    else:
        at = dice.randrange(len(ids))
        if at == place:
            raise NothingToChange
        ids[place], ids[at] = ids[at], ids[place]
    return of_bundle(row, receipt_ids=ids)


def bundle_number(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.bundles)
    name = dice.choice(["count", "lowest_receipt", "highest_receipt", "first_leaf"])
    by = dice.choice([-1, 1]) * dice.randrange(1, 400)
    mutation = of_bundle(row, **{name: getattr(row, name) + by})
    mutation.places += [f"bundle of leaf {row.first_leaf + by}", f"leaf {row.first_leaf}"]
    return mutation


def bundle_deleted(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.bundles)
    # Of the newest one the head tells: the bundles end before it does.
    places = ["log head"] if row is log_.bundles[-1] else [f"leaf {row.first_leaf}"]
    return Mutation(places, [("DELETE FROM receipts_bundle WHERE first_leaf = %s", [row.first_leaf])])


def pending_changed(log_: Log, dice: random.Random) -> Mutation:
    if dice.random() < 0.5:
        gone = dice.choice(log_.pending)
        return Mutation([f"receipt {gone}"], [("DELETE FROM receipts_pending WHERE receipt_id = %s", [gone])])
    again = dice.choice([one.pk for one in log_.receipts if one.pk not in log_.pending] + [10**9])
    return Mutation([f"receipt {again}"], [("INSERT INTO receipts_pending (receipt_id) VALUES (%s)", [again])])


def head_changed(log_: Log, dice: random.Random) -> Mutation:
    head = log_.head
    columns: dict[str, Any] = dice.choice(
        [
            {"size": head.size + dice.choice([-1, 1]) * dice.randrange(1, 500)},
            {"frontier": changed(bytes(head.frontier), dice)},
            {"nid": other(head.nid, dice)},
            {"origin": other(head.origin, dice)},
            {"first_vkey": other(head.first_vkey, dice)},
        ]
    )
    return Mutation(["log head"], set_("receipts_loghead", "id", **columns)(1))


# --- checkpoints, anchors, threads ---------------------------------------------------------------------------


def resigned(note: str, dice: random.Random) -> str:
    """The same text under a key of somebody else, by the same name."""
    text = note.partition("\n\n")[0] + "\n"
    mallory = Ed25519Signer(dice.randbytes(32))
    return sign_note(text, small_log.ORIGIN, mallory, mallory.public)


def checkpoint_changed(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.checkpoints)
    size = row.size + dice.choice([1, 2, 5, 17])
    columns: dict[str, Any] = dice.choice(
        [
            {"root": changed(bytes(row.root), dice)},
            {"root": bytes(dice.choice([one for one in log_.checkpoints if one is not row]).root)},
            {"note": changed_text(row.note, dice)},
            {"note": resigned(row.note, dice)},
            {"note": dice.choice([one for one in log_.checkpoints if one is not row]).note},
            {"size": size},
        ]
    )
    places = [f"checkpoint of {row.size}", *([f"checkpoint of {size}"] if "size" in columns else [])]
    return Mutation(places, set_("receipts_checkpoint", "size", **columns)(row.size))


def changed_text(text: str, dice: random.Random) -> str:
    while True:
        data = changed(text.encode(), dice)
        made = data.decode(errors="replace").replace("\0", "0")
        if made != text:
            return made


def checkpoint_deleted(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.checkpoints)
    places = [f"checkpoint of {row.size}"]
    return Mutation(places, [("DELETE FROM receipts_checkpoint WHERE size = %s", [row.size])])


def commit_changed(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.commits)
    places = [f"anchor of {row.checkpoint_id} (commit {row.pk})", f"anchor of 601 (commit {row.pk})"]
    sent = log_.hashes[row.transaction_id]
    of_commit: list[dict[str, Any]] = [
        {"commit_data": changed_text(row.commit_data, dice)},
        {"commit_data": dice.choice([one for one in log_.commits if one is not row]).commit_data},
        {"asset_cid": other(row.asset_cid, dice)},
    ]
    of_transaction: list[dict[str, Any]] = [
        {"data": changed(bytes(row.transaction.data), dice)},
        {"to": "0x" + dice.randbytes(20).hex()},
        {"sender": "0x" + dice.randbytes(20).hex()},
        {"nonce": dice.randrange(10, 99)},
        {"chain_id": dice.randrange(2, 99)},
        {"key": other(row.transaction.key, dice)},
    ]
    of_hash: list[dict[str, Any]] = [
        {"raw": changed(bytes(sent.raw), dice)},
        {"hash": "0x" + dice.randbytes(32).hex()},
    ]
    table, key, value, ways = dice.choice(
        [
            ("receipts_commit", "id", row.pk, of_commit),
            ("receipts_chaintransaction", "id", row.transaction_id, of_transaction),
            ("receipts_transactionhash", "hash", sent.hash, of_hash),
        ]
    )
    columns = {f'"{name}"': value for name, value in dice.choice(ways).items()}
    return Mutation(places, set_(table, key, **columns)(value))


def commit_deleted(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.commits)
    if dice.random() < 0.5:
        sent = log_.hashes[row.transaction_id]
        places = [f"anchor of {row.checkpoint_id} (commit {row.pk})"]
        return Mutation(places, [("DELETE FROM receipts_transactionhash WHERE hash = %s", [sent.hash])])
    return Mutation([f"transaction {row.transaction.key}"], [("DELETE FROM receipts_commit WHERE id = %s", [row.pk])])


def thread_changed(log_: Log, dice: random.Random) -> Mutation:
    row = dice.choice(log_.threads)
    if dice.random() < 0.1:
        return Mutation([row.subject], [("DELETE FROM receipts_thread WHERE subject = %s", [row.subject])])
    columns: dict[str, Any] = dice.choice(
        [
            {"first_nid": other(row.first_nid, dice)},
            {"head_nid": other(row.head_nid, dice)},
            {"seq": row.seq + dice.choice([-1, 1, 7])},
            {"tenant_id": "mallory"},
            {"subject": other(row.subject, dice)},
        ]
    )
    return Mutation([row.subject], set_("receipts_thread", "subject", **columns)(row.subject))


# --- files ---------------------------------------------------------------------------------------------------


def of_tile(path: str, data: bytes | None, *more: str) -> Mutation:
    return Mutation([path, *more], files={path: data})


def tile_changed(log_: Log, dice: random.Random) -> Mutation:
    path = dice.choice(log_.tiles)
    return of_tile(path, changed(log_.files[path], dice))


def tile_hashes_swapped(log_: Log, dice: random.Random) -> Mutation:
    path = dice.choice([one for one in log_.tiles if "/entries/" not in one])
    data = log_.files[path]
    parts = [data[at : at + 32] for at in range(0, len(data), 32)]
    if len(parts) < 2:
        raise NothingToChange
    one, two = dice.sample(range(len(parts)), 2)
    parts[one], parts[two] = parts[two], parts[one]
    return of_tile(path, b"".join(parts))


def tiles_swapped(log_: Log, dice: random.Random) -> Mutation:
    one, two = dice.sample(log_.tiles, 2)
    if log_.files[one] == log_.files[two]:
        raise NothingToChange
    return Mutation([one], files={one: log_.files[two], two: log_.files[one]})


def tile_deleted(log_: Log, dice: random.Random) -> Mutation:
    return of_tile(dice.choice(log_.needed()), None)


def tile_inserted(log_: Log, dice: random.Random) -> Mutation:
    path = dice.choice([f"tile/0/00{dice.randrange(3, 9)}", "tile/0/002.p/255", "tile/note.txt", "tile/2/000.p/1"])
    return of_tile(path, dice.randbytes(32))


def file_changed(log_: Log, dice: random.Random) -> Mutation:
    now, older = log_.files["checkpoint"], dice.choice(log_.checkpoints[:-1]).note
    text = now.decode()
    data = dice.choice(
        [
            changed(now, dice),
            None,
            older.encode(),
            resigned(text, dice).encode(),
            resigned(older, dice).encode(),
            text.replace("\n600\n", f"\n{dice.randrange(1, 2000)}\n").encode(),
        ]
    )
    if data == now:
        raise NothingToChange
    return Mutation(["published file checkpoint"], files={"checkpoint": data})


KINDS: list[tuple[int, Kind]] = [
    (6, receipt_body_bytes),
    (3, receipt_body_rewritten),
    (3, receipt_body_and_nid_rewritten),
    (3, receipt_and_bundle_rewritten),
    (2, receipt_bodies_swapped),
    (10, receipt_column),
    (2, receipt_deleted),
    (2, receipt_inserted),
    (8, bundle_entries),
    (6, bundle_receipts),
    (4, bundle_number),
    (1, bundle_deleted),
    (2, pending_changed),
    (3, head_changed),
    (6, checkpoint_changed),
    (1, checkpoint_deleted),
    (8, commit_changed),
    (2, commit_deleted),
    (4, thread_changed),
    (8, tile_changed),
    (3, tile_hashes_swapped),
    (2, tiles_swapped),
    (2, tile_deleted),
    (2, tile_inserted),
    (5, file_changed),
]


# --- the campaign ---------------------------------------------------------------------------------------------


class Undone(Exception):
    """Nothing happened: the savepoint is rolled back."""


def plain_table_notices(mutation: Mutation) -> bool:
    """Tell whether the constraints of the same tables, without triggers and hashes, refuse the change."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement, values in mutation.rows:
                cursor.execute(statement, values)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            raise Undone
    except IntegrityError:
        return True
    except Undone:
        return False


def differences_after(mutation: Mutation, log_: Log) -> list[Difference] | None:
    """Change, check, undo; None where the database can't hold such rows at all."""
    try:
        for path, data in mutation.files.items():
            put(log_.folder / path, data)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for statement, values in mutation.rows:
                cursor.execute(statement, values)
                assert cursor.rowcount == 1, statement
            cursor.execute("SET LOCAL session_replication_role = origin")
            found = list(check_log())
            raise Undone
    except IntegrityError:
        return None
    except Undone:
        return found
    finally:
        for path in mutation.files:
            put(log_.folder / path, log_.files.get(path))


def put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def named(mutation: Mutation, found: list[Difference]) -> bool:
    return any(re.search(rf"{re.escape(place)}(?!\d)", one.where) for place in mutation.places for one in found)


@pytest.mark.django_db
def test_whatever_is_changed_is_found_and_named(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_log.found(settings, tmp_path)
    small_log.build()
    log_ = Log(settings.TLOG_DIR)
    assert list(check_log()) == []
    connection.check_constraints()
    with connection.cursor() as cursor:
        for table in GUARDED:  # the plain table has no triggers; rolled back with the test
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_kept")
    dice = random.Random(SEED)
    kinds = [kind for weight, kind in KINDS for _ in range(weight)]
    tried: dict[str, int] = {}
    unseen, unnamed, refused, in_rows, plain, lines = [], [], 0, 0, 0, []
    while sum(tried.values()) < COUNT:
        # Every kind is tried once, then the dice choose.
        kind = KINDS[len(tried)][1] if len(tried) < len(KINDS) else dice.choice(kinds)
        try:
            mutation = kind(log_, dice)
        except NothingToChange:
            continue
        tried[kind.__name__] = tried.get(kind.__name__, 0) + 1
        if mutation.rows:
            in_rows += 1
            plain += plain_table_notices(mutation)
        found = differences_after(mutation, log_)
        if found is None:
            refused += 1
        elif not found:
            unseen.append((kind.__name__, mutation))
        else:
            lines.append(len(found))
            if not named(mutation, found):
                unnamed.append((kind.__name__, mutation.places, [str(one) for one in found[:5]]))
    assert list(check_log()) == [], "everything was undone"
    with capsys.disabled():
        total = sum(tried.values())
        print(
            f"\n{total} mutations of {len(tried)} kinds: {total - len(unseen) - refused} found,"
            f" {total - len(unseen) - len(unnamed) - refused} of them named by place, {refused} can't be stored;"
            f" median {sorted(lines)[len(lines) // 2]} lines each."
            f" A plain audit table notices {plain} of the {in_rows} in rows."
        )
    assert unseen == []
    assert unnamed == []
