"""Event schemas: valid JSON Schema, one example of each, and nothing but what they name."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from receipts.canonical import MAX_RECEIPT_BYTES, decode_canonical, encode, nid
from receipts.events import EVENTS, About, schema_of
from tests.receipts.examples import CHAIN, FOLDER, JOB_NID, examples

EXAMPLES = examples()


def errors(event_type: str, body: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema_of(event_type)).iter_errors(body)]


def walk(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every leaf of a JSON value with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, (*where, index))
    else:
        yield where, value


def put(value: Any, where: tuple[Any, ...], item: Any) -> Any:
    """The same value with one leaf replaced."""
    changed = json.loads(json.dumps(value))
    at = changed
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = item
    return changed


@pytest.mark.parametrize("event_type", EVENTS)
def test_every_schema_is_valid_draft_2020_12(event_type: str) -> None:
    Draft202012Validator.check_schema(schema_of(event_type))
    assert schema_of(event_type)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("event_type", EVENTS)
def test_every_schema_has_an_example_that_fits(event_type: str) -> None:
    body = decode_canonical(EXAMPLES[event_type])
    assert errors(event_type, body) == []
    assert len(EXAMPLES[event_type]) <= MAX_RECEIPT_BYTES


@pytest.mark.parametrize("event_type", EVENTS)
def test_the_format_of_a_receipt_has_not_changed(event_type: str) -> None:
    """Whoever changes the format on purpose runs `python -m tests.receipts.examples` and says so in changes.md."""
    assert (FOLDER / f"{event_type}.json").read_bytes() == EXAMPLES[event_type]


def test_the_kept_examples_are_exactly_the_event_types() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(EVENTS) == set(EXAMPLES)


@pytest.mark.parametrize("event_type", EVENTS)
def test_an_unknown_field_is_refused_at_every_level(event_type: str) -> None:
    body = decode_canonical(EXAMPLES[event_type])
    assert errors(event_type, {**body, "extra": 1})
    assert errors(event_type, {**body, "data": {**body["data"], "extra": 1}})


@pytest.mark.parametrize("event_type", EVENTS)
def test_a_missing_field_is_refused(event_type: str) -> None:
    body = decode_canonical(EXAMPLES[event_type])
    optional = {"prev"} if EVENTS[event_type].about is not About.JOB else set()
    for field in body.keys() - optional:
        assert errors(event_type, {key: item for key, item in body.items() if key != field}), field
    for field in EVENTS[event_type].data["required"]:
        data = {key: item for key, item in body["data"].items() if key != field}
        assert errors(event_type, {**body, "data": data}), field


@pytest.mark.parametrize("event_type", EVENTS)
def test_a_field_of_another_type_is_refused(event_type: str) -> None:
    body = decode_canonical(EXAMPLES[event_type])
    for where, value in walk(body):
        other: Any = 7 if isinstance(value, str) else "seven"
        assert errors(event_type, put(body, where, other)), where
        assert errors(event_type, put(body, where, None)), where
        assert errors(event_type, put(body, where, [value])), where


@pytest.mark.parametrize("event_type", EVENTS)
def test_a_newline_at_the_end_of_a_text_is_refused(event_type: str) -> None:
    """`$` in a pattern matches before a final newline in some engines and not in others: two readers, two verdicts."""
    body = decode_canonical(EXAMPLES[event_type])
    for where, value in walk(body):
        if isinstance(value, str) and where[-1] != "claim":
            assert errors(event_type, put(body, where, value + "\n")), where


@pytest.mark.parametrize("event_type", EVENTS)
def test_no_field_takes_free_text(event_type: str) -> None:
    """A claim is the one text that someone else wrote; what it may say is checked where it is read."""
    body = decode_canonical(EXAMPLES[event_type])
    for where, value in walk(body):
        if isinstance(value, str) and where[-1] != "claim":
            for text in ("My name is Ada; call me.", "<script>", "=1+1", "🙂", "", "é" * 10):
                assert errors(event_type, put(body, where, text)) or where[-1] == "model", (where, text)


@pytest.mark.parametrize("event_type", EVENTS)
def test_public_receipts_name_neither_tenant_nor_job(event_type: str) -> None:
    fields = schema_of(event_type)["properties"].keys()
    assert ({"tenant", "jobId", "attempt", "origin"} <= fields) is (EVENTS[event_type].about is About.JOB)
    if EVENTS[event_type].about is not About.JOB:
        assert not {"tenant", "jobId", "nid", "origin", "attempt"} & fields
        assert "job_" not in EXAMPLES[event_type].decode().replace(JOB_NID, "")


def test_the_public_must_see_exactly_these_in_full() -> None:
    public = {name for name, event in EVENTS.items() if event.about is About.PUBLIC}
    assert public == {"UsageAttested", "TokensMinted", "KeyRotated", "Census", "AuctionSettled"}


def test_a_job_s_first_receipt_has_no_link_and_every_later_one_has() -> None:
    first = schema_of("JobSubmitted")["properties"]
    assert "prev" not in first
    assert "nid" not in first
    for name, event in EVENTS.items():
        if event.about is About.JOB and name != "JobSubmitted":
            assert {"prev", "nid"} <= set(schema_of(name)["required"])


def test_the_examples_of_a_job_are_one_chain() -> None:
    names = ["JobSubmitted", *(name for name, _, _ in CHAIN)]
    for seq, (before, name) in enumerate(itertools.pairwise(names), start=2):
        body = decode_canonical(EXAMPLES[name])
        assert body["prev"] == nid(EXAMPLES[before])
        assert body["nid"] == JOB_NID
        assert body["seq"] == seq


@given(st.sampled_from(sorted(EVENTS)), st.data())
def test_any_changed_leaf_makes_another_receipt_or_none(event_type: str, data: st.DataObject) -> None:
    body = decode_canonical(EXAMPLES[event_type])
    where, value = data.draw(st.sampled_from(list(walk(body))))
    other = data.draw(st.one_of(st.integers(0, 9), st.booleans(), st.from_regex(r"\A[a-z0-9]{0,8}\Z")))
    if type(other) is type(value) and other == value:
        return
    changed = encode(put(body, where, other))
    assert nid(changed) != nid(EXAMPLES[event_type])


def test_every_event_says_in_a_sentence_what_it_is() -> None:
    for name, event in EVENTS.items():
        assert re.match(r"[A-Z].*\.$", event.says, re.DOTALL), name


def test_a_type_that_is_not_ours_has_no_schema() -> None:
    with pytest.raises(KeyError):
        schema_of("JobExploded")
