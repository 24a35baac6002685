"""The house publishes whose keys it goes by, signed by its root key."""

from typing import Any

from django.test import Client

from receipts import wellknown
from receipts.canonical import encode
from receipts.keys import ed25519_signer, verify_text


def test_the_published_document_is_signed_by_the_root_key(house: None, settings: Any) -> None:
    answer = Client().get("/.well-known/tallystick.json")
    assert answer.status_code == 200
    told = answer.json()
    signature = told.pop("signature")
    root = ed25519_signer("root", settings.KEYS_DIR).key_id
    assert verify_text(encode(told).decode(), signature) == root
    assert told["format"] == "tallystick-trust/1"
    assert told["log"]["origin"] == settings.LOG_ORIGIN
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_a_house_that_has_published_nothing_says_so(house: None, monkeypatch: Any) -> None:
    def nothing() -> dict[str, Any]:
        raise wellknown.NotPublished("no root key here")

    monkeypatch.setattr("receipts.api.views.document", nothing)
    answer = Client().get("/.well-known/tallystick.json")
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/api/v1/problems#not-published"
