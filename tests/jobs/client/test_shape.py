"""The verifier's own reader of schemas agrees with the library that the writer uses."""

import random

import pytest
from jsonschema import Draft202012Validator

from jobs.client.shape import find_fault, fitting
from receipts.canonical import decode
from receipts.events import schema_of
from tests.jobs.client.house import House
from tests.jobs.client.test_mutations import changes, leaves, replaced


def test_it_agrees_with_jsonschema_on_every_receipt_and_every_change_of_it(house: House) -> None:
    dice = random.Random(3)
    judged = refused = 0
    for logged in house.tally.receipts:
        value = decode(logged.body)
        schema = schema_of(value["eventType"])
        library, fits = Draft202012Validator(schema), fitting(schema)
        assert find_fault(schema, value) is None
        for path, old in leaves(value):
            for new in [*changes(old, dice), ..., None, [], {}, -1, 2**60, "x" * 20_000]:
                changed = replaced(value, path, new)
                fault = find_fault(schema, changed)
                assert (fault is None) == library.is_valid(changed), (path, new, fault)
                assert (fault is None) is bool(fits(changed)), (path, new, fault)
                judged += 1
                refused += fault is not None
    assert judged > 2_000 and 0 < refused < judged


@pytest.mark.parametrize(
    ("schema", "value", "where", "rule"),
    [
        ({"type": "object", "additionalProperties": False, "properties": {}}, {"a": 1}, "a", "is no field here"),
        ({"type": "object", "required": ["a"]}, {}, "a", "is missing"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "2"], "[1]", "is not of the type integer"),
        ({"properties": {"a": {"properties": {"b": {"enum": ["x"]}}}}}, {"a": {"b": "y"}}, "a.b", "is none of x"),
        ({"type": "integer"}, True, "", "is not of the type integer"),
        ({"const": 1}, True, "", "is not 1"),
        ({"pattern": "^[a-z]+$"}, "abc\n", "", "is not of the form [a-z]+"),
    ],
)
def test_a_fault_names_its_place_and_its_rule(schema: dict[str, object], value: object, where: str, rule: str) -> None:
    fault = find_fault(schema, value)
    assert fault is not None
    assert (fault.where, fault.rule) == (where, rule)
    assert not fitting(schema)(value)
