"""Exports: exact bytes for an auditor, each with what proves its leaf; private ones only as leaf, NID and type."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from receipts import log
from receipts.canonical import encode, nid
from receipts.checkpoint import make_vkey, open_checkpoint
from receipts.export import CSV_COLUMNS, ExportRefused, Wanted, export, neutral
from receipts.exported import (
    Line,
    LineBroken,
    ProofLine,
    read_checkpoint_line,
    read_line,
    read_proof_line,
    write_line,
    write_proof_line,
)
from receipts.keys import ed25519_signer, make_key_file
from receipts.merkle import check_inclusion, leaf_hash
from receipts.models import Receipt, Tenant
from receipts.tiles import Tile, decode_bundle
from tests.receipts.test_record import JOB, write

ORIGIN = "log.example/ada"
OTHER = JOB[:-1] + "9"


@pytest.fixture
def house(tmp_path: Path, settings: Any, db: None) -> None:
    """A log of 300 house receipts, two jobs of Ada's and Bo's, and one public receipt."""
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.KEYS_DIR = tmp_path / "keys"
    settings.CHECKPOINT_SECONDS = 0
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    for who in ("ada", "bo"):
        Tenant.objects.create(id=who, name=who)
    log.found_log(ORIGIN)
    for n in range(1, 301):
        write("ReputationChanged", subject="provider-bo", tenant_id=None, attempt=0, n=n)
    write()
    write("JobScheduled")
    write(subject=OTHER, tenant_id="bo")
    write("UsageAttested", subject="usage:1", tenant_id=None, attempt=0)
    while log.sequence():
        pass
    log.publish()


def lines(folder: Path) -> list[Line]:
    with (folder / "receipts.jsonl").open("rb") as stream:
        return [read_line(raw) for raw in stream]


def test_the_whole_log_leaves_with_its_tiles_and_every_receipts_exact_bytes(house: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts = export(out=out, form="jsonl", wanted=Wanted())
    found = lines(out)
    assert counts.receipts == counts.size == 304 == len(found)
    assert [line.leaf for line in found] == list(range(304))
    kept = {row.nid: bytes(row.body) for row in Receipt.objects.all()}
    assert {line.nid: line.body for line in found} == kept
    assert all(line.body and line.nid == nid(line.body) for line in found)
    entries = decode_bundle((out / "log" / Tile(None, 0).path()).read_bytes())
    entries += decode_bundle((out / "log" / Tile(None, 1, 48).path()).read_bytes())
    assert [json.loads(entry)["nid"] for entry in entries] == [line.nid for line in found]
    assert (out / "log" / "checkpoint").read_text() == (tmp_path / "tlog" / "checkpoint").read_text()
    assert not (out / "proofs.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "no draft is left"


@pytest.mark.parametrize(
    ("wanted", "leaves"),
    [
        (Wanted(tenant="ada"), [300, 301]),
        (Wanted(job=OTHER), [302]),
        (Wanted(event_type="JobSubmitted"), [300, 302]),
        (Wanted(leaf_from=299, leaf_to=301), [299, 300]),
        (Wanted(tenant="cy"), []),
    ],
)
def test_a_part_leaves_with_one_proof_for_each_receipt(
    house: None, tmp_path: Path, settings: Any, wanted: Wanted, leaves: list[int]
) -> None:
    counts = export(out=tmp_path / "out", form="jsonl", wanted=wanted)
    found = lines(tmp_path / "out")
    assert [line.leaf for line in found] == leaves
    assert (counts.receipts, counts.proofs, counts.tiles) == (len(leaves), len(leaves), 0)
    with (tmp_path / "out" / "proofs.jsonl").open("rb") as stream:
        vkey = make_vkey(ORIGIN, ed25519_signer("log", settings.KEYS_DIR).public)
        stated = open_checkpoint(read_checkpoint_line(stream.readline()), vkey)
        proofs = [read_proof_line(raw) for raw in stream]
    for line, proof in zip(found, proofs, strict=True):
        assert line.body is not None
        entry = encode({"eventType": json.loads(line.body)["eventType"], "nid": nid(line.body), "v": 1})
        check_inclusion(leaf_hash(entry), proof.leaf, stated.size, proof.proof, stated.root)


def test_times_choose_too_and_what_waits_for_a_checkpoint_is_counted(house: None, tmp_path: Path) -> None:
    moment = Receipt.objects.get(event_type="JobScheduled").occurred_at
    export(out=tmp_path / "since", form="jsonl", wanted=Wanted(since=moment))
    assert [line.leaf for line in lines(tmp_path / "since")] == [301, 302, 303]
    export(out=tmp_path / "until", form="jsonl", wanted=Wanted(until=moment))
    assert [line.leaf for line in lines(tmp_path / "until")] == list(range(301))
    write(subject=JOB[:-1] + "5", tenant_id="bo")
    counts = export(out=tmp_path / "more", form="jsonl", wanted=Wanted(tenant="bo"))
    assert (counts.receipts, counts.waiting) == (1, 1)


def test_redacting_leaves_nid_leaf_and_type_of_what_is_private(house: None, tmp_path: Path) -> None:
    counts = export(out=tmp_path / "out", form="jsonl", wanted=Wanted(leaf_from=298), redact=True)
    shown = (tmp_path / "out" / "receipts.jsonl").read_text()
    assert counts.redacted == 5
    assert [(line.event_type, line.withheld) for line in lines(tmp_path / "out")][:3] == [
        ("ReputationChanged", "redacted"),
        ("ReputationChanged", "redacted"),
        ("JobSubmitted", "redacted"),
    ]
    assert lines(tmp_path / "out")[-1].body is not None, "what is public in full stays"
    for private in (JOB, OTHER, "tenant", "salt"):
        assert private not in shown.rsplit("\n", 2)[0], private


def test_a_table_has_fixed_columns_and_no_formula(house: None, tmp_path: Path) -> None:
    export(out=tmp_path / "out", form="csv", wanted=Wanted(leaf_from=300))
    raw = (tmp_path / "out" / "receipts.csv").read_bytes()
    rows = list(csv.reader(io.StringIO(raw.decode(), newline="")))
    assert raw.count(b"\r\n") == 5 and tuple(rows[0]) == CSV_COLUMNS
    assert [row[0] for row in rows[1:]] == ["300", "301", "302", "303"]
    assert all(nid(row[-1].encode()) == row[1] for row in rows[1:]), "the bytes survive the quoting"


@given(st.text())
def test_no_cell_begins_a_formula(text: str) -> None:
    shown = neutral(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert shown in (text, "'" + text)


def test_an_export_is_whole_or_not_there(house: None, tmp_path: Path) -> None:
    export(out=tmp_path / "out", form="jsonl", wanted=Wanted(tenant="ada"))
    before = (tmp_path / "out" / "receipts.jsonl").read_bytes()
    with pytest.raises(ExportRefused, match="there already"):
        export(out=tmp_path / "out", form="jsonl", wanted=Wanted())
    assert (tmp_path / "out" / "receipts.jsonl").read_bytes() == before
    (tmp_path / "tlog" / Tile(0, 0).path()).unlink()
    with pytest.raises(ExportRefused, match="missing on disk"):
        export(out=tmp_path / "broken", form="jsonl", wanted=Wanted())
    assert not (tmp_path / "broken").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_prints_counts_and_refuses_in_one_line(
    house: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("export_receipts", str(tmp_path / "a"), "--tenant", "ada", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["receipts"], told["proofs"], told["size"]) == (2, 2, 304)
    call_command("export_receipts", str(tmp_path / "b"), "--format", "csv", "--since", "2020-01-01")
    assert "304 receipts" in capsys.readouterr().out
    for wrong in (["--since", "yesterday"], ["--since", "2026-11-21T07:00"], ["--leaf-from", "-1"], ["--type", "x"]):
        with pytest.raises(CommandError) as refused:
            call_command("export_receipts", str(tmp_path / "c"), *wrong)
        assert "\n" not in str(refused.value)
    with pytest.raises(CommandError, match="there already") as refused:
        call_command("export_receipts", str(tmp_path / "a"))
    assert refused.value.returncode == 2


# --- lines ---------------------------------------------------------------------------------------

NAME = nid(b"x")
BODIES = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(st.integers(0, 2**53 - 1), BODIES)
def test_a_line_gives_back_the_exact_bytes_whatever_they_are(leaf: int, body: bytes) -> None:
    line = Line(leaf, NAME, body)
    assert read_line(write_line(line)) == line
    assert write_line(line).count(b"\n") == 1


@given(st.integers(0, 2**53 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=64))
def test_a_proof_survives_its_line(leaf: int, proof: list[bytes]) -> None:
    line = ProofLine(leaf, tuple(proof))
    assert read_proof_line(write_proof_line(line)) == line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NAME),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["leaf", "nid", "bytes", "base64", "withheld", "eventType", "proof"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_other_line_is_refused_with_its_field_and_never_a_crash(raw: bytes) -> None:
    for read in (read_line, read_proof_line, read_checkpoint_line):
        try:
            read(raw)
        except LineBroken as error:
            assert error.field and error.rule
