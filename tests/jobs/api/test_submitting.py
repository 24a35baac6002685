"""A job comes in over HTTP: accepted once, or refused with the field and the rule, and nothing written."""

import json
import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from jobs import lifecycle
from jobs.claims import REQUEST, claim_text
from jobs.models import Job
from receipts.canonical import b64url, field_digest, nid, unb64url, utc
from receipts.keys import ed25519_signer, sign_text, verify_text
from receipts.models import Pending, Receipt
from receipts.record import database_now
from tests.jobs.api.cast import CIRCLE, Program


def counts() -> tuple[int, int]:
    return Job.objects.count(), Receipt.objects.filter(event_type="JobSubmitted").count()


def test_a_job_is_accepted_with_its_nid_and_the_hubs_promise(ada: Program) -> None:
    answer = ada.submit()
    told = answer.json()
    assert answer.status_code == 201, told
    assert answer["Location"] == told["links"]["self"] == f"http://testserver/api/v1/jobs/{told['job_id']}"
    receipt = Receipt.objects.get(nid=told["nid"])
    assert nid(bytes(receipt.body)) == told["nid"]
    assert json.loads(told["promise"]["claim"])["nid"] == told["nid"]
    verify_text(told["promise"]["claim"], told["promise"]["sig"])
    assert told["inputs"]["prompt"] == field_digest("prompt", "a red circle", unb64url(told["salts"]["prompt"]))
    assert Pending.objects.filter(receipt=receipt).exists()


def test_the_receipt_holds_no_word_of_the_prompt(ada: Program) -> None:
    told = ada.submit().json()
    assert b"red circle" not in bytes(Receipt.objects.get(nid=told["nid"]).body)


