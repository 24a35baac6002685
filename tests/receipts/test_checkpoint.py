"""Checkpoints and notes: the vectors of C2SP and of Go's sumdb, and notes that must not pass."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.canonical import encode, nid
from receipts.checkpoint import (
    COSIGNATURE_V1,
    Checkpoint,
    NoteBroken,
    NoteSignature,
    SignedNote,
    check_cosignature,
    check_note,
    cosign,
    log_nid,
    make_vkey,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    sign_note,
)
from receipts.keys import Ed25519Signer
from tests.vectors import vectors

NOTES = vectors("notes")
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
ORIGIN = "log.example/ada"
HOUSE = Ed25519Signer(bytes(range(32)))
MALLORY = Ed25519Signer(bytes(range(1, 33)))
VKEY = make_vkey(ORIGIN, HOUSE.public)


def signed(text: str, signer: Ed25519Signer = HOUSE, name: str = ORIGIN) -> str:
    return sign_note(text, name, signer, signer.public)


# --- published vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NOTES["signed"], ids=lambda vector: vector["from"] + " " + vector["vkey"][:5])
def test_a_published_note_is_signed_by_its_published_key(vector: dict[str, str]) -> None:
    check_note(parse_note(vector["note"]), parse_vkey(vector["vkey"]))


def test_signing_gives_the_bytes_that_go_publishes() -> None:
    vector = NOTES["signer"]
    signer = Ed25519Signer(base64.b64decode(vector["seed_base64"]))
    assert sign_note(vector["text"], vector["name"], signer, signer.public) == vector["note"]
    assert str(make_vkey(vector["name"], signer.public)) == PETER


def test_a_text_may_hold_empty_lines() -> None:
    vector = NOTES["shapes"][0]
    note = parse_note(vector["note"])
    assert note.text == vector["text"]
    assert [signature.name for signature in note.signatures] == [vector["name"]]


def test_the_published_checkpoint_is_read() -> None:
    vector = NOTES["checkpoint"]
    found = parse_checkpoint(parse_note(vector["note"]).text)
    assert found == Checkpoint(vector["origin"], vector["size"], base64.b64decode(vector["root_base64"]))
    assert found.text() == parse_note(vector["note"]).text


@pytest.mark.parametrize(
    "vkey", [PETER, ENOCH, "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"]
)
def test_a_published_verifier_key_is_written_back_the_same(vkey: str) -> None:
    assert str(parse_vkey(vkey)) == vkey


@pytest.mark.parametrize("vector", NOTES["bad_vkeys"], ids=lambda vector: vector["why"])
def test_a_published_bad_verifier_key_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(NoteBroken):
        parse_vkey(vector["vkey"])


def test_no_part_and_no_change_of_a_verifier_key_is_one() -> None:
    """Go's TestNewVerifier: every proper substring, and every byte moved up by one."""
    for start in range(len(PETER) + 1):
        for end in range(start, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(NoteBroken):
                    parse_vkey(PETER[start:end])
    for at, character in enumerate(PETER):
        with pytest.raises(NoteBroken):
            parse_vkey(PETER[:at] + chr(ord(character) + 1) + PETER[at + 1 :])


# --- checkpoints of our own ----------------------------------------------------------------------------


@given(st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_opened_as_it_was_signed(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert open_checkpoint(signed(checkpoint.text()), VKEY) == checkpoint


def test_a_log_is_named_by_its_origin_and_first_key() -> None:
    assert log_nid(ORIGIN, str(VKEY)) == nid(encode({"origin": ORIGIN, "vkey": str(VKEY)}))
    assert log_nid(ORIGIN, PETER) != log_nid(ORIGIN, str(VKEY))


GOOD = signed(Checkpoint(ORIGIN, 7, hashlib.sha256(b"root").digest()).text())


@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=0x2100))
def test_a_checkpoint_with_one_changed_character_is_broken(at: int, character: str) -> None:
    changed = GOOD[:at] + character + GOOD[at + 1 :]
    if changed != GOOD:
        with pytest.raises(NoteBroken):
            open_checkpoint(changed, VKEY)


@given(st.integers(0, len(GOOD) - 1))
def test_a_checkpoint_cut_short_is_broken(end: int) -> None:
    with pytest.raises(NoteBroken):
        open_checkpoint(GOOD[:end], VKEY)


@given(st.text(max_size=60))
def test_any_text_is_a_note_or_refused(text: str) -> None:
    try:
        open_checkpoint(text, VKEY)
    except NoteBroken:
        return
    raise AssertionError("a text that nobody signed was opened")


def test_mallory_can_not_sign_for_the_log() -> None:
    text = Checkpoint(ORIGIN, 8, bytes(32)).text()
    with pytest.raises(NoteBroken, match="not signed by"):
        open_checkpoint(signed(text, MALLORY), VKEY)
    # Mallory's signature under the house's key hash: the hash is only a hint, the signature must fit.
    forged = base64.b64encode(VKEY.key_hash + MALLORY.sign(text.encode())).decode()
    with pytest.raises(NoteBroken, match="does not fit"):
        open_checkpoint(f"{text}\n\u2014 {ORIGIN} {forged}\n", VKEY)


def test_a_note_of_another_log_by_the_same_key_is_refused() -> None:
    with pytest.raises(NoteBroken, match=r"of the log 'log\.example/other'"):
        open_checkpoint(signed(Checkpoint("log.example/other", 7, bytes(32)).text()), VKEY)


def test_signatures_of_strangers_are_passed_over_and_sixteen_are_no_hindrance() -> None:
    strangers = [Ed25519Signer(bytes([n]) * 32) for n in range(1, 16)]
    text, line = GOOD.split("\n\n")
    lines = [signed(text + "\n", stranger, f"stranger-{n}").split("\n\n")[1] for n, stranger in enumerate(strangers)]
    assert open_checkpoint(f"{text}\n\n{''.join(lines)}{line}", VKEY).size == 7


def test_a_stranger_of_the_same_name_is_passed_over() -> None:
    text, line = GOOD.split("\n\n")
    other = signed(text + "\n", MALLORY).split("\n\n")[1]
    assert open_checkpoint(f"{text}\n\n{other}{line}", VKEY).size == 7


def test_two_signatures_by_one_key_are_refused() -> None:
    text, line = GOOD.split("\n\n")
    with pytest.raises(NoteBroken, match="signed twice"):
        open_checkpoint(f"{text}\n\n{line}{line}", VKEY)


def test_a_witness_key_does_not_check_a_plain_signature() -> None:
    """Type 0x04 signs a timestamp line too; a plain signature by the same key is no cosignature."""
    text, _ = GOOD.split("\n\n")
    witness = make_vkey(ORIGIN, HOUSE.public, COSIGNATURE_V1)
    coded = base64.b64encode(witness.key_hash + HOUSE.sign((text + "\n").encode())).decode()
    note = parse_note(f"{text}\n\n\u2014 {ORIGIN} {coded}\n")
    with pytest.raises(NoteBroken):
        check_note(note, witness)


NOT_NOTES = {
    "nothing": "",
    "a newline": "\n",
    "text alone": "text\n",
    "no blank line": f"text\n\u2014 {ORIGIN} AAAAAAAA\n",
    "no final newline": GOOD[:-1],
    "no signature line": "text\n\n",
    "a signature line with a hyphen": GOOD.replace("\u2014", "-"),
    "a signature line without a name": "text\n\n\u2014  AAAAAAAA\n",
    "a signature line with a plus in the name": "text\n\n\u2014 a+b AAAAAAAA\n",
    "a signature line of blanks": "text\n\n\u2014 a\u00a0b AAAAAAAA\n",
    "two blanks": GOOD.replace(f"{ORIGIN} ", f"{ORIGIN}  "),
    "a signature that is too short": "text\n\n\u2014 a AAAAAA==\n",
    "a signature that is not base64": "text\n\n\u2014 a !!!!!!!!\n",
    "a signature in base64url": GOOD.replace("+", "-").replace("/", "_") + "x",
    "a tab": GOOD.replace("7\n", "7\t\n"),
    "a carriage return": GOOD.replace("\n", "\r\n"),
    "a NUL": "te\x00xt\n\n\u2014 a AAAAAAAA\n",
    "text behind the signatures": GOOD + "more\n",
    "more than a million characters": "a" * 1_000_001,
}


@pytest.mark.parametrize("data", NOT_NOTES.values(), ids=NOT_NOTES.keys())
def test_what_is_no_note_is_refused(data: str) -> None:
    with pytest.raises(NoteBroken):
        open_checkpoint(data, VKEY)


@pytest.mark.parametrize("character", ["\x00", "\t", "\r", "\x1b", "\x1f"])
def test_a_note_with_a_control_character_is_refused_though_it_is_signed(character: str) -> None:
    with pytest.raises(NoteBroken, match="control characters"):
        parse_note(signed(f"a{character}b\n"))


ROOT = base64.b64encode(bytes(32)).decode()
NOT_CHECKPOINTS = {
    "no lines": "",
    "two lines": f"{ORIGIN}\n7\n",
    "four lines (an extension)": f"{ORIGIN}\n7\n{ROOT}\nextension\n",
    "no final newline": f"{ORIGIN}\n7\n{ROOT}",
    "an empty origin": f"\n7\n{ROOT}\n",
    "an empty size": f"{ORIGIN}\n\n{ROOT}\n",
    "a leading zero": f"{ORIGIN}\n07\n{ROOT}\n",
    "a sign": f"{ORIGIN}\n+7\n{ROOT}\n",
    "minus": f"{ORIGIN}\n-7\n{ROOT}\n",
    "a blank": f"{ORIGIN}\n 7\n{ROOT}\n",
    "hexadecimal": f"{ORIGIN}\n0x7\n{ROOT}\n",
    "Arabic digits": f"{ORIGIN}\n\u0667\n{ROOT}\n",
    "more than any log holds": f"{ORIGIN}\n{10**19}\n{ROOT}\n",
    "a short root": f"{ORIGIN}\n7\n{base64.b64encode(bytes(31)).decode()}\n",
    "a long root": f"{ORIGIN}\n7\n{base64.b64encode(bytes(33)).decode()}\n",
    "a root without padding": f"{ORIGIN}\n7\n{ROOT.rstrip('=')}\n",
    "a root in another spelling": f"{ORIGIN}\n7\n{ROOT[:-2]}B=\n",
}


@pytest.mark.parametrize("text", NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS.keys())
def test_what_is_no_checkpoint_is_refused_even_when_signed(text: str) -> None:
    with pytest.raises(NoteBroken):
        parse_checkpoint(text)
    if text.endswith("\n"):
        with pytest.raises(NoteBroken):
            open_checkpoint(signed(text), VKEY)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\u2003b", "a\nb", " a"])
def test_a_key_name_has_no_blanks_and_no_plus(name: str) -> None:
    with pytest.raises(NoteBroken):
        make_vkey(name, HOUSE.public)


def test_a_text_that_does_not_end_in_a_newline_is_not_signed() -> None:
    with pytest.raises(NoteBroken):
        signed("no newline")


# --- cosignatures ---------------------------------------------------------------------------------------

COSIGNED = vectors("cosignatures")["cosigned"]
WITNESS = make_vkey("witness.example/bo", MALLORY.public, COSIGNATURE_V1)


def cosigned(text: str, time_s: int = 1_795_000_000) -> str:
    return signed(text) + str(cosign(text, WITNESS.name, MALLORY, MALLORY.public, time_s=time_s))


@pytest.mark.parametrize("vkey", COSIGNED["witnesses"], ids=lambda vkey: vkey.partition("+")[0])
def test_a_public_logs_witnesses_cosigned_it_when_they_say(vkey: str) -> None:
    note = parse_note(COSIGNED["note"])
    check_note(note, parse_vkey(COSIGNED["log"]))
    assert check_cosignature(note, parse_vkey(vkey)) == COSIGNED["time_s"]


def test_the_line_of_a_cosignature_tells_its_time_as_published() -> None:
    vector = vectors("cosignatures")["timestamp"]
    line = parse_note(vector["note"]).signatures[1]
    assert int.from_bytes(line.signature[:8]) == vector["time_s"]
    assert len(line.signature) == 8 + 64
    assert vector["note"].endswith(str(line))


def test_a_cosignature_stands_beside_the_logs_signature_and_fits_no_other_text_time_or_key() -> None:
    text = Checkpoint(ORIGIN, 7, bytes(32)).text()
    note = parse_note(cosigned(text))
    check_note(note, VKEY)
    assert check_cosignature(note, WITNESS) == 1_795_000_000
    line = note.signatures[1]
    later = NoteSignature(line.name, line.key_hash, (1_795_000_001).to_bytes(8) + line.signature[8:])
    beyond = NoteSignature(line.name, line.key_hash, (2**63).to_bytes(8) + line.signature[8:])
    for forged in (
        SignedNote(Checkpoint(ORIGIN, 8, bytes(32)).text(), note.signatures),
        SignedNote(text, (note.signatures[0], later)),
        SignedNote(text, (note.signatures[0], beyond)),
        SignedNote(text, (line, line)),
        SignedNote(text, note.signatures[:1]),
        SignedNote(text, (NoteSignature(line.name, line.key_hash, line.signature[8:]),)),
    ):
        with pytest.raises(NoteBroken):
            check_cosignature(forged, WITNESS)
    with pytest.raises(NoteBroken, match="no timestamp"):
        check_cosignature(note, VKEY)


def test_a_witness_signs_extension_lines_with_the_rest_and_ours_has_none() -> None:
    text = Checkpoint(ORIGIN, 7, bytes(32)).text() + "an extension\n"
    note = parse_note(cosigned(text))
    assert check_cosignature(note, WITNESS) == 1_795_000_000
    assert parse_checkpoint(note.text, extended=True).size == 7
    with pytest.raises(NoteBroken, match="three lines"):
        parse_checkpoint(note.text)
    with pytest.raises(NoteBroken, match="empty"):
        parse_checkpoint(text + "\n", extended=True)
