"""Inputs are checked strictly and brought into one form before anything is written."""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runners import RUNNERS, runner_for
from jobs.runners.base import MAX_SAFE_INTEGER, BadInput, Field, InputSchema
from jobs.runners.text_to_image import SCHEMA

NID = "bafkrei" + "a" * 52

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)

GOOD_TEXT = (
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: bool(text.strip()))
)

GOOD_INPUTS = st.fixed_dictionaries(
    {"prompt": GOOD_TEXT},
    optional={
        "negative_prompt": GOOD_TEXT,
        "steps": st.integers(1, 1000),
        "guidance": st.integers(0, 30) | st.decimals(0, 30, places=3) | st.decimals(0, 30, places=3).map(str),
        "width": st.integers(2, 256).map(lambda n: n * 8),
        "height": st.integers(2, 256).map(lambda n: n * 8),
        "seed": st.integers(0, MAX_SAFE_INTEGER),
        "count": st.integers(1, 4),
    },
)


def refused(inputs: object) -> BadInput:
    with pytest.raises(BadInput) as caught:
        SCHEMA.normalise(inputs)
    return caught.value


@given(GOOD_INPUTS)
def test_good_inputs_are_taken_and_have_one_form(inputs: dict[str, Any]) -> None:
    normal = SCHEMA.normalise(inputs)
    assert SCHEMA.normalise(normal) == normal
    assert list(normal) == [field.name for field in SCHEMA.fields if field.name in normal]
    assert set(inputs) | {"steps", "guidance", "count"} == set(normal)
    for name, value in inputs.items():
        assert normal[name] == value if name != "guidance" else Decimal(normal[name]) == Decimal(value)


@given(GOOD_INPUTS)
def test_what_is_normal_also_fits_the_published_schema(inputs: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA.json_schema()).validate(SCHEMA.normalise(inputs))


@given(GOOD_INPUTS)
def test_nothing_normal_is_a_float_or_a_bool(inputs: dict[str, Any]) -> None:
    assert {type(value) for value in SCHEMA.normalise(inputs).values()} <= {int, str}


@given(st.dictionaries(st.sampled_from([field.name for field in SCHEMA.fields]) | st.text(), JSON) | JSON)
def test_any_other_inputs_are_refused_by_name_or_taken_but_never_crash(inputs: Any) -> None:
    try:
        normal = SCHEMA.normalise(inputs)
    except BadInput as refusal:
        assert refusal.rule
        assert refusal.class_ == "bad-input"
        assert not refusal.may_pass
    else:
        assert set(inputs) <= set(normal)


@given(st.sampled_from(["steps", "width", "seed", "count"]), st.booleans() | st.floats() | st.text() | st.none())
def test_a_whole_number_is_nothing_but_a_whole_number(name: str, value: Any) -> None:
    assert refused({"prompt": "a red circle", name: value}).field == name


@given(st.decimals(0, 30, places=6))
def test_equal_decimals_are_spelt_alike_however_they_were_written(number: Decimal) -> None:
    spellings = {
        SCHEMA.normalise({"prompt": "x", "guidance": form})["guidance"]
        for form in (number, f"{number:f}", number.normalize())
    }
    assert len(spellings) == 1
    (spelling,) = spellings
    assert isinstance(spelling, str)
    assert Decimal(spelling) == number
    assert re.fullmatch(r"(0|[1-9]\d*)(\.\d*[1-9])?", spelling)


@pytest.mark.parametrize(
    ("given_", "carried"),
    [("7.50", "7.5"), ("3.000000", "3"), ("0", "0"), ("-0", "0"), (10, "10"), (Decimal("1E+1"), "10"), ("30", "30")],
)
def test_a_decimal_is_carried_in_its_shortest_spelling(given_: Any, carried: str) -> None:
    assert SCHEMA.normalise({"prompt": "x", "guidance": given_})["guidance"] == carried


