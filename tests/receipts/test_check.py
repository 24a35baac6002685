"""Checking the log: what holds is silent, whatever differs is named with its place, and a growing log is not broken."""

import json
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from receipts import log
from receipts.check import Counts, Difference, LeafNotPublished, check_log
from receipts.models import Receipt
from receipts.record import record
from tests.receipts import small_log
from tests.receipts.small_log import past_the_guards
from tests.receipts.test_record import ACTOR, at_once, queries

pytestmark = pytest.mark.django_db


@pytest.fixture
def founded(settings: Any, tmp_path: Path, db: None) -> None:
    small_log.found(settings, tmp_path)


@pytest.fixture
def small(founded: None) -> None:
    small_log.build()


def differences(from_leaf: int = 0) -> list[Difference]:
    return list(check_log(from_leaf=from_leaf))


def told() -> tuple[int, str]:
    """Run the command; give its exit code and what it printed."""
    out = StringIO()
    try:
        call_command("check_log", stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_a_whole_log_is_silent(small: None) -> None:
    counts = Counts()
    assert list(check_log(counts=counts)) == []
    assert (counts.receipts, counts.leaves, counts.pending, counts.checkpoints, counts.anchors) == (605, 600, 5, 4, 4)
    assert counts.bundles >= 5
    assert counts.tiles >= 12


def test_an_empty_log_is_whole(founded: None) -> None:
    assert differences() == []


def test_the_command_counts_and_exits_with_0_where_all_agree(small: None) -> None:
    code, text = told()
    assert code == 0
    assert text.startswith("0 differences: 605 receipts, 600 leaves, ")


def test_a_changed_receipt_is_named_with_leaf_id_and_both_values(small: None) -> None:
    receipt = Receipt.objects.order_by("id")[17]
    with past_the_guards() as cursor:
        cursor.execute(
            "UPDATE receipts_receipt SET body = overlay(body placing '\\x42'::bytea from length(body) - 40)"
            " WHERE id = %s",
            [receipt.pk],
        )
    code, text = told()
    assert code == 1
    line, last = text.splitlines()
    assert line.startswith(
        f"receipt bytes | leaf 17, receipt {receipt.pk}, {receipt.subject} | {receipt.nid} | bafkrei"
    )
    assert last.startswith("1 differences: ")


def test_as_json_it_is_one_object(small: None) -> None:
    out = StringIO()
    with past_the_guards() as cursor:
        cursor.execute("UPDATE receipts_loghead SET size = 599")
    with pytest.raises(SystemExit):
        call_command("check_log", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert answer["counts"]["leaves"] == 600
    assert {
        "what": "head size",
        "where": "log head",
        "expected": "600, where the bundles end",
        "found": "599",
    } in answer["differences"]


def test_a_flipped_bit_of_a_tile_is_named_by_file_hash_and_leaf(small: None, settings: Any) -> None:
    path = settings.TLOG_DIR / "tile/0/001"
    data = bytearray(path.read_bytes())
    data[17 * 32 + 3] ^= 1
    path.write_bytes(data)
    (found,) = differences()
    assert (found.what, found.where) == ("tile", "tile/0/001, hash 17 (leaf 273)")
    assert found.found == bytes(data[17 * 32 : 18 * 32]).hex()


def test_a_lost_tile_is_named(small: None, settings: Any) -> None:
    (settings.TLOG_DIR / "tile/1/000.p/2").unlink()
    assert differences() == [Difference("tile", "tile/1/000.p/2", "2 hashes", "no file")]


def test_a_bundle_that_is_gone_is_told_once_and_what_follows_is_checked_by_the_tiles(small: None) -> None:
    with past_the_guards() as cursor:
        cursor.execute("DELETE FROM receipts_bundle WHERE first_leaf = 300")
    found = differences()
    assert found[0] == Difference("bundle gap", "leaf 300", "first leaf 300", "bundle of leaf 556")
    assert {one.what for one in found[1:]} == {"receipt without leaf"}
    assert len(found) == 257


@pytest.mark.parametrize("leaf", [1, 255, 256, 511, 512, 600])
def test_a_check_from_a_leaf_on_believes_what_lies_before(small: None, leaf: int) -> None:
    counts = Counts()
    assert list(check_log(from_leaf=leaf, counts=counts)) == []
    assert counts.leaves == 600 - leaf // 256 * 256


def test_a_check_from_a_leaf_on_sees_what_lies_behind_it(small: None, settings: Any) -> None:
    with past_the_guards() as cursor:
        cursor.execute("UPDATE receipts_checkpoint SET root = sha256(root) WHERE size = 600")
    (found,) = differences(from_leaf=300)
    assert (found.what, found.where) == ("checkpoint root", "checkpoint of 600")
    with past_the_guards() as cursor:
        cursor.execute("UPDATE receipts_loghead SET frontier = sha256('x') || substr(frontier, 33)")
    assert {one.what for one in differences(from_leaf=300)} == {"checkpoint root", "head frontier"}


def test_a_check_can_not_begin_where_nothing_is_published(small: None) -> None:
    with pytest.raises(LeafNotPublished, match="leaf 768 is beyond the 600"):
        differences(from_leaf=900)
    with pytest.raises(CommandError, match="leaf 768 is beyond") as refused:
        call_command("check_log", "--from", "900")
    assert refused.value.returncode == 2
    with pytest.raises(CommandError, match="--from -1"):
        call_command("check_log", "--from", "-1")


def test_bytes_that_were_erased_by_a_logged_act_are_not_broken(small: None) -> None:
    gone = Receipt.objects.order_by("id")[20]
    with past_the_guards() as cursor:
        cursor.execute("UPDATE receipts_receipt SET body = '' WHERE id = %s", [gone.pk])
    assert [one.what for one in differences()] == ["receipt bytes", "receipt bytes"], "not without the act"
    record(
        event_type="ReceiptErased",
        subject="erasures",
        tenant_id=None,
        actor=ACTOR,
        data={"erased": gone.nid, "reason": "law"},
    )
    counts = Counts()
    assert list(check_log(counts=counts)) == []
    assert counts.erased == 1


def test_a_longer_log_takes_as_many_queries_a_page(founded: None) -> None:
    small_log.build((3, 40), pending=0)
    with queries() as few:
        differences()
    small_log.grow(200, start=40)
    log.turn()
    with queries() as more:
        differences()
    assert len(more) <= len(few) + 2


@pytest.mark.django_db(transaction=True)
def test_a_log_that_grows_meanwhile_is_not_broken(settings: Any, tmp_path: Path) -> None:
    small_log.found(settings, tmp_path)
    small_log.build((3, 300), pending=0)
    done = threading.Event()

    def grows() -> None:
        try:
            for start in range(300, 400, 4):
                small_log.grow(4, start=start)
                log.turn()
        finally:
            done.set()

    def checks() -> list[Difference]:
        found = differences()
        while not done.is_set():
            found += differences()
        return found

    outcomes = at_once(grows, checks)
    assert outcomes == [None, []]
    assert log.log_head().size == 400
    connection.close()
