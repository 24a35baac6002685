"""The usage claim is one text for one meaning, and its sums come out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minting.usage import MAX_AMOUNT, MAX_SHARES, Share, UsageClaim, UsageInvalid, parse_usage, receipt_hash, usage_text
from tests.minting.claims import BO, CY, claim

PINNED = "0xb72ea2f4a5ea6b68ffc8b346ba83cf019a55db0ee4e85d5f6b06f23917ccf2c9"
WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
UNITS = st.integers(0, 2**53 - 1)
PRICES = st.integers(0, 2**200)


@st.composite
def claims(draw: st.DrawFn) -> UsageClaim:
    """Draw lawful claims, some of them with shares."""
    price = draw(PRICES)
    parts = draw(st.lists(st.integers(0, 2**40), max_size=4))
    units = sum(parts) if parts else draw(UNITS)
    shares = tuple(
        Share(provider=f"{index:043d}", payout=draw(st.sampled_from([BO, CY])), units=part, amount=part * price)
        for index, part in enumerate(parts)
    )
    return claim(
        job_id=draw(WORDS),
        model=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 _./:@+-]{0,40}", fullmatch=True)),
        client=draw(WORDS),
        units=units,
        price=price,
        amount=units * price,
        unit_type=draw(st.sampled_from(["cpu_ms", "gpu_ms"])),
        model_digest=draw(st.sampled_from([None, "ab" * 32])),
        shares=shares or None,
    )


@given(claims())
@settings(max_examples=200, deadline=None)
def test_a_claim_survives_its_text(drawn: UsageClaim) -> None:
    text = usage_text(drawn)
    assert parse_usage(text) == drawn
    assert usage_text(parse_usage(text)) == text


@given(claims())
@settings(max_examples=100, deadline=None)
def test_the_text_is_the_sorted_compact_json_that_aitbc_hashes(drawn: UsageClaim) -> None:
    text = usage_text(drawn)
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert "null" not in text


def test_amounts_and_prices_are_decimal_text_and_times_are_text() -> None:
    value = json.loads(usage_text(claim()))
    assert (value["amount"], value["price"], value["units"]) == ("1830000000000000000", "1000000000000000", 1830)
    assert value["started_at"] == "2026-11-21T07:00:50.480Z"


def test_the_receipt_hash_is_keccak_and_pinned() -> None:
    """A changed text here means that every hash ever minted would no longer be found."""
    assert receipt_hash("") == "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert receipt_hash(usage_text(claim())) == PINNED


def test_a_free_job_is_a_lawful_claim() -> None:
    assert parse_usage(usage_text(claim(price=0, amount=0))).payouts() == [(BO, 0)]


def test_shares_are_paid_instead_of_the_speaker() -> None:
    shares = (Share("B" * 43, BO, 1000, 10**18), Share("C" * 43, CY, 830, 83 * 10**16))
    assert claim(shares=shares).payouts() == [(BO, 10**18), (CY, 83 * 10**16)]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("amount", {"amount": 1}),
        ("amount", {"units": 1829}),
        ("units", {"units": -1}),
        ("units", {"units": True}),
        ("units", {"units": 2**53}),
        ("price", {"price": -1}),
        ("amount", {"units": 2, "price": MAX_AMOUNT, "amount": 2 * MAX_AMOUNT}),
        ("attempt", {"attempt": 0}),
        ("unit_type", {"unit_type": "gpu_seconds"}),
        ("payout", {"payout": BO.upper()}),
        ("payout", {"payout": BO + "\n"}),
        ("provider", {"provider": "bo"}),
        ("job_nid", {"job_nid": "bafy"}),
        ("job_nid", {"job_nid": None}),
        ("model", {"model": "modèle"}),
        ("model_digest", {"model_digest": "AB" * 32}),
        ("prompt_hash", {"prompt_hash": ""}),
        ("artifact_sha256", {"artifact_sha256": "cd" * 31}),
        ("started_at", {"started_at": "2026-11-21 07:00:50"}),
        ("finished_at", {"finished_at": "2026-11-21T07:00:50.479Z"}),
        ("nonce", {"nonce": "short"}),
        ("chain_id", {"chain_id": 0}),
        ("shares", {"shares": ()}),
        ("shares", {"shares": (Share("B" * 43, BO, 915, 915 * 10**15),) * 2}),
        ("shares", {"shares": tuple(Share(f"{n:043d}", BO, 0, 0) for n in range(MAX_SHARES + 1))}),
        ("shares.units", {"shares": (Share("B" * 43, BO, 1829, 1830 * 10**15),)}),
        ("shares.amount", {"shares": (Share("B" * 43, BO, 1830, 1829 * 10**15),)}),
        ("shares[0].payout", {"shares": (Share("B" * 43, "bo", 1830, 1830 * 10**15),)}),
    ],
)
def test_a_claim_that_breaks_a_rule_is_refused_by_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageInvalid) as refused:
        claim(**changes)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("type", {"type": "Usage"}),
        ("v", {"v": 2}),
        ("v", {"v": True}),
        ("units", {"units": "1830"}),
        ("amount", {"amount": 0}),
        ("price", {"price": "01"}),
        ("price", {"price": "1e15"}),
        ("extra", {"extra": 1}),
        ("nonce", {"nonce": None}),
        ("shares", {"shares": {}}),
        ("shares[0]", {"shares": [1]}),
        ("shares[0].amount", {"shares": [{"provider": "B" * 43, "payout": BO, "units": 1830}]}),
        ("$", {"model_digest": None}),
        ("shares", {"shares": None}),
    ],
)
def test_a_text_with_another_field_or_type_is_refused_by_field(field: str, change: dict[str, Any]) -> None:
    value = json.loads(usage_text(claim())) | change
    with pytest.raises(UsageInvalid) as refused:
        parse_usage(json.dumps(value, sort_keys=True, separators=(",", ":")))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.replace(":", ": ", 1),
        lambda text: text.replace('"v":1', '"v":1,"v":1'),
        lambda text: text.replace('"v":1', '"v":1.0'),
        lambda text: text.replace("tiny-shapes", "tiny\\u002dshapes"),
        lambda text: "[]",
        lambda text: "",
        lambda text: "\ud800",
    ],
)
def test_any_other_spelling_of_a_claim_is_refused(spell: Any) -> None:
    with pytest.raises(UsageInvalid):
        parse_usage(spell(usage_text(claim())))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    """Either the reader refuses the text, or it reads another claim than before."""
    text = usage_text(claim())
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    if changed == text:
        return
    try:
        assert parse_usage(changed) != claim()
    except UsageInvalid as refused:
        assert refused.field
    assert receipt_hash(changed) != receipt_hash(text)


def test_a_missing_field_is_named() -> None:
    for name in json.loads(usage_text(claim())):
        value = json.loads(usage_text(claim()))
        del value[name]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        if name == "model_digest":
            assert parse_usage(text).model_digest is None
            continue
        with pytest.raises(UsageInvalid) as refused:
            parse_usage(text)
        assert refused.value.field == name
