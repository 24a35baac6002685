"""Cosignatures: those of witnesses that the trust file names count, and each is checked.

Source: C2SP tlog-cosignature (https://c2sp.org/tlog-cosignature), cosignature/v1.
"""

import base64
from dataclasses import replace

import pytest

from jobs.client.trust import Trust
from jobs.client.verdicts import Verdict, Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, verify
from receipts.checkpoint import COSIGNATURE_V1, Vkey, make_vkey
from receipts.keys import Ed25519Signer
from tests.jobs.client.house import House, seed

NAMES = ("first.witness", "second.witness")
KEYS = {name: Ed25519Signer(seed(name)) for name in (*NAMES, "stranger.witness")}
VKEYS: dict[str, Vkey] = {name: make_vkey(name, key.public, COSIGNATURE_V1) for name, key in KEYS.items()}


def cosigned(note: str, name: str, *, moment: int = 1_795_000_000, said: int | None = None) -> str:
    """Add the line of a witness; `said` is the time that the line tells, if another than was signed."""
    text = note.partition("\n\n")[0] + "\n"
    signature = KEYS[name].sign(f"cosignature/v1\ntime {moment}\n{text}".encode())
    raw = VKEYS[name].key_hash + (moment if said is None else said).to_bytes(8) + signature
    return f"{note}\u2014 {name} {base64.b64encode(raw).decode()}\n"


@pytest.fixture
def watched(house: House) -> Trust:
    return house.trust(witnesses=[str(VKEYS[name]) for name in NAMES])


def verdict(house: House, trust: Trust, note: str) -> tuple[Verdict, int]:
    report = verify(replace(house.tally, checkpoint=note), trust, artifact=house.artifact)
    assert report.of("checkpoint").verdict is Word.HOLDS, "the log's own signature stays good"
    return report.of("witnesses"), report.exit_code


def test_all_witnesses_together_hold(house: House, watched: Trust) -> None:
    note = cosigned(cosigned(str(house.tally.checkpoint), NAMES[0]), NAMES[1])
    found, exit_code = verdict(house, watched, note)
    assert (found.verdict, exit_code) == (Word.HOLDS, EXIT_HOLDS)
    assert found.detail == "cosigned by first.witness, second.witness"


def test_a_missing_witness_is_unknown_and_named(house: House, watched: Trust) -> None:
    found, _ = verdict(house, watched, cosigned(str(house.tally.checkpoint), NAMES[0]))
    assert (found.verdict, found.detail) == (Word.UNKNOWN, "not cosigned by second.witness")


@pytest.mark.parametrize("spoilt", ["time", "signature", "length", "twice"])
def test_a_cosignature_that_does_not_fit_is_broken(house: House, watched: Trust, spoilt: str) -> None:
    note = str(house.tally.checkpoint)
    if spoilt == "time":
        note = cosigned(note, NAMES[0], said=1)
    elif spoilt == "signature":
        note = cosigned(note, NAMES[0]).replace(cosigned(note, NAMES[0])[-30:-20], "AAAAAAAAAA")
    elif spoilt == "length":
        note = f"{note}\u2014 {NAMES[0]} {base64.b64encode(VKEYS[NAMES[0]].key_hash + bytes(64)).decode()}\n"
    else:
        note = cosigned(cosigned(note, NAMES[0]), NAMES[0], moment=1_795_000_001)
    found, exit_code = verdict(house, watched, note)
    assert (found.verdict, found.field, exit_code) == (Word.BROKEN, "checkpoint", EXIT_BROKEN)


def test_a_stranger_vouches_for_nothing(house: House, trust: Trust, watched: Trust) -> None:
    note = cosigned(str(house.tally.checkpoint), "stranger.witness")
    for believed in (trust, watched):
        found, _ = verdict(house, believed, note)
        assert found.verdict is Word.UNKNOWN and "stranger.witness" in found.detail


def test_a_second_signature_in_the_logs_name_must_be_the_logs(house: House, trust: Trust) -> None:
    mallory = make_vkey("tallystick.test/log", KEYS["stranger.witness"].public)
    raw = base64.b64encode(mallory.key_hash + bytes(64)).decode()
    note = f"{house.tally.checkpoint}\u2014 tallystick.test/log {raw}\n"
    report = verify(replace(house.tally, checkpoint=note), trust)
    assert report.of("checkpoint").verdict is Word.BROKEN
