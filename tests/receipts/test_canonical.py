"""The canonical form: laws that hold for every value, published vectors, and a table of attacks on the decoder."""

import base64
import contextlib
import datetime as dt
import decimal
import hashlib
import json
import unicodedata
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from receipts import canonical
from receipts.canonical import (
    MAX_DEPTH,
    MAX_RECEIPT_BYTES,
    MAX_SAFE_INTEGER,
    NotCanonical,
    b64url,
    decode,
    decode_canonical,
    encode,
    field_digest,
    is_nid,
    nid,
    nid_digest,
    nid_of_digest,
    read_utc,
    unb64url,
    utc,
)
from tests.vectors import vectors

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER), TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


def nested(levels: int) -> Any:
    """A list in a list, `levels` deep."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(VALUES)
def test_what_is_encoded_is_read_back_the_same(value: Any) -> None:
    assert decode_canonical(encode(value)) == value


@given(VALUES)
def test_encoding_twice_gives_the_same_bytes(value: Any) -> None:
    assert encode(decode(encode(value))) == encode(value)


@given(VALUES)
def test_the_canonical_form_is_plain_json(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(st.dictionaries(st.text(st.characters(max_codepoint=126, min_codepoint=32)), st.booleans(), max_size=6))
def test_with_ascii_keys_it_is_sorted_compact_json(value: dict[str, bool]) -> None:
    assert encode(value) == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@given(VALUES, st.integers(0, 3))
def test_other_spacing_is_read_but_is_not_canonical(value: Any, indent: int) -> None:
    spaced = b" " + json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert decode(spaced) == value
    with pytest.raises(NotCanonical):
        decode_canonical(spaced)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(data: bytes) -> None:
    with contextlib.suppress(NotCanonical):
        decode(data)


@given(st.text(alphabet='[]{}",:\\ 0aé\u0301\ud800', max_size=40))
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    with contextlib.suppress(NotCanonical):
        decode(text.encode("utf-8", "surrogatepass"))


def test_depth_is_counted_the_same_way_when_writing_and_when_reading() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(NotCanonical, match="nested deeper"):
        encode(nested(MAX_DEPTH + 1))
    with pytest.raises(NotCanonical, match="nested deeper"):
        decode(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_keys_are_sorted_by_utf16_units_not_by_code_points() -> None:
    # U+10000 is the surrogate pair D800 DC00, which sorts before U+FF61.
    assert encode({"\uff61": 1, "\U00010000": 2}) == '{"\U00010000":2,"\uff61":1}'.encode()


@pytest.mark.parametrize("vector", vectors("canonical")["same"], ids=lambda vector: vector["from"])
def test_published_inputs_give_the_published_bytes(vector: dict[str, str]) -> None:
    assert encode(decode(vector["input"].encode())) == vector["output"].encode()


@pytest.mark.parametrize("vector", vectors("canonical")["refused"], ids=lambda vector: vector["why"])
def test_published_inputs_that_no_receipt_may_hold_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(NotCanonical):
        decode(vector["input"].encode())


# --- attacks: bytes that two readers could read in two ways, or that cost more than they weigh ----
E_ACUTE, E_COMBINED = "\u00e9", "e\u0301"
ATTACKS: dict[str, bytes] = {
    # nothing, or not one value
    "nothing": b"",
    "blanks alone": b" \t\r\n",
    "two values": b"1 2",
    "two objects": b"{}{}",
    "a value and a comma": b"1,",
    "text after the value": b'{"a":1}x',
    "a second line of JSON": b'{"a":1}\n{"a":2}',
    "a NUL after the value": b"{}\x00",
    "a NUL before the value": b"\x00{}",
    "a form feed as blank": b"\x0c1",
    "a vertical tab as blank": b"1\x0b",
    "a no-break space as blank": "\u00a01".encode(),
    "a line separator as blank": "1\u2028".encode(),
    # encodings
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a byte order mark inside": b'{"a":\xef\xbb\xbf1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "Latin-1": b'"\xe9"',
    "an overlong slash": b'"\xc0\xaf"',
    "an overlong NUL": b'"\xc0\x80"',
    "a cut sequence": b'"\xe2\x82"',
    "a lone continuation byte": b'"\x80"',
    "five bytes for one character": b'"\xf8\x88\x80\x80\x80"',
    "beyond U+10FFFF": b'"\xf4\x90\x80\x80"',
    "a surrogate as UTF-8": b'"\xed\xa0\x80"',
    "a surrogate pair as UTF-8 (CESU-8)": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "0xFF": b'"\xff"',
    # surrogates by escape
    "a lone high surrogate": b'"\\ud800"',
    "a lone low surrogate": b'"\\udc00"',
    "a reversed pair": b'"\\ude00\\ud83d"',
    "a high surrogate before a letter": b'"\\ud83dx"',
    "two high surrogates": b'"\\ud83d\\ud83d"',
    "a lone surrogate as key": b'{"\\ud800":1}',
    "a lone surrogate in a list": b'["a",["\\udfff"]]',
    # Unicode normal forms
    "a decomposed letter": f'"{E_COMBINED}"'.encode(),
    "a decomposed letter by escape": b'"e\\u0301"',
    "a decomposed key": f'{{"{E_COMBINED}":1}}'.encode(),
    "NFC twins as keys": f'{{"{E_ACUTE}":1,"{E_COMBINED}":2}}'.encode(),
    "the Kelvin sign": '"\u212a"'.encode(),
    "the Angstrom sign as key": '{"\u212b":1}'.encode(),
    "a Hebrew letter that NFC takes apart": '"\ufb33"'.encode(),
    "Hangul in pieces": '"\u1100\u1161"'.encode(),
    "marks in another order": '"q\u0307\u0323"'.encode(),
    "a compatibility ideograph": '"\uf900"'.encode(),
    # duplicate keys
    "a key twice": b'{"a":1,"a":2}',
    "a key twice, same value": b'{"a":1,"a":1}',
    "a key twice, once by escape": b'{"a":1,"\\u0061":2}',
    "a key twice with another between": b'{"a":1,"b":2,"a":3}',
    "an empty key twice": b'{"":1,"":2}',
    "a key twice inside a list": b'[[{"a":1,"a":2}]]',
    "a key twice inside an object": b'{"o":{"a":1,"a":2}}',
    "a key twice, once with an escaped slash": b'{"/":1,"\\/":2}',
    "a surrogate pair and its character as keys": b'{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}',
    "an event type twice": b'{"eventType":"JobFailed","eventType":"JobCompleted","v":1}',
    "a lone surrogate as key, twice": b'{"\\ud800":1,"\\ud800":2}',
    # numbers
    "a float": b"1.5",
    "a float that is whole": b"1.0",
    "an exponent": b"1e2",
    "an exponent that is whole": b"10E0",
    "beyond any double": b"1e400",
    "minus beyond any double": b"-1e400",
    "below any double": b"1e-400",
    "a float inside": b'{"price":0.1}',
    "minus zero": b"-0",
    "minus zero as float": b"-0.0",
    "minus zero inside": b'{"a":[-0]}',
    "2^53": b"9007199254740992",
    "-2^53": b"-9007199254740992",
    "2^53 + 1, which doubles can't tell from 2^53": b"9007199254740993",
    "2^63": b"9223372036854775808",
    "2^64": b"18446744073709551616",
    "2^256": str(2**256).encode(),
    "five thousand digits": b"9" * 5_000,
    "fifteen thousand digits": b"1" * 15_000,
    "a huge integer inside": b'{"amount":1000000000000000000}',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "NaN inside": b'{"a":NaN}',
    "nan in lower case": b"nan",
    "a leading zero": b"01",
    "a leading zero after minus": b"-01",
    "a leading plus": b"+1",
    "a bare minus": b"-",
    "a point without digits": b"1.",
    "digits behind a bare point": b".5",
    "hexadecimal": b"0x10",
    "an underscore": b"1_000",
    "a bigint's n": b"1n",
    "Arabic digits": "\u0661".encode(),
    "full-width digits": "\uff11".encode(),
    # strings
    "an open string": b'"a',
    "a raw newline in a string": b'"a\nb"',
    "a raw tab in a string": b'"a\tb"',
    "a raw NUL in a string": b'"a\x00b"',
    "single quotes": b"'a'",
    "an unknown escape": b'"\\x41"',
    "a short \\u": b'"\\u12"',
    "a \\u that is not hexadecimal": b'"\\u00g0"',
    "a \\u with a sign": b'"\\u+041"',
    "a backslash at the end": b'"\\',
    # structure
    "a trailing comma in a list": b"[1,]",
    "a trailing comma in an object": b'{"a":1,}',
    "a leading comma": b"[,1]",
    "two commas": b"[1,,2]",
    "an open list": b"[1",
    "an open object": b'{"a":1',
    "a list closed as object": b"[1}",
    "closed before it opens": b"]",
    "a key without quotes": b"{a:1}",
    "a number as key": b"{1:1}",
    "null as key": b"{null:1}",
    "a key without a value": b'{"a"}',
    "two colons": b'{"a"::1}',
    "a comment": b"1 // one",
    "a block comment": b"/* one */ 1",
    "Python's None": b"None",
    "Python's True": b"True",
    "undefined": b"undefined",
    # size and depth
    "one byte too many": b'"' + b"a" * (MAX_RECEIPT_BYTES - 1) + b'"',
    "a megabyte of blanks": b" " * 1_000_000,
    "one level too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "one object too deep": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "eight thousand levels": b"[" * 8_000 + b"]" * 8_000,
    "sixteen thousand open brackets": b"[" * 16_000,
    "depth hidden behind closing brackets in a string": b'["' + b"]" * 5_000 + b'",' + b"[" * 5_000,
    "depth hidden in a key": b'{"' + b"}" * 4_000 + b'":' + b'{"a":' * 2_000,
    "depth hidden behind an escaped quote": b'["\\"' + b"]" * 5_000 + b'",' + b"[" * 5_000,
    "depth hidden behind an escaped backslash": b'["\\\\","' + b"]" * 5_000 + b'",' + b"[" * 5_000,
}


@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS.keys())
def test_bytes_that_two_readers_could_read_in_two_ways_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical) as refusal:
        decode(data)
    str(refusal.value).encode("utf-8")  # the refusal itself can always be printed
    assert str(refusal.value).isprintable()


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(NotCanonical, match="byte order mark"):
        decode(b"\xef\xbb\xbf{}")


def test_the_table_of_attacks_is_long_enough() -> None:
    assert len(ATTACKS) >= 100


def test_brackets_inside_a_string_are_no_depth() -> None:
    assert decode(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert decode(b'{"a\\"[[[[[[[[[[[[[[[[[[[[[[[[":1}') == {'a"' + "[" * 24: 1}


def test_a_refusal_never_carries_a_terminal_escape_from_outside() -> None:
    with pytest.raises(NotCanonical) as refusal:
        decode(b'{"\\u001b[2Jx":1,"\\u001b[2Jx":2}')
    assert "\x1b" not in str(refusal.value)


REFUSED_WHEN_WRITING: dict[str, Any] = {
    "a float": 1.5,
    "a whole float": 1.0,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "bytes": b"a",
    "a set": {1},
    "a date": dt.date(2026, 11, 21),
    "a Decimal": decimal.Decimal(1),
    "2^53": 2**53,
    "-2^53": -(2**53),
    "a number as key": {1: 1},
    "None as key": {None: 1},
    "a lone surrogate": "\ud800",
    "a lone surrogate as key": {"\ud800": 1},
    "decomposed text": E_COMBINED,
    "a decomposed key": {E_COMBINED: 1},
    "a float deep inside": {"a": [{"b": 0.5}]},
}


@pytest.mark.parametrize("value", REFUSED_WHEN_WRITING.values(), ids=REFUSED_WHEN_WRITING.keys())
def test_values_without_a_canonical_form_are_refused_when_writing(value: Any) -> None:
    with pytest.raises(NotCanonical):
        encode(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotCanonical, match="nested deeper"):
        encode(value)


def test_the_refusal_names_the_place() -> None:
    with pytest.raises(NotCanonical) as refusal:
        encode({"data": [{"price": 0.5}]})
    assert refusal.value.where == "$.data[0].price"


# --- names and digests ----------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("cids")["cids"], ids=lambda vector: vector["cid"][-6:])
def test_a_nid_is_the_cid_that_ipfs_gives_to_the_same_bytes(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert nid(data) == vector["cid"]
    assert nid_digest(vector["cid"]) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("name", vectors("cids")["refused"])
def test_other_names_are_no_nids(name: str) -> None:
    with pytest.raises(NotCanonical):
        nid_digest(name)


@given(st.binary(min_size=32, max_size=32))
def test_a_nid_and_its_digest_lead_to_each_other(digest: bytes) -> None:
    name = nid_of_digest(digest)
    assert len(name) == 59
    assert name.startswith("bafkrei")
    assert nid_digest(name) == digest


@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 58), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567ABC01=\n")
)
def test_one_changed_character_is_another_nid_or_none(digest: bytes, at: int, character: str) -> None:
    name = str(nid_of_digest(digest))
    changed = name[:at] + character + name[at + 1 :]
    if changed == name:
        return
    with contextlib.suppress(NotCanonical):
        assert nid_digest(changed) != digest


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nid_is_of_a_whole_digest(size: int) -> None:
    with pytest.raises(NotCanonical):
        nid_of_digest(b"\x00" * size)


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = b64url(data)
    assert unb64url(text, size=len(data)) == data
    for other in (text + "=", text + "\n", " " + text, text + "A==="):
        with pytest.raises(NotCanonical):
            unb64url(other, size=len(data))


@pytest.mark.parametrize("text", ["+/+/", "ab+/", "A", "AB=", "AB==", "AAB", "é", "\ud800", "AA\nAA", "AA AA"])
def test_text_that_is_no_base64url_is_refused(text: str) -> None:
    with pytest.raises(NotCanonical):
        unb64url(text)


def test_the_size_of_a_decoded_value_is_held_to() -> None:
    with pytest.raises(NotCanonical, match="16 bytes where 32 are due"):
        unb64url(b64url(bytes(16)), size=32)


def test_a_field_digest_commits_to_name_value_and_salt() -> None:
    salt = bytes(range(16))
    expected = b64url(hashlib.sha256(salt + b'["prompt","a red circle"]').digest())
    assert field_digest("prompt", "a red circle", salt) == expected
    assert field_digest("prompt2", "a red circle", salt) != expected
    assert field_digest("prompt", "a red circl", salt) != expected
    assert field_digest("prompt", "a red circle", bytes(16)) != expected
    with pytest.raises(NotCanonical):
        field_digest("prompt", "a red circle", salt[:15])


@given(TEXT, VALUES, TEXT, VALUES)
def test_two_fields_share_a_digest_only_when_they_are_the_same(name: str, value: Any, other: str, second: Any) -> None:
    salt = bytes(16)
    same = rfc8785.dumps([name, value]) == rfc8785.dumps([other, second])
    assert (field_digest(name, value, salt) == field_digest(other, second, salt)) is same


# --- times ----------------------------------------------------------------------------------------


@given(st.integers(0, 3650 * 86_400_000_000), st.integers(-14 * 60, 14 * 60))
def test_a_time_keeps_its_milliseconds(microseconds: int, zone_minutes: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=zone_minutes))
    moment = (dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)).astimezone(zone)
    written = utc(moment)
    read = read_utc(written)
    assert dt.timedelta(0) <= moment - read < dt.timedelta(milliseconds=1)
    assert utc(read) == written


def test_a_year_has_four_digits() -> None:
    assert utc(dt.datetime(999, 1, 1, tzinfo=dt.UTC)) == "0999-01-01T00:00:00.000Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(NotCanonical, match="time zone"):
        utc(dt.datetime(2026, 11, 21))  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T07:00:52Z",
        "2026-11-21T07:00:52.31Z",
        "2026-11-21T07:00:52.310000Z",
        "2026-11-21T07:00:52.310+00:00",
        "2026-11-21T07:00:52.310z",
        "2026-11-21 07:00:52.310Z",
        "2026-11-21T07:00:52.310Z\n",
        "2026-11-21T24:00:00.000Z",
        "2026-11-21T07:00:60.000Z",
        "2026-02-29T07:00:00.000Z",
        "2026-13-01T07:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "٢٠٢٦-11-21T07:00:52.310Z",
    ],
)
def test_a_time_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(NotCanonical):
        read_utc(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(max_codepoint=127)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=200), max_size=4), inner),
        max_leaves=30,
    )
)
def test_the_quick_way_writes_the_bytes_of_the_slow_one(value: Any) -> None:
    try:
        written = encode(value)
    except NotCanonical:
        return
    assert written == rfc8785.dumps(value)


def test_every_ascii_character_is_written_as_rfc_8785_has_it() -> None:
    text = "".join(map(chr, range(128)))
    assert encode({text: text}) == rfc8785.dumps({text: text})


# --- the short ways, held against the long ones -----------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_a_nid_is_the_base32_of_its_cid(digest: bytes) -> None:
    cid = b"\x01\x55\x12\x20" + digest
    assert nid_of_digest(digest) == "b" + base64.b32encode(cid).decode().rstrip("=").lower()
    assert is_nid(nid_of_digest(digest)) and nid_digest(nid_of_digest(digest)) == digest


@given(st.binary(min_size=32, max_size=32), st.data())
def test_is_nid_knows_the_one_spelling(digest: bytes, data: st.DataObject) -> None:
    name = nid_of_digest(digest)
    place = data.draw(st.integers(0, len(name) - 1))
    other = name[:place] + data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567A1=")) + name[place + 1 :]
    for text in (other, name[:place], name + "a", name + "\n"):
        try:
            nid_digest(text)
            assert is_nid(text)
        except NotCanonical:
            assert not is_nid(text)


ASCII_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(ASCII_JSON.map(lambda value: json.dumps(value, sort_keys=True, separators=(",", ":")).encode()), st.data())
def test_the_short_way_reads_only_what_the_long_way_reads(raw: bytes, data: st.DataObject) -> None:
    changed = bytearray(raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    changed[place] = data.draw(st.sampled_from(b'{}[],:"0-1.e\\u aZ\x7f\t'))
    for text in (raw, bytes(changed)):
        short = canonical._decode_plain(text, 1000)
        if short is not None:
            assert short == decode(text) and rfc8785.dumps(short) == text
            assert json.dumps(short) == json.dumps(decode(text)), "true is not 1"


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', "1.0", "1e1", "-0", "NaN", '"\\u0041"', '"\\u00e9"', '{"b":1,"a":1}', " 1", "1 ", str(2**53)],
)
def test_the_short_way_leaves_what_is_not_canonical_to_the_long_way(text: str) -> None:
    assert canonical._decode_plain(text.encode(), 1000) is None


def test_the_short_way_counts_depth_and_size() -> None:
    assert canonical._decode_plain(b"[" * 17 + b"]" * 17, 1000) is None
    assert canonical._decode_plain(b'["' + b"[" * 17 + b'"]', 1000) == ["[" * 17]
    assert canonical._decode_plain(b'"aa"', 3) is None
