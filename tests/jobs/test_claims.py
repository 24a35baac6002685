"""Claims: the exact texts that clients and providers sign, read strictly and written in one way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.claims import (
    _FIELDS,
    COMPLETED,
    FAILED,
    PROGRESS,
    PROMISE,
    REQUEST,
    SHAPES,
    STARTED,
    ClaimBroken,
    claim_text,
    completed_claim,
    inputs_digest,
    read_claim,
    started_claim,
)
from receipts.canonical import NotCanonical, encode, field_digest, nid

AT = "2026-11-21T07:00:52.310Z"
LEASE: dict[str, Any] = {"job_id": "job_01kax3m8q2v7n4w9s5t6r1z0y8", "job_nid": nid(b"job"), "attempt": 1, "fencing": 7}
METER: dict[str, Any] = {"cpu_ms": {"value": 1830, "quality": "measured", "source": "process-clock"}}
FIELDS: dict[str, dict[str, Any]] = {
    REQUEST: {
        "kind": "text-to-image",
        "model": "tiny-shapes",
        "inputs": {"prompt": field_digest("prompt", "a red circle", bytes(16))},
        "hub": "tallystick-5f2c",
        "nonce": "n" * 22,
        "at": AT,
    },
    STARTED: {
        **LEASE,
        "provider": "B" * 43,
        "model": "tiny-shapes",
        "model_digest": "ab" * 32,
        "device": "cpu",
        "runner": "tallystick/0.1.0",
        "at": AT,
    },
    PROGRESS: {**LEASE, "step": 3, "steps": 20, "at": AT},
    COMPLETED: {
        **LEASE,
        "provider": "B" * 43,
        "outputs": [{"name": "picture.png", "sha256": "cd" * 32, "size": 7, "mime": "image/png"}],
        "facts": {"seed": 7},
        "meter": METER,
        "started_at": AT,
        "finished_at": AT,
    },
    FAILED: {**LEASE, "class": "runner", "meter": METER, "at": AT},
    PROMISE: {"log": "tallystick-5f2c", "nid": nid(b"receipt"), "by": AT, "at": AT},
}
EVERY = pytest.mark.parametrize("type_", FIELDS)


@EVERY
def test_a_claim_is_read_as_it_was_written(type_: str) -> None:
    assert read_claim(claim_text(type_, **FIELDS[type_]), type_) == FIELDS[type_]


@EVERY
def test_a_claim_says_its_version_and_type(type_: str) -> None:
    assert f'"type":"{type_}","v":1' in claim_text(type_, **FIELDS[type_])


@EVERY
def test_a_claim_of_one_type_is_no_claim_of_another(type_: str) -> None:
    text = claim_text(type_, **FIELDS[type_])
    for other in FIELDS.keys() - {type_}:
        with pytest.raises(ClaimBroken, match="claim is due"):
            read_claim(text, other)


@EVERY
def test_a_missing_or_extra_field_is_refused_when_written_and_when_read(type_: str) -> None:
    for field in FIELDS[type_]:
        less = {name: value for name, value in FIELDS[type_].items() if name != field}
        with pytest.raises(ClaimBroken, match=f"{field}: missing"):
            claim_text(type_, **less)
        with pytest.raises(ClaimBroken, match=f"{field}: missing"):
            read_claim(encode({"v": 1, "type": type_, **less}).decode(), type_)
    with pytest.raises(ClaimBroken, match="note: no field"):
        claim_text(type_, **FIELDS[type_], note="free text")
    with pytest.raises(ClaimBroken, match="note: no field"):
        read_claim(encode({"v": 1, "type": type_, **FIELDS[type_], "note": "x"}).decode(), type_)


@EVERY
@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1]])
def test_a_claim_of_another_version_is_refused(type_: str, version: Any) -> None:
    with pytest.raises(ClaimBroken, match="version 1"):
        read_claim(encode({"v": version, "type": type_, **FIELDS[type_]}).decode(), type_)


@EVERY
def test_a_claim_in_another_spelling_is_refused(type_: str) -> None:
    text = claim_text(type_, **FIELDS[type_])
    for other in (" " + text, text + "\n", text.replace(",", ", ", 1), text.replace('"v":1', '"v":1,"v":1')):
        with pytest.raises(NotCanonical):
            read_claim(other, type_)


MISSHAPEN: dict[str, tuple[str, dict[str, Any]]] = {
    "a time that is no time": (REQUEST, {"at": "now"}),
    "a time that is no moment": (REQUEST, {"at": "2026-02-30T07:00:52.310Z"}),
    "a nonce of another length": (REQUEST, {"nonce": "n"}),
    "an input in clear": (REQUEST, {"inputs": {"prompt": "a red circle"}}),
    "a price as integer": (REQUEST, {"max_price": 7}),
    "free text as kind": (REQUEST, {"kind": "a red circle"}),
    "true as attempt": (PROGRESS, {"attempt": True}),
    "a step as text": (PROGRESS, {"step": "3"}),
    "a negative step": (PROGRESS, {"step": -1}),
    "a job of another form": (PROGRESS, {"job_id": "job_1"}),
    "outputs as text": (COMPLETED, {"outputs": "picture.png"}),
    "no outputs": (COMPLETED, {"outputs": []}),
    "an output without a size": (COMPLETED, {"outputs": [{"name": "a.png", "sha256": "cd" * 32, "mime": "image/png"}]}),
    "an output that leads elsewhere": (
        COMPLETED,
        {"outputs": [{"name": "../a.png", "sha256": "cd" * 32, "size": 7, "mime": "image/png"}]},
    ),
    "a digest that is a path": (
        COMPLETED,
        {"outputs": [{"name": "a.png", "sha256": "../../etc", "size": 7, "mime": "image/png"}]},
    ),
    "a measurement of no quality": (COMPLETED, {"meter": {"cpu_ms": {"value": 1, "source": "clock"}}}),
    "a measurement that is guessed": (COMPLETED, {"meter": {"cpu_ms": {"quality": "guessed", "source": "clock"}}}),
    "the weights' digest as text": (STARTED, {"model_digest": "sha256 of it"}),
    "a message in clear": (FAILED, {"detail": "the device went away"}),
    "a promise without a moment": (PROMISE, {"by": "soon"}),
}


@pytest.mark.parametrize(("type_", "changes"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_a_field_in_another_shape_is_refused_at_the_door(type_: str, changes: dict[str, Any]) -> None:
    """What the hub took in and no verifier takes would break the evidence of an honest job for good."""
    text = claim_text(type_, **{**FIELDS[type_], **changes})
    with pytest.raises(ClaimBroken) as refusal:
        read_claim(text, type_)
    assert refusal.value.where.split(".")[0].split("[")[0] == next(iter(changes))


def test_every_field_of_every_claim_has_a_shape() -> None:
    for type_, (required, optional) in _FIELDS.items():
        assert set(SHAPES[type_]) == required | optional


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"JobRequest"', "{}", "\ud800"])
def test_what_is_no_claim_is_refused(text: str) -> None:
    with pytest.raises((ClaimBroken, NotCanonical)):
        read_claim(text, REQUEST)


def test_an_absent_optional_field_is_left_out_and_never_null() -> None:
    assert "max_price" not in claim_text(REQUEST, **FIELDS[REQUEST], max_price=None)
    assert '"max_price":"7"' in claim_text(REQUEST, **FIELDS[REQUEST], max_price="7")


def test_a_decimal_is_carried_as_text() -> None:
    with pytest.raises(NotCanonical):
        completed_claim(**{**FIELDS[COMPLETED], "facts": {"guidance": 7.5}})


def test_the_named_writers_write_their_types() -> None:
    assert read_claim(started_claim(**FIELDS[STARTED]), STARTED) == FIELDS[STARTED]
    assert read_claim(completed_claim(**FIELDS[COMPLETED]), COMPLETED) == FIELDS[COMPLETED]


@given(
    st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z"), st.from_regex(r"\A[A-Za-z0-9_-]{43}\Z"), min_size=1, max_size=5)
)
def test_all_inputs_of_a_job_have_one_digest(inputs: dict[str, str]) -> None:
    digest = inputs_digest(inputs)
    assert len(digest) == 43
    if "prompt" in inputs:
        assert digest == inputs["prompt"]
    else:
        changed = {**inputs, "another": "A" * 43}
        assert inputs_digest(changed) != digest
