"""Keys and signatures: published vectors, twins that must not pass, and files that others may read."""

import base64
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.canonical import b64url, unb64url
from receipts.keys import (
    ROLES,
    Ed25519Signer,
    KeyUnusable,
    Role,
    Secp256k1Signer,
    SignatureBroken,
    ed25519_signer,
    keccak256,
    load_signer,
    make_key_file,
    parse_key,
    read_key_file,
    recover_address,
    secp256k1_signer,
    sign_text,
    verify_text,
)
from tests.vectors import vectors

ADA = Ed25519Signer(bytes(range(32)))
MALLORY = Ed25519Signer(bytes(range(1, 33)))
BO = Secp256k1Signer((7).to_bytes(32))
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


@pytest.fixture(autouse=True)
def no_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TALLYSTICK_KEY_"):
            monkeypatch.delenv(name)


# --- Ed25519 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", vectors("ed25519")["tests"], ids=lambda vector: f"{len(vector['message']) // 2} bytes"
)
def test_the_signatures_of_rfc_8032_are_met(vector: dict[str, str]) -> None:
    signer = Ed25519Signer(bytes.fromhex(vector["seed"]))
    assert signer.public.hex() == vector["public"]
    assert signer.sign(bytes.fromhex(vector["message"])).hex() == vector["signature"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_signed_text_is_its_signers(text: str) -> None:
    signature = sign_text(ADA, text)
    assert verify_text(text, signature) == ADA.key_id
    assert verify_text(text, signature, key_id=ADA.key_id) == ADA.key_id


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_a_signature_fits_one_text(text: str, other: str) -> None:
    if other != text:
        with pytest.raises(SignatureBroken):
            verify_text(other, sign_text(ADA, text))


@given(st.integers(0, 511))
def test_a_signature_with_one_flipped_bit_is_broken(bit: int) -> None:
    signature = sign_text(ADA, "a red circle")
    raw = bytearray(unb64url(signature["sig"]))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureBroken):
        verify_text("a red circle", {**signature, "sig": b64url(bytes(raw))})


def test_the_malleable_twin_of_a_signature_is_broken() -> None:
    """S + L verifies in a sloppy implementation; RFC 8032 §5.1.7 demands S < L."""
    signature = sign_text(ADA, "text")
    raw = unb64url(signature["sig"])
    order = 2**252 + 27742317777372353535851937790883648493
    twin = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(SignatureBroken):
        verify_text("text", {**signature, "sig": b64url(twin)})


@pytest.mark.parametrize("point", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ff" * 32])
def test_a_key_that_signs_everything_is_no_key(point: str) -> None:
    """Points of small order and points off the curve: R = identity, S = 0 would fit any text."""
    key_id = b64url(bytes.fromhex(point))
    with pytest.raises(SignatureBroken):
        verify_text("text", {"alg": "Ed25519", "key_id": key_id, "sig": b64url(b"\x01" + bytes(63))})


def test_another_signer_than_the_one_expected_is_named() -> None:
    with pytest.raises(SignatureBroken, match=MALLORY.key_id):
        verify_text("text", sign_text(MALLORY, "text"), key_id=ADA.key_id)


GOOD = sign_text(ADA, "text")
NOT_SIGNATURES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no alg": {"key_id": GOOD["key_id"], "sig": GOOD["sig"]},
    "a field more": {**GOOD, "at": "now"},
    "another alg": {**GOOD, "alg": "EIP-712"},
    "alg none": {**GOOD, "alg": "none"},
    "alg in lower case": {**GOOD, "alg": "ed25519"},
    "alg as a list": {**GOOD, "alg": ["Ed25519"]},
    "a number as sig": {**GOOD, "sig": 7},
    "sig null": {**GOOD, "sig": None},
    "sig empty": {**GOOD, "sig": ""},
    "sig padded": {**GOOD, "sig": GOOD["sig"] + "=="},
    "sig in standard base64": {**GOOD, "sig": base64.b64encode(unb64url(GOOD["sig"])).decode()},
    "sig too short": {**GOOD, "sig": GOOD["sig"][:-4]},
    "sig too long": {**GOOD, "sig": b64url(unb64url(GOOD["sig"]) + b"\x00")},
    "key_id empty": {**GOOD, "key_id": ""},
    "key_id too short": {**GOOD, "key_id": GOOD["key_id"][:-4]},
    "key_id of another": {**GOOD, "key_id": MALLORY.key_id},
    "key_id with half a surrogate": {**GOOD, "key_id": "\ud800"},
    "sig with half a surrogate": {**GOOD, "sig": "\ud800"},
}


