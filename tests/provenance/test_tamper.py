"""Whoever changes a byte of a signed file is noticed: outside the manifest by C2PA, everywhere by the receipt.

C2PA leaves about a thousand bytes of the manifest uncovered: padding, box labels, the chunk's CRC. A
change there is noticed by the signed file's digest in the CredentialIssued receipt, and changes nothing
of what a reader is told. Both halves are held here.
"""

import random
from dataclasses import replace

import pytest

from provenance.authority import Authority
from provenance.verify import CredentialReading, NotReadable, read_credential
from tests.provenance.conftest import Sign, chunk, drawing

MANIFEST_STARTS = 33  # after the signature and IHDR


def manifest_range(signed: bytes) -> range:
    """Say where the caBX chunk lies, its length and CRC included."""
    assert signed[MANIFEST_STARTS + 4 : MANIFEST_STARTS + 8] == b"caBX"
    return range(MANIFEST_STARTS, MANIFEST_STARTS + 12 + int.from_bytes(signed[MANIFEST_STARTS : MANIFEST_STARTS + 4]))


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def read(data: bytes, authority: Authority) -> CredentialReading | NotReadable:
    return read_credential(data, "image/png", root_pem=authority.root_pem, contained=False)


def is_noticed(data: bytes, authority: Authority) -> bool:
    answer = read(data, authority)
    return isinstance(answer, NotReadable) or not answer.trusted


def test_every_flipped_byte_outside_the_manifest_is_noticed_by_c2pa_alone(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(8))
    manifest = manifest_range(signed)
    outside = [position for position in range(len(signed)) if position not in manifest]
    assert len(outside) > 200
    bits = random.Random(5)
    assert [at for at in outside if not is_noticed(flipped(signed, at, bits.randrange(8)), authority)] == []


def test_a_flipped_byte_inside_the_manifest_is_noticed_or_changes_nothing_but_the_digest(
    sign: Sign, authority: Authority
) -> None:
    signed, prepared = sign(drawing(8))
    original = read(signed, authority)
    assert isinstance(original, CredentialReading)
    assert original.sha256 == prepared.signed.sha256
    chosen = random.Random(6).sample(manifest_range(signed), 600)
    unnoticed = 0
    for position in chosen:
        answer = read(flipped(signed, position), authority)
        if isinstance(answer, CredentialReading) and answer.trusted:
            unnoticed += 1
            assert answer.sha256 != original.sha256, position  # the receipt's digest notices every byte
            assert replace(answer, sha256=original.sha256) == original, position
    # Most of them are the signature's padding; more would mean that what is read is no longer covered.
    assert unnoticed < 0.35 * len(chosen)


@pytest.mark.parametrize(
    "change",
    [
        lambda signed: signed + b"\0",
        lambda signed: signed[:-12] + chunk(b"tEXt", b"Comment\0added") + signed[-12:],
        lambda signed: signed[:MANIFEST_STARTS] + chunk(b"tEXt", b"Comment\0added") + signed[MANIFEST_STARTS:],
        lambda signed: signed[: manifest_range(signed).stop] + signed[MANIFEST_STARTS:],
    ],
    ids=["a byte after the end", "a chunk at the end", "a chunk before the manifest", "the manifest twice"],
)
def test_what_is_added_is_noticed(sign: Sign, authority: Authority, change: object) -> None:
    assert callable(change)
    signed, _ = sign(drawing(8))
    assert not is_noticed(signed, authority)
    assert is_noticed(change(signed), authority)


def test_a_credential_moved_to_another_picture_is_noticed(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(8, seed=1))
    other = drawing(8, seed=9)
    manifest = manifest_range(signed)
    moved = other[:MANIFEST_STARTS] + signed[manifest.start : manifest.stop] + other[MANIFEST_STARTS:]
    answer = read(moved, authority)
    assert isinstance(answer, CredentialReading)
    assert not answer.trusted
    assert "assertion.dataHash.mismatch" in answer.failures


def test_a_picture_whose_credential_was_cut_out_carries_none(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(8))
    manifest = manifest_range(signed)
    bare = signed[: manifest.start] + signed[manifest.stop :]
    assert bare == drawing(8)
    answer = read(bare, authority)
    assert isinstance(answer, NotReadable)
    assert answer.absent
