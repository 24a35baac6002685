"""Whatever bytes come from outside, a parser refuses them with its own error or reads them; nothing else happens.

By default each parser reads a thousand seeded inputs; the full campaign (TALLYSTICK_TEST_FULL=1) goes on for five
minutes with each and prints how many that were.
"""

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from jobs.claims import COMPLETED, FAILED, PROGRESS, PROMISE, REQUEST, STARTED, ClaimBroken, read_claim
from jobs.client.tally_format import NewerTally, NotATally, read_tally, write_tally
from jobs.client.trust import NotATrustFile, read_trust
from jobs.client.verify import verify_tally
from receipts.canonical import NotCanonical, decode, encode, nid_digest, read_utc
from receipts.chain.rlp import NotRlp, decode_raw_transaction
from receipts.checkpoint import NoteBroken, parse_checkpoint, parse_note, parse_vkey
from receipts.committers.erc7053 import NotCalldata, decode_commit, encode_commit
from receipts.events import EVENTS, schema_of
from receipts.merkle import ProofBroken, root_from_inclusion
from receipts.schema import Misfit, compiled
from receipts.tiles import TilePathWrong, decode_bundle, parse_tile_path
from receipts.witness_request import RequestMalformed, read_request, write_request

FULL: Final = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
INPUTS: Final = 1_000
FULL_SECONDS: Final = 300
VECTORS: Final = Path(__file__).parents[1] / "vectors"
TALLY: Final = (VECTORS / "tallies" / "0.1.0" / "job.tally.json").read_bytes()
TRUST: Final = (VECTORS / "tallies" / "0.1.0" / "tallystick.trust.json").read_bytes()
RECEIPTS: Final = [path.read_bytes() for path in sorted((VECTORS / "receipts").glob("*.json"))]
NOTE: Final = json.loads(TALLY)["checkpoint"].encode()
# Pieces that parsers stumble over: structure, numbers beyond every type, text that isn't text.
PIECES: Final = [
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800",
    b"null", b"true", b"NaN", b"-0", b"1e400", b"1e-400", b"0.1", b"9007199254740993", b"-1", b"9" * 400,
    b"[" * 300, b'{"a":' * 300, "\u212b".encode(), "\u202e".encode(), b"\n\n", b"\n", "\u2014 ".encode(),
    b"/x999", b".p/0", b".p/256", b"../", b"%00", b"+", b"=", b"A" * 70_000,
]  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """A parser, what it may refuse with, and inputs that it takes."""

    name: str
    read: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...]
    seeds: list[bytes]


def receipt(data: bytes) -> None:
    value = decode(data)
    if isinstance(value, dict) and value.get("eventType") in EVENTS:
        compiled(schema_of(value["eventType"]))(value)


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def proof(data: bytes) -> None:
    hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
    root_from_inclusion(b"\x00" * 32, len(data) % 97, 1 + len(data) % 193, hashes)


CLAIMS: Final = (REQUEST, STARTED, PROGRESS, COMPLETED, FAILED, PROMISE)


def claims() -> list[bytes]:
    bodies = [json.loads(raw) for raw in RECEIPTS]
    told = [body["data"]["claim"].encode() for body in bodies if "claim" in body["data"]]
    return [claim for claim in told if any(f'"{name}"'.encode() in claim for name in CLAIMS)]


TRUSTED: Final = read_trust(TRUST)
PARSERS: Final = [
    Parser("receipt", receipt, (NotCanonical, Misfit), RECEIPTS),
    Parser(
        "claim",
        lambda data: read_claim(text(data), next((name for name in CLAIMS if name.encode() in data), REQUEST)),
        (ClaimBroken, NotCanonical),
        claims(),
    ),
    Parser("note", lambda data: parse_checkpoint(parse_note(text(data)).text), (NoteBroken,), [NOTE]),
    Parser(
        "vkey",
        lambda data: parse_vkey(text(data)),
        (NoteBroken,),
        [
            json.loads(TRUST)["log"]["vkey"].encode(),
            b"PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ],
    ),
    Parser("proof", proof, (ProofBroken,), [bytes(range(256)) * 2, b"x" * 32]),
    Parser("tally", read_tally, (NotATally, NewerTally), [TALLY]),
    Parser("trust file", read_trust, (NotATrustFile,), [TRUST]),
    Parser(
        "tile path",
        lambda data: parse_tile_path(text(data)),
        (TilePathWrong,),
        [b"tile/0/x001/234.p/7", b"tile/entries/000"],
    ),
    Parser("entry bundle", decode_bundle, (TilePathWrong,), [b"\x00\x03abc\x00\x01x"]),
    Parser("nid", lambda data: nid_digest(text(data)), (NotCanonical,), [json.loads(TALLY)["job_nid"].encode()]),
    Parser("time", lambda data: read_utc(text(data)), (NotCanonical,), [b"2026-11-21T07:00:52.310Z"]),
    Parser(
        "transaction",
        decode_raw_transaction,
        (NotRlp,),
        [bytes.fromhex(json.loads(TALLY)[name]["raw"][2:]) for name in ("anchor", "mint")],
    ),
    Parser("commit", decode_commit, (NotCalldata,), [encode_commit("bafkrei" + "a" * 52, '{"size":1}')]),
    Parser("add-checkpoint", read_request, (RequestMalformed,), [write_request(3, [b"x" * 32], NOTE.decode())]),
]  # fmt: skip


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Change some bytes as faults, forgers and fuzzers do."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.choice(PIECES)
            case 2:
                del data[at : at + rng.choice((1, 2, 8, 64))]
            case 3:
                data[at : at + rng.choice((1, 4, 16))] = rng.choice(PIECES)
            case 4:
                data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.choice((1, 8, 200))]
            case 5:
                del data[at:]
            case _:
                data[at:at] = rng.randbytes(rng.choice((1, 3, 32)))
    return bytes(data)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: str(parser.name))
def test_a_parser_reads_or_refuses_and_nothing_else(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(parser.name)
    for seed in parser.seeds:
        try:
            parser.read(seed)
        except parser.refuses:
            assert parser.name == "proof", f"{parser.name} refuses its own example"
    until = time.monotonic() + FULL_SECONDS
    read = tried = 0
    while tried < INPUTS or (FULL and time.monotonic() < until):
        data = mutated(rng.choice(parser.seeds), rng)
        tried += 1
        try:
            parser.read(data)
            read += 1
        except parser.refuses:
            continue
        except Exception as error:
            pytest.fail(f"{parser.name}: {type(error).__name__}: {error} for {data[:300]!r}")
    with capsys.disabled():
        print(f"\n{parser.name}: {tried} inputs, {read} read, {tried - read} refused, no crash")
    assert read < tried


def test_a_tally_that_reads_is_judged_without_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random("judged")
    judged = 0
    for _ in range(INPUTS * 20 if FULL else INPUTS // 10):
        value = json.loads(TALLY)
        item = rng.choice(value["receipts"])
        item["bytes"] = mutated(item["bytes"].encode(), rng).decode("utf-8", "replace")
        try:
            data = encode(value)
            tally = read_tally(data)
        except (NotCanonical, NotATally):
            continue
        assert read_tally(write_tally(tally)) == tally
        report = verify_tally(data, TRUSTED)
        assert report.exit_code != 0
        judged += 1
    with capsys.disabled():
        print(f"\njudged: {judged} tallies with a changed receipt, none held, no crash")
    assert judged