@pytest.mark.parametrize("signature", NOT_SIGNATURES.values(), ids=NOT_SIGNATURES.keys())
def test_what_is_no_signature_is_refused(signature: dict[str, Any]) -> None:
    with pytest.raises(SignatureBroken):
        verify_text("text", signature)
    with pytest.raises(SignatureBroken):
        verify_text("text", signature, key_id=ADA.key_id)


def test_a_text_with_half_a_surrogate_has_no_bytes_to_sign() -> None:
    with pytest.raises(SignatureBroken):
        verify_text("\ud800", GOOD)


# --- keccak and secp256k1 -----------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("keccak")["digests"], ids=lambda vector: vector["text"] or "nothing")
def test_keccak_gives_ethereums_digests(vector: dict[str, str]) -> None:
    assert keccak256(vector["text"].encode()).hex() == vector["keccak256"]


@pytest.mark.parametrize("vector", vectors("keccak")["addresses"], ids=lambda vector: vector["address"][:6])
def test_a_key_has_its_published_address(vector: dict[str, str]) -> None:
    assert Secp256k1Signer(bytes.fromhex(vector["secret"])).address == vector["address"]


@given(st.binary(min_size=32, max_size=32), st.integers(1, ORDER - 1))
def test_who_signed_a_digest_is_recovered(digest: bytes, secret: int) -> None:
    signer = Secp256k1Signer(secret.to_bytes(32))
    signature = signer.sign_digest(digest)
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64]) <= ORDER // 2, "EIP-2: s is low"
    assert recover_address(digest, signature) == signer.address


def twin(signature: bytes) -> bytes:
    """The other signature that recovers to the same key: s -> n - s, v flipped."""
    high = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + high.to_bytes(32) + bytes([55 - signature[64]])


@given(st.binary(min_size=32, max_size=32))
def test_the_high_s_twin_of_a_signature_is_refused(digest: bytes) -> None:
    with pytest.raises(SignatureBroken, match="s is high"):
        recover_address(digest, twin(BO.sign_digest(digest)))


DIGEST = keccak256(b"usage")
SIGNED = BO.sign_digest(DIGEST)
NOT_RECOVERABLE = {
    "nothing": b"",
    "64 bytes": SIGNED[:64],
    "66 bytes": SIGNED + b"\x00",
    "v as 0 or 1": SIGNED[:64] + bytes([SIGNED[64] - 27]),
    "v of EIP-155": SIGNED[:64] + bytes([SIGNED[64] + 10]),
    "r is zero": bytes(32) + SIGNED[32:],
    "s is zero": SIGNED[:32] + bytes(32) + SIGNED[64:],
    "r is the order": ORDER.to_bytes(32) + SIGNED[32:],
    "r beyond the field": b"\xff" * 32 + SIGNED[32:],
}


@pytest.mark.parametrize("signature", NOT_RECOVERABLE.values(), ids=NOT_RECOVERABLE.keys())
def test_what_recovers_to_no_key_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureBroken):
        recover_address(DIGEST, signature)


def test_a_changed_digest_recovers_to_another_or_no_key() -> None:
    try:
        assert recover_address(keccak256(b"other"), SIGNED) != BO.address
    except SignatureBroken as error:
        assert "recovers to no key" in str(error)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_has_32_bytes(size: int) -> None:
    with pytest.raises(SignatureBroken):
        recover_address(bytes(size), SIGNED)


# --- key files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alg", "kind"), [("ed25519", Ed25519Signer), ("secp256k1", Secp256k1Signer)])
def test_a_made_key_file_is_private_and_loads(tmp_path: Path, alg: Any, kind: type) -> None:
    path = tmp_path / "keys" / "log.key"
    make_key_file(path, alg)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert isinstance(read_key_file(path), kind)
    assert [item.name for item in path.parent.iterdir()] == ["log.key"], "no draft is left behind"


