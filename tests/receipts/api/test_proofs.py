"""Proofs over HTTP: anyone may have them, caches may keep them, and any checker follows them."""

import base64
import json
from typing import Any

import pytest
from django.test import Client

from receipts import log
from receipts.checkpoint import open_checkpoint
from receipts.merkle import check_consistency, check_inclusion, leaf_hash
from receipts.models import Checkpoint, Receipt
from tests.receipts import small_log

pytestmark = pytest.mark.django_db


@pytest.fixture
def small(settings: Any, tmp_path: Any, db: None) -> None:
    small_log.found(settings, tmp_path)
    small_log.build((3, 30, 41), pending=1)


def get(address: str) -> Any:
    answer = Client().get(address)
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def hashes(coded: list[str]) -> list[bytes]:
    return [base64.b64decode(item) for item in coded]


def leaf_of(index: int) -> bytes:
    receipt = log.receipt_at(index)
    assert receipt is not None
    return leaf_hash(log.leaf_entry(receipt.nid, receipt.event_type))


@pytest.mark.parametrize("size", [3, 30, 41])
def test_a_leaf_is_proven_in_every_published_size(small: None, size: int) -> None:
    for leaf in (0, 2, size - 1):
        told = get(f"/api/v1/log/proof?leaf={leaf}&size={size}")
        root = bytes(Checkpoint.objects.get(size=size).root)
        assert (told["leaf"], told["size"], base64.b64decode(told["root"])) == (leaf, size, root)
        check_inclusion(leaf_of(leaf), leaf, size, hashes(told["proof"]), root)


def test_that_the_log_only_grew_is_proven(small: None) -> None:
    rows = list(Checkpoint.objects.order_by("size"))
    for old in rows:
        for new in rows[rows.index(old) :]:
            told = get(f"/api/v1/log/consistency?from={old.size}&to={new.size}")
            assert hashes([told["from_root"], told["to_root"]]) == [bytes(old.root), bytes(new.root)]
            check_consistency(old.size, bytes(old.root), new.size, bytes(new.root), hashes(told["proof"]))
    assert get("/api/v1/log/consistency?from=0&to=3")["proof"] == []


def test_the_newest_size_counts_where_none_is_given_and_is_not_cached(small: None) -> None:
    assert get("/api/v1/log/proof?leaf=7")["size"] == 41
    assert get("/api/v1/log/consistency?from=3")["to"] == 41
    assert Client().get("/api/v1/log/proof?leaf=7")["Cache-Control"] == "no-cache"
    kept = Client().get("/api/v1/log/proof?leaf=7&size=30")
    assert kept["Cache-Control"] == "public, max-age=31536000, immutable"
    assert kept["Access-Control-Allow-Origin"] == "*"


def test_a_proof_for_a_given_size_stays_the_same_to_the_byte(small: None) -> None:
    before = Client().get("/api/v1/log/proof?leaf=7&size=30").content
    small_log.grow(300, start=42)
    log.turn()
    assert Client().get("/api/v1/log/proof?leaf=7&size=30").content == before


@pytest.mark.parametrize(
    ("query", "field", "value", "rule"),
    [
        ("proof", "leaf", None, "must be given"),
        ("proof?leaf=1&leaf=2", "leaf", None, "must be given once"),
        ("proof?leaf=-1", "leaf", "-1", "must be a whole number in decimal digits"),
        ("proof?leaf=01", "leaf", "01", "must be a whole number in decimal digits"),
        ("proof?leaf=1e3", "leaf", "1e3", "must be a whole number in decimal digits"),
        ("proof?leaf=%D9%A3", "leaf", "\u0663", "must be a whole number in decimal digits"),
        ("proof?leaf=" + "9" * 400, "leaf", "9" * 80 + "…", "must be a whole number in decimal digits"),
        ("proof?leaf=41", "leaf", "41", "must be from 0 to 40"),
        ("proof?leaf=3&size=3", "leaf", "3", "must be from 0 to 2"),
        ("proof?leaf=0&size=42", "size", "42", "must be from 1 to 41"),
        ("proof?leaf=0&size=0", "size", "0", "must be from 1 to 41"),
        ("proof?leaf=0&sise=3", "sise", "3", "is no field of this address"),
        ("consistency?to=3", "from", None, "must be given"),
        ("consistency?from=4&to=3", "from", "4", "must be from 0 to 3"),
        ("consistency?from=4&to=99", "to", "99", "must be from 1 to 41"),
    ],
)
def test_a_query_that_breaks_a_rule_names_field_value_and_rule(
    small: None, query: str, field: str, value: str | None, rule: str
) -> None:
    answer = Client().get(f"/api/v1/log/{query}")
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
    assert answer.json()["errors"] == [{"field": field, "value": value, "rule": rule}]


def test_before_the_first_checkpoint_there_is_no_proof(settings: Any, tmp_path: Any, db: None) -> None:
    small_log.found(settings, tmp_path)
    for address in ("log/proof?leaf=0", "log/consistency?from=0"):
        assert Client().get(f"/api/v1/{address}").status_code == 404


def test_a_receipt_s_proof_is_one_file_that_any_checker_reads(small: None) -> None:
    receipt = log.receipt_at(17)
    assert receipt is not None
    answer = Client().get(f"/api/v1/receipts/{receipt.nid}.tlog-proof")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    head, _, note = answer.content.decode().partition("\n\n")
    header, index, *path = head.split("\n")
    assert (header, index) == ("c2sp.org/tlog-proof@v1", "index 17")
    told = open_checkpoint(note, log.current_vkey())
    check_inclusion(leaf_of(17), 17, told.size, hashes(path), told.root)


def test_a_receipt_without_a_published_leaf_has_no_proof(small: None) -> None:
    pending = Receipt.objects.order_by("id").last()
    assert pending is not None
    assert Client().get(f"/api/v1/receipts/{pending.nid}.tlog-proof").status_code == 404
    assert Client().get(f"/api/v1/receipts/bafkrei{'a' * 52}.tlog-proof").status_code == 404
