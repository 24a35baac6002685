"""Bodies that two readers could read in two ways are refused, and nothing is written."""

from decimal import Decimal

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from jobs.api.parsing import BadBody, plain, read_json
from jobs.models import Job
from tests.jobs.api.cast import Program

BAD_BODIES: list[tuple[bytes, str, str]] = [
    (b"", "kind", "is required"),
    (b"{", "$", "must be JSON"),
    (b"red circle", "$", "must be JSON"),
    (b'{"kind":"text-to-image"} {}', "$", "must be JSON"),
    (b"[]", "$", "must be a JSON object"),
    (b'"text"', "$", "must be a JSON object"),
    (b'{"kind":"text-to-image","kind":"zk-proof"}', "kind", "must stand once"),
    (b'{"inputs":{"prompt":"a","prompt":"b"}}', "prompt", "must stand once"),
    (b'{"inputs":{"guidance":NaN}}', "NaN", "is no JSON value"),
    (b'{"inputs":{"guidance":-Infinity}}', "-Infinity", "is no JSON value"),
    (b'{"inputs":{"guidance":1e400}}', "1e400", "must be a number of reasonable size"),
    (b'{"inputs":{"guidance":1e-999999999}}', "1e-999999999", "must be a number of reasonable size"),
    (b'{"inputs":{"seed":9007199254740993}}', "9007199254740993", "must be sent as text"),
    (b'{"inputs":{"seed":' + b"9" * 100_000 + b"}}", "9" * 80, "must be sent as text"),
    (b'\xef\xbb\xbf{"kind":"text-to-image"}', "$", "must not start with a byte order mark"),
    (b'{"kind":"\xff\xfe"}', "$", "must be UTF-8"),
    ('{"inputs":{"prompt":"e\u0301"}}'.encode(), "inputs.prompt", "must be in Unicode normal form C"),
    (b'{"inputs":{"prompt":"\\ud800"}}', "inputs.prompt", "must not hold half of a surrogate pair"),
    (b"[" * 100_000, "$", "must not be nested deeper"),
    (b'{"a":' * 20 + b"1" + b"}" * 20, "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "must not be nested deeper"),
]


@pytest.mark.parametrize(("body", "where", "rule"), BAD_BODIES, ids=lambda value: str(value)[:30])
def test_a_body_that_could_be_read_in_two_ways_is_refused(ada: Program, body: bytes, where: str, rule: str) -> None:
    answer = ada.submit(body)
    told = answer.json()
    assert answer.status_code == (400 if body else 422), told
    assert answer["Content-Type"] == "application/problem+json"
    assert told["errors"][0]["field"] == where
    assert told["errors"][0]["rule"].startswith(rule)
    assert len(answer.content) < 1000
    assert not Job.objects.exists()


def test_a_body_over_the_limit_is_not_read(ada: Program) -> None:
    answer = ada.submit(b'{"kind":"' + b"x" * 1024 * 1024 + b'"}')
    assert answer.status_code == 413
    assert answer.json()["type"] == "/api/v1/problems#too-large"


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
    ],
)
def test_only_json_is_read(ada: Program, media_type: str) -> None:
    answer = ada.http.post("/api/v1/jobs", b'{"kind":"text-to-image"}', content_type=media_type)
    assert answer.status_code == 415
    assert answer["Content-Type"] == "application/problem+json"


def test_a_compressed_body_is_not_unpacked(ada: Program) -> None:
    answer = ada.post("/api/v1/jobs", b"{}", **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_nobody_learns_about_bodies_without_a_key() -> None:
    answer = Client().post("/api/v1/jobs", b"{", content_type="application/json")
    assert answer.status_code == 401


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_in_another_way(data: bytes) -> None:
    try:
        read_json(data)
    except BadBody as error:
        assert error.rule


@pytest.mark.parametrize(
    ("text", "said"), [("7.50", "7.5"), ("7.0", "7"), ("-0.0", "0"), ("1e3", "1000"), ("0.000001", "0.000001")]
)
def test_a_decimal_is_hashed_in_its_shortest_spelling(text: str, said: str) -> None:
    read = read_json(b'{"x":[%s]}' % text.encode())
    assert isinstance(read["x"][0], Decimal)
    assert plain(read) == {"x": [said]}
