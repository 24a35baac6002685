"""Cosignatures: those of witnesses that the trust file names count, and each is checked.

Source: C2SP tlog-cosignature (https://c2sp.org/tlog-cosignature), cosignature/v1.
"""

import base64
import os
import random
from dataclasses import replace

import pytest

from jobs.client.trust import NotATrustFile, Trust
from jobs.client.verdicts import Verdict, Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, EXIT_UNKNOWN, verify
from receipts.checkpoint import COSIGNATURE_V1, NoteSignature, Vkey, make_vkey, parse_note
from receipts.keys import Ed25519Signer
from tests.jobs.client.house import REQUIRED, House, seed

FULL = os.environ.get("TALLYSTICK_TEST_FULL") == "1"
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
    when = "2026-11-18T11:06:40Z"
    assert found.detail == f"cosigned by first.witness at {when}, second.witness at {when}"
    assert found.false_only_if == "all witnesses collude with the hub"


def test_a_missing_witness_is_unknown_and_named(house: House, watched: Trust) -> None:
    found, _ = verdict(house, watched, cosigned(str(house.tally.checkpoint), NAMES[0]))
    assert (found.verdict, found.detail) == (Word.UNKNOWN, "not cosigned by second.witness")


def quorum(house: House, wanted: int) -> Trust:
    policy = {"require": [*REQUIRED, "witnesses"], "embedded": True, "witness_quorum": wanted}
    return house.trust(witnesses=[str(VKEYS[name]) for name in NAMES], policy=policy)


def test_a_quorum_of_the_witnesses_is_enough_where_the_trust_file_says_so(house: House) -> None:
    note = str(house.tally.checkpoint)
    found, exit_code = verdict(house, quorum(house, 1), cosigned(note, NAMES[1]))
    assert (found.verdict, exit_code) == (Word.HOLDS, EXIT_HOLDS)
    assert found.detail.endswith("; not by first.witness")
    found, exit_code = verdict(house, quorum(house, 1), note)
    assert (found.verdict, exit_code) == (Word.UNKNOWN, EXIT_UNKNOWN)
    assert found.detail == "not cosigned by first.witness, second.witness: 0 of 2 did, 1 are due"


def test_a_trust_file_without_a_quorum_asks_for_all_and_none_can_ask_for_more(house: House) -> None:
    assert house.trust(witnesses=[str(VKEYS[name]) for name in NAMES]).witness_quorum == 2
    assert house.trust().witness_quorum == 0
    with pytest.raises(NotATrustFile, match="is 3, and 2 witnesses are named"):
        quorum(house, 3)


def test_one_broken_cosignature_breaks_the_claim_whatever_the_quorum(house: House) -> None:
    note = cosigned(cosigned(str(house.tally.checkpoint), NAMES[0]), NAMES[1], said=1)
    found, exit_code = verdict(house, quorum(house, 1), note)
    assert (found.verdict, exit_code) == (Word.BROKEN, EXIT_BROKEN)


@pytest.mark.parametrize("changed", ["name", "hash"])
def test_a_cosignature_under_another_name_is_broken_not_a_strangers(house: House, changed: str) -> None:
    line = parse_note(cosigned(str(house.tally.checkpoint), NAMES[0])).signatures[1]
    other = (
        NoteSignature("other.witness", line.key_hash, line.signature)
        if changed == "name"
        else NoteSignature(line.name, bytes(4), line.signature)
    )
    found, _ = verdict(house, quorum(house, 1), cosigned(f"{house.tally.checkpoint}{other}", NAMES[1]))
    assert found.verdict is Word.BROKEN and "first.witness" in found.detail


def test_every_changed_character_of_a_cosigned_checkpoint_is_broken_or_takes_a_voice_away(house: House) -> None:
    """Whatever is changed in the lines of the witnesses, what holds afterwards never says more than was signed."""
    trust, dice = quorum(house, 2), random.Random(7)
    note = cosigned(cosigned(str(house.tally.checkpoint), NAMES[0]), NAMES[1])
    begins = len(str(house.tally.checkpoint))
    places = range(begins, len(note)) if FULL else dice.sample(range(begins, len(note)), 60)
    for place in places:
        for new in dice.sample("ABCxyz019+/= \n\u2014.", 3):
            changed = note[:place] + new + note[place + 1 :]
            if changed != note:
                report = verify(replace(house.tally, checkpoint=changed), trust)
                assert report.of("witnesses").verdict is not Word.HOLDS, (place, new)
    print(f"{len(places)} places changed")


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


def test_a_stranger_vouches_for_nothing_and_spoils_nothing(house: House, trust: Trust, watched: Trust) -> None:
    note = cosigned(str(house.tally.checkpoint), "stranger.witness")
    for believed, word in ((trust, Word.NOT_CLAIMED), (watched, Word.UNKNOWN)):
        found, _ = verdict(house, believed, note)
        assert found.verdict is word and "stranger.witness" in found.detail
    found, exit_code = verdict(house, watched, cosigned(cosigned(note, NAMES[0]), NAMES[1]))
    assert (found.verdict, exit_code) == (Word.HOLDS, EXIT_HOLDS)
    assert found.detail.endswith("besides by stranger.witness, whom the trust file does not name")


def test_a_second_signature_in_the_logs_name_must_be_the_logs(house: House, trust: Trust) -> None:
    mallory = make_vkey("tallystick.test/log", KEYS["stranger.witness"].public)
    raw = base64.b64encode(mallory.key_hash + bytes(64)).decode()
    note = f"{house.tally.checkpoint}\u2014 tallystick.test/log {raw}\n"
    report = verify(replace(house.tally, checkpoint=note), trust)
    assert report.of("checkpoint").verdict is Word.BROKEN
