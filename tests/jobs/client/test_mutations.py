"""No field is decorative: whatever is changed anywhere in a tally, the verifier says broken or refuses the file."""

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.client.tally_format import NotATally
from jobs.client.trust import Trust
from jobs.client.verdicts import Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, EXIT_NEWER, EXIT_NOT_A_TALLY, EXIT_UNKNOWN, verify_tally
from receipts.canonical import decode, encode
from tests.jobs.client.house import House, Keys

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
SAMPLE = 400
SEED = 20261121
Path_ = tuple[str | int, ...]


def check(data: bytes, trust: Trust, artifact: bytes | None) -> int:
    """Verify as the command line does: refusing the file is an answer too."""
    try:
        report = verify_tally(data, trust, artifact=artifact)
    except NotATally:
        return EXIT_NOT_A_TALLY
    if report.exit_code == EXIT_BROKEN:
        assert all(item.field for item in report.verdicts if item.verdict is Word.BROKEN), "a break names its field"
    return report.exit_code


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """List every value that is neither object nor list, with the way to it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def replaced(value: Any, path: Path_, new: Any) -> Any:
    """Copy a JSON value with one place changed; `...` removes it."""
    copy = json.loads(json.dumps(value))
    place = copy
    for step in path[:-1]:
        place = place[step]
    if new is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return copy


def changes(value: Any, dice: random.Random) -> Iterator[Any]:
    """Change one value: a character, a number, its type, its end."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield max(0, value - 1) if value else value + 2
        yield str(value)
    else:
        place = dice.randrange(len(value))
        other = dice.choice([c for c in "0123456789abcdefxyzABCXYZ" if c != value[place]])
        yield value[:place] + other + value[place + 1 :]
        yield value[:-1]
        yield value + other
        yield value.swapcase() if value.swapcase() != value else value + value