@pytest.mark.parametrize(
    "value",
    [
        *(7.5, 3.0, True, None, 31),
        *("", " 3", "3 ", "+3", "1e1", ".5", "5.", "03", "NaN", "Infinity", "0x3", "٣", "3\n"),
        *("30.000001", "-0.1", "7.1234567", "1" * 31),
        *(
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("Infinity"),
            Decimal("1E+999999"),
            Decimal("1E-999999999999"),
            Decimal("-1"),
        ),
    ],
)
def test_what_is_no_plain_decimal_within_bounds_is_refused(value: Any) -> None:
    assert refused({"prompt": "x", "guidance": value}).field == "guidance"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "must have 1 to 2000 characters, has 0"),
        ("   ", "must not be blank"),
        ("x" * 2001, "must have 1 to 2000 characters, has 2001"),
        ("a red\ncircle", "must not hold control characters"),
        ("a\x00b", "must not hold control characters"),
        ("a\u2028b", "must not hold control characters"),
        ("\ud800", "must not hold control characters"),
        ("cafe\u0301", "must be in Unicode's normal form NFC"),
        (7, "must be text"),
        (None, "must be text"),
        (["a red circle"], "must be text"),
    ],
)
def test_a_bad_prompt_is_refused_with_its_rule(value: Any, rule: str) -> None:
    refusal = refused({"prompt": value})
    assert refusal.field == "prompt"
    assert refusal.rule.startswith(rule)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("steps", 0, "must be from 1 to 1000"),
        ("steps", 1001, "must be from 1 to 1000"),
        ("width", 8, "must be from 16 to 2048"),
        ("width", 2056, "must be from 16 to 2048"),
        ("height", 65, "must be a multiple of 8"),
        ("seed", -1, f"must be from 0 to {MAX_SAFE_INTEGER}"),
        ("seed", MAX_SAFE_INTEGER + 1, f"must be from 0 to {MAX_SAFE_INTEGER}"),
        ("count", 5, "must be from 1 to 4"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused_with_the_bounds(name: str, value: int, rule: str) -> None:
    refusal = refused({"prompt": "x", name: value})
    assert (refusal.field, refusal.rule) == (name, rule)


def test_a_missing_prompt_is_refused() -> None:
    assert (refused({}).field, refused({}).rule) == ("prompt", "is required")


def test_an_unknown_field_is_refused_and_the_known_ones_are_named() -> None:
    refusal = refused({"prompt": "x", "sampler": "euler"})
    assert refusal.field == "sampler"
    assert "negative_prompt" in refusal.rule


@pytest.mark.parametrize("inputs", [None, [], "a red circle", 3])
def test_inputs_that_are_no_object_are_refused(inputs: object) -> None:
    assert refused(inputs).field == "inputs"


def test_a_refusal_never_repeats_the_value() -> None:
    assert "secret" not in str(refused({"prompt": "secret\n"}))


def test_a_seed_that_is_not_given_stays_open() -> None:
    assert "seed" not in SCHEMA.normalise({"prompt": "x"})


def test_choices_and_files_are_checked_too() -> None:
    schema = InputSchema(
        (
            Field(name="scale", type="choice", help="How much.", choices=("2", "4"), default="2"),
            Field(name="picture", type="file", help="What to enlarge.", required=True),
        )
    )
    assert schema.normalise({"picture": NID}) == {"scale": "2", "picture": NID}
    for inputs, field in [
        ({"picture": NID, "scale": "3"}, "scale"),
        ({"picture": NID, "scale": 2}, "scale"),
        ({"picture": NID[:-1]}, "picture"),
        ({"picture": "/etc/passwd"}, "picture"),
        ({"picture": NID + "\n"}, "picture"),
    ]:
        with pytest.raises(BadInput) as caught:
            schema.normalise(inputs)
        assert caught.value.field == field


@pytest.mark.parametrize(
    "declaration",
    [
        {"type": "integer"},
        {"type": "colour"},
        {"type": "choice"},
        {"type": "decimal", "minimum": "0", "maximum": "9", "default": "3.0"},
        {"type": "integer", "minimum": 0, "maximum": 9, "default": 10},
        {"type": "file", "required": True, "default": NID},
    ],
)
def test_a_field_that_contradicts_itself_cannot_be_declared(declaration: dict[str, Any]) -> None:
    with pytest.raises((ValueError, BadInput)):
        Field(name="field", help="", **declaration)


def test_two_fields_of_one_name_cannot_be_declared() -> None:
    field = Field(name="picture", type="file", help="")
    with pytest.raises(ValueError, match="two fields of one name"):
        InputSchema((field, field))


@pytest.mark.parametrize("kind", sorted(RUNNERS))
def test_each_kind_publishes_a_valid_schema_with_a_word_on_each_field(kind: str) -> None:
    schema = runner_for(kind).schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert all(field["description"].endswith(".") for field in schema["properties"].values())


@pytest.mark.parametrize("kind", ["", "text to image", "zk-proof", None, 3, ["text-to-image"]])
def test_an_unknown_kind_is_refused(kind: object) -> None:
    with pytest.raises(BadInput) as caught:
        runner_for(kind)
    assert caught.value.field == "kind"