def test_creating_a_job_costs_two_queries(ada: Program) -> None:
    ada.submit()
    with CaptureQueriesContext(connection) as asked:
        assert ada.submit(**{"Idempotency-Key": "one"}).status_code == 201
    told = [query["sql"] for query in asked if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert [_what(sql) for sql in told] == [
        "who calls: the key, its tenant, the clock",
        "if there is room, a lock and no first answer: the receipt, its thread, its pending leaf, the job",
    ], told


def _what(sql: str) -> str:
    names = {
        "who calls: the key, its tenant, the clock": ["FROM jobs_apikey", "clock_timestamp"],
        "if there is room, a lock and no first answer: the receipt, its thread, its pending leaf, the job": [
            "count(*) FROM (SELECT FROM jobs_job",
            "pg_try_advisory_xact_lock",
            "INSERT INTO receipts_receipt",
            "INSERT INTO receipts_thread",
            "INSERT INTO jobs_job",
            "INSERT INTO receipts_pending",
        ],
    }
    return next((name for name, parts in names.items() if all(part in sql for part in parts)), sql)


BAD_FIELDS: list[tuple[Any, str, str]] = [
    ({}, "kind", "is required"),
    ({"kind": "text-to-image"}, "inputs", "is required"),
    (CIRCLE | {"kind": "text-to-poem"}, "kind", "must be one of"),
    (CIRCLE | {"kind": 7}, "kind", "must be one of"),
    (CIRCLE | {"model": "../../etc/passwd"}, "model", "must be one of"),
    (CIRCLE | {"model": None}, "model", "must be one of"),
    (CIRCLE | {"colour": "red"}, "colour", "is not known here"),
    (CIRCLE | {"inputs": ["a red circle"]}, "inputs", "must be an object"),
    (CIRCLE | {"inputs": {"prompt": "a red circle", "stepz": 5}}, "inputs.stepz", "is not known here"),
    (CIRCLE | {"inputs": {"prompt": 5}}, "inputs.prompt", "must be text"),
    (CIRCLE | {"inputs": {}}, "inputs.prompt", "is required"),
    (CIRCLE | {"inputs": {"prompt": "x" * 100_000}}, "inputs.prompt", "must have 1 to 2000 characters"),
    (CIRCLE | {"inputs": {"prompt": "a red\ncircle"}}, "inputs.prompt", "must not hold control characters"),
    (CIRCLE | {"inputs": {"prompt": "a", "width": 63}}, "inputs.width", "must be a multiple of 8"),
    (CIRCLE | {"inputs": {"prompt": "a", "width": 10**6}}, "inputs.width", "must be from 16 to 2048"),
    (CIRCLE | {"inputs": {"prompt": "a", "steps": True}}, "inputs.steps", "must be a whole number"),
    (CIRCLE | {"inputs": {"prompt": "a", "guidance": "7,5"}}, "inputs.guidance", "must be a decimal"),
    (CIRCLE | {"max_price": 5}, "max_price", "must be decimal text"),
    (CIRCLE | {"max_price": "1.5"}, "max_price", "must be decimal text"),
    (CIRCLE | {"max_price": "9" * 79}, "max_price", "must be decimal text"),
    (CIRCLE | {"priority": -1}, "priority", "must be a whole number from 0 to 100"),
    (CIRCLE | {"priority": True}, "priority", "must be a whole number"),
    (CIRCLE | {"ttl_s": 1}, "ttl_s", "must be a whole number from 10"),
    (CIRCLE | {"ttl_s": 10**12}, "ttl_s", "must be a whole number from 10"),
    (CIRCLE | {"claim": "{}"}, "claim", "comes together with sig and salts"),
    (CIRCLE | {"claim": 5}, "claim", "must be text"),
    (CIRCLE | {"sig": {"alg": "Ed25519"}}, "sig", "must be an object of the texts"),
    (CIRCLE | {"salts": {"prompt": "short"}}, "salts.prompt", "must be 16 bytes"),
]


@pytest.mark.parametrize(("body", "field", "rule"), BAD_FIELDS, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_named_with_its_rule_and_nothing_is_written(
    ada: Program, body: Any, field: str, rule: str
) -> None:
    before = counts()
    answer = ada.submit(body)
    told = answer.json()
    assert answer.status_code == 422, told
    assert answer["Content-Type"] == "application/problem+json"
    assert told["type"] == "/api/v1/problems#bad-field"
    assert told["errors"][0]["field"] == field
    assert told["errors"][0]["rule"].startswith(rule)
    assert len(answer.content) < 1000
    assert counts() == before


def test_decimals_may_come_as_json_numbers_and_are_kept_exactly(ada: Program) -> None:
    told = ada.submit(b'{"kind":"text-to-image","inputs":{"prompt":"a red circle","guidance":7.50}}').json()
    assert Job.objects.get(pk=told["job_id"]).inputs["guidance"] == "7.5"


def test_the_same_idempotency_key_gets_the_first_answer_again(ada: Program) -> None:
    first = ada.submit(**{"Idempotency-Key": "circle-1"})
    before = counts()
    again = ada.submit(**{"Idempotency-Key": "circle-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert counts() == before


def test_the_same_body_in_another_spelling_is_the_same_body(ada: Program) -> None:
    body = b'{"inputs":{"guidance":7.5,"prompt":"a red circle"},"kind":"text-to-image"}'
    spelt = b'{ "kind": "text-to-image",\n "inputs": {"prompt": "a red \\u0063ircle", "guidance": 7.50} }'
    first = ada.submit(body, **{"Idempotency-Key": "k"}).json()
    assert ada.submit(spelt, **{"Idempotency-Key": "k"}).json()["job_id"] == first["job_id"]


def test_the_same_idempotency_key_with_another_body_is_refused(ada: Program) -> None:
    ada.submit(**{"Idempotency-Key": "circle-1"})
    before = counts()
    answer = ada.submit(CIRCLE | {"priority": 1}, **{"Idempotency-Key": "circle-1"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/api/v1/problems#idempotency-conflict"
    assert counts() == before


def test_an_idempotency_key_is_its_tenants_own(ada: Program, mallory: Program) -> None:
    first = ada.submit(**{"Idempotency-Key": "circle-1"})
    other = mallory.submit(**{"Idempotency-Key": "circle-1"})
    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["job_id"] != other.json()["job_id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "ü", "x" * 121, "tab\there"])
def test_an_idempotency_key_is_visible_ascii(ada: Program, key: str) -> None:
    before = counts()
    answer = ada.submit(**{"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert counts() == before


def test_a_full_queue_says_when_to_come_back(ada: Program, settings: Any) -> None:
    settings.QUEUE_LIMIT = 2
    assert [ada.submit().status_code for _ in range(3)] == [201, 201, 429]
    answer = ada.submit()
    assert answer.json()["type"] == "/api/v1/problems#queue-full"
    assert int(answer["Retry-After"]) >= 1


def signed_request(body: dict[str, Any], inputs: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Ada's request with her claim: `inputs` in their normal form."""
    from django.conf import settings

    salts = {name: b64url(bytes([index]) * 16) for index, name in enumerate(inputs)}
    told = {
        "kind": "text-to-image",
        "model": "tiny-shapes",
        "inputs": {name: field_digest(name, value, unb64url(salts[name])) for name, value in inputs.items()},
        "hub": settings.LOG_ORIGIN,
        "nonce": b64url(b"n" * 16),
        "at": utc(database_now()),
    } | changed
    claim = claim_text(REQUEST, **told)
    return body | {"claim": claim, "sig": sign_text(ed25519_signer("client", settings.KEYS_DIR), claim), "salts": salts}


NORMAL = {"prompt": "a red circle", "steps": 5, "guidance": "3", "seed": 7, "count": 1}


def test_a_signed_request_is_kept_as_the_clients_own_word(ada: Program) -> None:
    body = signed_request(CIRCLE, NORMAL)
    answer = ada.submit(body)
    assert answer.status_code == 201, answer.json()
    receipt = json.loads(bytes(Receipt.objects.get(nid=answer.json()["nid"]).body))
    assert receipt["data"]["claim"] == body["claim"]
    assert receipt["actor"] == f"client:{body['sig']['key_id']}"


def test_a_claim_that_says_something_else_than_the_request_is_refused(ada: Program) -> None:
    before = counts()
    for changed, field in (({"model": "other"}, "claim.model"), ({"hub": "elsewhere"}, "claim.hub")):
        answer = ada.submit(signed_request(CIRCLE, NORMAL, **changed))
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
    answer = ada.submit(signed_request(CIRCLE, NORMAL | {"prompt": "a blue circle"}))
    assert answer.json()["errors"][0]["field"] == "claim.inputs"
    assert counts() == before


def test_another_tenants_signing_key_does_not_count(mallory: Program) -> None:
    answer = mallory.submit(signed_request(CIRCLE, NORMAL))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "sig.key_id"


@pytest.mark.django_db(transaction=True)
def test_a_repeat_while_the_first_is_being_worked_on_is_told_to_wait(
    transactional_db: None, ada: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    submit = lifecycle.submit

    def slow(**fields: Any) -> Any:
        """Stand between the statement and its commit, as it does while the disk is slow."""
        with transaction.atomic():
            done = submit(**fields)
            inside.set()
            assert go_on.wait(20)
        return done

    answers: list[int] = []

    def first() -> None:
        try:
            answers.append(ada.submit(**{"Idempotency-Key": "k"}).status_code)
        finally:
            connections.close_all()

    with monkeypatch.context() as patched:
        patched.setattr("jobs.lifecycle.submit", slow)
        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(20)
    try:
        second = ada.submit(**{"Idempotency-Key": "k"})
    finally:
        go_on.set()
        thread.join(20)
    assert second.status_code == 409
    assert second.json()["type"] == "/api/v1/problems#still-running"
    assert "Retry-After" in second
    assert answers == [201]
    assert Job.objects.count() == 1