def test_an_umask_of_others_does_not_open_a_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_key_file(tmp_path / "log.key", "ed25519")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    make_key_file(path, "ed25519")
    before = path.read_bytes()
    make_key_file(path, "ed25519")
    assert path.read_bytes() == before


def test_of_many_makers_at_once_one_wins_and_all_use_its_key(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    ready = threading.Barrier(8)
    seen: list[str] = []

    def make() -> None:
        ready.wait()
        make_key_file(path, "ed25519")
        seen.append(read_key_file(path).key_id)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["log.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o666, 0o777, 0o610])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "log.key"
    make_key_file(path, "ed25519")
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"{mode:04o}"):
        read_key_file(path)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"log\.key can't be read"):
        load_signer("log", tmp_path)


SECRET = b64url(bytes(range(32)))
NOT_KEYS = {
    "nothing": "",
    "a word": "secret",
    "a seed without its algorithm": SECRET,
    "another algorithm": f"rsa:{SECRET}",
    "a short seed": f"ed25519:{SECRET[:-4]}",
    "a padded seed": f"ed25519:{SECRET}=",
    "a seed in hexadecimal": "ed25519:" + "00" * 32,
    "secp256k1 without 0x": "secp256k1:" + "11" * 32,
    "a short secret": "secp256k1:0x" + "11" * 31,
    "a secret with blanks": "secp256k1:0x" + "11" * 31 + "  ",
    "a secret with blanks inside": "secp256k1:0x11  " + "11" * 30,
    "a secret that is not hexadecimal": "secp256k1:0x" + "zz" * 32,
    "zero": "secp256k1:0x" + "00" * 32,
    "the order": f"secp256k1:0x{ORDER:064x}",
    "two lines": f"ed25519:{SECRET}\ned25519:{SECRET}",
}


@pytest.mark.parametrize("text", NOT_KEYS.values(), ids=NOT_KEYS.keys())
def test_what_is_no_key_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(KeyUnusable) as refusal:
        parse_key(text, where="here")
    assert "here" in str(refusal.value)
    for secret in (SECRET[:8], "11" * 8, f"{ORDER:064x}"[-8:]):
        assert secret not in str(refusal.value)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00ed25519", b"\x00" * 64, b"ed25519:\xc3\x28"])
def test_a_file_of_garbage_holds_no_key(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable):
        read_key_file(path)


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_key_file(tmp_path / "hub.key", "ed25519")
    in_folder = load_signer("hub", tmp_path).key_id
    make_key_file(tmp_path / "elsewhere", "ed25519")
    monkeypatch.setenv("TALLYSTICK_KEY_HUB_FILE", str(tmp_path / "elsewhere"))
    in_named_file = load_signer("hub", tmp_path).key_id
    monkeypatch.setenv("TALLYSTICK_KEY_HUB", f"ed25519:{SECRET}")
    in_environment = load_signer("hub", tmp_path).key_id
    assert len({in_folder, in_named_file, in_environment}) == 3
    assert in_environment == ADA.key_id
    assert load_signer("hub").key_id == ADA.key_id


def test_empty_variables_name_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass unset secrets on as empty text."""
    monkeypatch.setenv("TALLYSTICK_KEY_HUB", "")
    monkeypatch.setenv("TALLYSTICK_KEY_HUB_FILE", "")
    with pytest.raises(KeyUnusable, match="TALLYSTICK_KEY_HUB"):
        load_signer("hub")
    make_key_file(tmp_path / "hub.key", "ed25519")
    assert load_signer("hub", tmp_path).key_id


@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_a_key_is_named(role: Role) -> None:
    with pytest.raises(KeyUnusable, match=f"role {role}"):
        load_signer(role)


def test_a_key_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    make_key_file(tmp_path / "log.key", "secp256k1")
    make_key_file(tmp_path / "sender.key", "ed25519")
    with pytest.raises(KeyUnusable, match="must be Ed25519"):
        ed25519_signer("log", tmp_path)
    with pytest.raises(KeyUnusable, match="must be secp256k1"):
        secp256k1_signer("sender", tmp_path)


def test_a_signer_does_not_show_its_secret() -> None:
    assert repr(ADA) == f"Ed25519Signer({ADA.key_id})"
    assert (7).to_bytes(32).hex() not in repr(BO)
    assert BO.address in repr(BO)
