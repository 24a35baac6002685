"""Both halves of the curves take and refuse the same: the C libraries, and Python alone in the one-file verifier."""

import hashlib
import os
import random

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from receipts import curves
from receipts.curves import NoSuchKey

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
ROUNDS = settings(max_examples=500 if FULL else 25, deadline=None)
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
# RFC 8032 §7.1, tests 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# The eight points of small order, and second spellings of three of them.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def fits(public: bytes, text: bytes, signature: bytes) -> bool:
    """Ask both halves; they must agree."""
    native = curves._ed25519_native(public, text, signature)
    assert curves.ed25519_in_python(public, text, signature) is native
    return native


def recovered(digest: bytes, signature: bytes, recovery: int) -> bytes | None:
    """Ask both halves; they must agree."""
    found: list[bytes | None] = []
    for half in (curves._recover_native, curves.recover_in_python):
        try:
            found.append(half(digest, signature, recovery))
        except NoSuchKey:
            found.append(None)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(("public", "text", "signature"), RFC_8032)
def test_the_standards_own_signatures_hold(public: str, text: str, signature: str) -> None:
    key, message, signed = (bytes.fromhex(part) for part in (public, text, signature))
    assert fits(key, message, signed)
    assert not fits(key, message + b"x", signed)


def test_a_second_spelling_of_the_scalar_is_refused() -> None:
    key, message, signed = (bytes.fromhex(part) for part in RFC_8032[1])
    twin = int.from_bytes(signed[32:], "little") + ED25519_ORDER
    assert not fits(key, message, signed[:32] + twin.to_bytes(32, "little"))


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_neither_key_nor_commitment(point: str) -> None:
    """With such a key, one signature would fit many texts."""
    key, message, signed = (bytes.fromhex(part) for part in RFC_8032[1])
    small = bytes.fromhex(point)
    for scalar in (bytes(32), signed[32:]):
        assert not fits(small, message, small + scalar)
        assert not fits(small, message, signed[:32] + scalar)
        assert not fits(key, message, small + scalar)


def test_a_part_of_small_order_is_judged_alike_in_key_and_commitment() -> None:
    """Where verifiers are known to part ways: with the cofactor these would hold, without they must not."""
    from ecdsa.eddsa import curve_ed25519, generator_ed25519
    from ecdsa.ellipticcurve import PointEdwards

    seed = hashlib.sha256(b"Mallory").digest()
    secret = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (2**254 - 8) | 2**254
    public = bytes(SigningKey(seed).verify_key)
    twist = PointEdwards.from_bytes(curve_ed25519, bytes.fromhex(SMALL_ORDER[4]))
    bent_key = bytes((PointEdwards.from_bytes(curve_ed25519, public) + twist).to_bytes())
    ends = set()
    for nonce in range(1, 17):
        plain = generator_ed25519 * nonce
        for key, point in ((public, plain + twist), (bent_key, plain)):
            commitment = bytes(point.to_bytes())
            challenge = int.from_bytes(hashlib.sha512(commitment + key + b"text").digest(), "little")
            scalar = (nonce + challenge * secret) % ED25519_ORDER
            ends.add((key == public, fits(key, b"text", commitment + scalar.to_bytes(32, "little"))))
    assert (True, False) in ends and (True, True) not in ends


@ROUNDS
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.data())
def test_whatever_bit_is_flipped_both_say_the_same(seed: bytes, text: bytes, data: st.DataObject) -> None:
    key = SigningKey(seed)
    public, signed = bytes(key.verify_key), key.sign(text).signature
    assert fits(public, text, signed)
    whole = bytearray(public + signed)
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[place // 8] ^= 1 << place % 8
    assert not fits(bytes(whole[:32]), text, bytes(whole[32:]))


@ROUNDS
@given(st.binary(min_size=96, max_size=96))
def test_noise_fits_nothing(noise: bytes) -> None:
    assert not fits(noise[:32], b"text", noise[32:])


@ROUNDS
@given(st.integers(1, SECP256K1_ORDER - 1), st.binary(min_size=32, max_size=32))
def test_the_signer_of_a_digest_is_recovered(secret: int, digest: bytes) -> None:
    key = PrivateKey(secret.to_bytes(32))
    signed = key.sign_recoverable(digest, hasher=None)
    public = key.public_key.format(compressed=False)
    assert recovered(digest, signed[:64], signed[64]) == public
    assert recovered(digest, signed[:64], signed[64] ^ 1) != public
    twin = signed[:32] + (SECP256K1_ORDER - int.from_bytes(signed[32:64])).to_bytes(32)
    assert recovered(digest, twin, signed[64] ^ 1) == public, "which is why a high s is refused before"


@ROUNDS
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.integers(0, 1))
def test_noise_recovers_to_the_same_key_or_to_none(digest: bytes, signature: bytes, recovery: int) -> None:
    recovered(digest, signature, recovery)


@pytest.mark.parametrize("r", [0, SECP256K1_ORDER, 2**256 - 1, 5, 1])
@pytest.mark.parametrize("s", [0, 1, SECP256K1_ORDER])
def test_numbers_at_the_edges_recover_alike(r: int, s: int) -> None:
    recovered(hashlib.sha256(b"edge").digest(), r.to_bytes(32) + s.to_bytes(32), 0)


def test_lengths_that_are_none_are_refused_and_never_crash() -> None:
    assert not curves.ed25519_fits(b"", b"", b"")
    assert not curves.ed25519_fits(bytes(31), b"", bytes(64))
    for digest, signature, recovery in ((b"", bytes(64), 0), (bytes(32), b"", 0), (bytes(32), bytes(64), 2)):
        with pytest.raises(NoSuchKey):
            curves.recover_public(digest, signature, recovery)


def test_keccak_is_the_same_at_every_length() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert curves.keccak_in_python(b"").hex() == empty == curves.keccak_256(b"").hex()
    dice = random.Random(20261121)
    for length in range(0, 420, 1 if FULL else 7):
        data = dice.randbytes(length)
        assert curves.keccak_in_python(data) == curves.keccak_256(data), length
    for length in (135, 136, 137, 271, 272, 273):
        assert curves.keccak_in_python(bytes(length)) == curves.keccak_256(bytes(length))