def all_changes(tally: dict[str, Any], dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Change every value of a tally, those inside receipts and inside the claims in them too."""
    for path, value in leaves(tally):
        for new in changes(value, dice):
            yield f"{path} -> {str(new)[:40]!r}", replaced(tally, path, new)
    for index, item in enumerate(tally["receipts"]):
        receipt = decode(item["bytes"].encode())
        place: Path_ = ("receipts", index, "bytes")
        for path, value in leaves(receipt):
            for new in changes(value, dice):
                text = encode(replaced(receipt, path, new)).decode()
                yield f"receipts[{index}] {path} -> {str(new)[:40]!r}", replaced(tally, place, text)
        if "claim" in receipt["data"]:
            claim = decode(receipt["data"]["claim"].encode())
            for path, value in leaves(claim):
                for new in changes(value, dice):
                    told = encode(replaced(claim, path, new)).decode()
                    text = encode(replaced(receipt, ("data", "claim"), told)).decode()
                    yield f"receipts[{index}] claim {path} -> {str(new)[:40]!r}", replaced(tally, place, text)


@pytest.fixture(scope="module")
def tally(house: House) -> dict[str, Any]:
    """The tally as a JSON value."""
    value: dict[str, Any] = json.loads(house.file)
    return value


def test_the_unchanged_tally_holds(house: House, trust: Trust) -> None:
    assert check(house.file, trust, house.artifact) == EXIT_HOLDS


def test_whatever_value_is_changed_is_found(
    tally: dict[str, Any], house: House, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(SEED)
    every = list(all_changes(tally, dice))
    tried = every if FULL else dice.sample(every, SAMPLE)
    # Without the artifact, whose credential costs most: every change must be found by the other claims.
    missed = [
        told
        for told, changed in tried
        if check(encode(changed), trust, None) not in (EXIT_BROKEN, EXIT_NOT_A_TALLY, EXIT_NEWER)
    ]
    with capsys.disabled():
        print(f"\n{len(tried)} of {len(every)} changed values tried, {len(tried) - len(missed)} found")
    assert missed == []


def test_whatever_field_is_removed_is_found(tally: dict[str, Any], house: House, trust: Trust) -> None:
    # What may be missing is not broken but unknown, and what is required then fails all the same.
    may_be_missing: dict[Path_, int] = {
        ("anchor",): EXIT_UNKNOWN,
        ("mint",): EXIT_UNKNOWN,
        ("disclosed",): EXIT_HOLDS,
        ("disclosed", 0): EXIT_HOLDS,
        ("disclosed", 1): EXIT_HOLDS,
    }
    paths = {path[:length] for path, _ in leaves(tally) for length in range(1, len(path) + 1)}
    assert may_be_missing.keys() <= paths
    for path in paths:
        changed = encode(replaced(tally, path, ...))
        if path in may_be_missing:
            assert check(changed, trust, house.artifact) == may_be_missing[path], path
        else:
            assert check(changed, trust, None) in (EXIT_BROKEN, EXIT_NOT_A_TALLY), path


def test_an_added_field_is_refused(tally: dict[str, Any], trust: Trust) -> None:
    for place in ((), ("promise",), ("promise", "sig"), ("receipts", 0), ("anchor",), ("mint",), ("disclosed", 0)):
        changed = replaced(tally, (*place, "note"), "decoration")
        assert check(encode(changed), trust, None) == EXIT_NOT_A_TALLY, place


def test_swapped_and_repeated_receipts_are_found(tally: dict[str, Any], trust: Trust) -> None:
    receipts = tally["receipts"]
    for index in range(len(receipts) - 1):
        swapped = [*receipts]
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        assert check(encode({**tally, "receipts": swapped}), trust, None) == EXIT_BROKEN, index
    for index in range(len(receipts)):
        repeated = [*receipts[:index], receipts[index], *receipts[index:]]
        assert check(encode({**tally, "receipts": repeated}), trust, None) == EXIT_BROKEN, index


def test_a_left_out_receipt_is_found_wherever_it_stood(tally: dict[str, Any], trust: Trust) -> None:
    receipts = tally["receipts"]
    for index in range(len(receipts)):
        left = [*receipts[:index], *receipts[index + 1 :]]
        assert check(encode({**tally, "receipts": left}), trust, None) == EXIT_BROKEN, index


def test_a_story_cut_off_before_its_mint_is_found(tally: dict[str, Any], trust: Trust) -> None:
    for length in range(1, len(tally["receipts"])):
        cut = {**tally, "receipts": tally["receipts"][:length]}
        assert check(encode(cut), trust, None) == EXIT_BROKEN, length


def test_a_truncated_file_is_refused(house: House, trust: Trust) -> None:
    data = house.file.rstrip()
    for end in random.Random(SEED).sample(range(len(data)), 50):
        assert check(data[:end], trust, None) == EXIT_NOT_A_TALLY, end


def test_bytes_changed_at_random_are_found_or_change_nothing(
    tally: dict[str, Any], house: House, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(SEED)
    rounds = 20_000 if FULL else 300
    for _ in range(rounds):
        data = bytearray(house.file)
        for _ in range(dice.choice([1, 1, 2, 5])):
            place, other, length = dice.randrange(len(data)), dice.randrange(len(data)), dice.choice([1, 10, 100])
            act = dice.randrange(4)
            if act == 0:
                data[place] ^= 1 << dice.randrange(8)
            elif act == 1:
                del data[place : place + length]
            elif act == 2:
                data[place:place] = bytes([dice.randrange(32, 127)])
            else:
                data[place : place + length] = data[other : other + length]
        if check(bytes(data), trust, None) not in (EXIT_BROKEN, EXIT_NOT_A_TALLY, EXIT_NEWER):
            assert json.loads(data) == tally
    with capsys.disabled():
        print(f"\n{rounds} files with changed bytes tried")


def test_two_spellings_of_one_tally_are_not_both_read(tally: dict[str, Any], trust: Trust) -> None:
    upper = {**tally, "anchor": {"raw": "0x" + tally["anchor"]["raw"][2:].upper()}}
    assert check(encode(upper), trust, None) == EXIT_NOT_A_TALLY
    twice = encode(tally)[:-1] + b',"format":"tallystick-tally/1"}'
    assert check(twice, trust, None) == EXIT_NOT_A_TALLY
    zero = encode(tally).replace(b'"leaf":5,', b'"leaf":5.0,')
    assert check(zero, trust, None) == EXIT_NOT_A_TALLY


def test_a_forged_tally_with_its_own_keys_is_broken(house: House, trust: Trust, folder: Any) -> None:
    mallory = House(folder, keys=Keys("mallory"))
    assert verify_tally(mallory.file, mallory.trust(), artifact=mallory.artifact).exit_code == EXIT_HOLDS
    report = verify_tally(mallory.file, trust, artifact=mallory.artifact)
    assert report.exit_code == EXIT_BROKEN
    broken = {item.claim for item in report.verdicts if item.verdict is Word.BROKEN}
    assert broken >= {"request-signed", "work-signed", "promise", "checkpoint", "anchor", "usage", "attestation"}


@pytest.mark.parametrize("role", ["log", "hub", "provider", "client", "attester", "sender"])
def test_one_forged_key_is_enough_to_break(role: str, house: House, trust: Trust, folder: Any) -> None:
    keys = Keys()
    setattr(keys, role, getattr(Keys("mallory"), role))
    assert check(House(folder, keys=keys).file, trust, None) == EXIT_BROKEN


def test_a_tampered_receipt_is_named(tally: dict[str, Any], house: House, trust: Trust) -> None:
    index = next(i for i, item in enumerate(tally["receipts"]) if '"JobCompleted"' in item["bytes"])
    text = tally["receipts"][index]["bytes"].replace('\\"value\\":1500', '\\"value\\":1501')
    report = verify_tally(encode(replaced(tally, ("receipts", index, "bytes"), text)), trust, artifact=house.artifact)
    assert report.of("work-signed").field == f"receipts[{index}] JobCompleted data.claim"
    assert report.of("inclusion").field == f"receipts[{index}].bytes"
    assert report.of("receipts-chain").field == f"receipts[{index + 1}] CredentialIssued prev"
    assert report.of("receipts-chain").expected != report.of("receipts-chain").found


def test_a_tampered_picture_is_named(house: House, trust: Trust) -> None:
    changed = bytearray(house.artifact)
    changed[60] ^= 1
    report = verify_tally(house.file, trust, artifact=bytes(changed))
    assert report.exit_code == EXIT_BROKEN
    assert report.of("artifact").field == "artifact sha256"
    assert report.of("credential").verdict is Word.BROKEN
    others = {item.verdict for item in report.verdicts if item.claim not in ("artifact", "credential")}
    assert Word.BROKEN not in others
