"""The compiled check of a receipt agrees with the library that everyone trusts."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from receipts.canonical import decode
from receipts.events import EVENTS, schema_of
from receipts.schema import Misfit, UnknownKeyword, compiled
from tests.jobs.client.test_mutations import changes, leaves, replaced
from tests.receipts.examples import examples


def fits(schema: dict[str, Any], value: Any) -> bool:
    try:
        compiled(schema)(value)
    except Misfit:
        return False
    return True


@pytest.mark.parametrize("event_type", sorted(EVENTS))
def test_it_agrees_with_jsonschema_on_every_event_and_every_change_of_it(event_type: str) -> None:
    value, schema = decode(examples()[event_type]), schema_of(event_type)
    library, check = Draft202012Validator(schema), compiled(schema)
    check(value)
    dice, judged = random.Random(3), {True: 0, False: 0}
    for path, old in leaves(value):
        for new in [*changes(old, dice), ..., None, [], {}, -1, 2**60, "x" * 20_000]:
            changed = replaced(value, path, new)
            try:
                check(changed)
                found = True
            except Misfit:
                found = False
            assert found == library.is_valid(changed), (path, new)
            judged[found] += 1
    assert all(judged.values()), judged


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
)
def test_it_agrees_with_jsonschema_on_values_that_are_no_receipts(value: Any) -> None:
    schema = {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]*$"},
        "maxProperties": 2,
        "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2}},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 3},
    }
    assert fits(schema, value) == Draft202012Validator(schema).is_valid(value)
    assert fits(schema, {"a": value}) == Draft202012Validator(schema).is_valid({"a": value})


@pytest.mark.parametrize(
    ("schema", "value", "where", "rule"),
    [
        ({"type": "object", "additionalProperties": False, "properties": {}}, {"a": 1}, "a", "must not be there"),
        ({"type": "object", "required": ["a"]}, {}, "a", "must be there"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "2"], "1", "must be of the type integer"),
        ({"properties": {"a": {"properties": {"b": {"enum": ["x"]}}}}}, {"a": {"b": "y"}}, "a.b", "must be one of x"),
        ({"type": "integer"}, True, "$", "must be of the type integer"),
        ({"const": 1}, True, "$", "must be 1"),
        ({"pattern": "^[a-z]+$(?!\\n)"}, "abc\n", "$", "must fit ^[a-z]+$(?!\\n)"),
    ],
)
def test_a_misfit_names_its_place_and_its_rule(schema: dict[str, Any], value: Any, where: str, rule: str) -> None:
    with pytest.raises(Misfit) as misfit:
        compiled(schema)(value)
    assert (misfit.value.where, misfit.value.rule) == (where, rule)


def test_a_keyword_that_is_not_compiled_is_refused_not_ignored() -> None:
    with pytest.raises(UnknownKeyword, match="format"):
        compiled({"type": "object", "properties": {"a": {"format": "date-time"}}})
