"""The document that trust files are made from: signed by the root, also where the root key is elsewhere."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from config.founding import make_keys, register_keys
from receipts.canonical import encode
from receipts.keys import SignatureBroken, ed25519_signer, verify_text
from receipts.log import found_log
from receipts.wellknown import NotPublished, document


@pytest.fixture
def keys(settings: Any, tmp_path: Path, db: None) -> Path:
    settings.DATA_DIR, settings.KEYS_DIR = tmp_path, tmp_path / "keys"
    settings.LOG_ORIGIN = "tests.invalid/wellknown"
    settings.CHAIN_RPC_URL = ""
    make_keys(lambda _line: None)
    found_log(settings.LOG_ORIGIN)
    register_keys()
    return tmp_path / "keys"


def signed_text(told: dict[str, Any]) -> str:
    return encode({name: value for name, value in told.items() if name != "signature"}).decode()


def test_the_root_signs_what_is_published(keys: Path) -> None:
    told = document()
    root = ed25519_signer("root", keys)
    verify_text(signed_text(told), told["signature"], key_id=root.key_id)
    assert {key["role"] for key in told["keys"]} == {"root", "log", "hub", "attester", "sender"}
    told["log"]["url"] = "https://elsewhere.invalid/"
    with pytest.raises(SignatureBroken):
        verify_text(signed_text(told), told["signature"], key_id=root.key_id)


def test_a_house_without_chain_claims_none_and_requires_none(keys: Path) -> None:
    told = document()
    assert "chain" not in told
    assert not {"anchor", "mint", "attestation"} & set(told["policy"]["require"])


def test_a_house_without_its_root_key_publishes_what_was_signed_elsewhere(keys: Path, tmp_path: Path) -> None:
    collected, signed = StringIO(), StringIO()
    call_command("sign_wellknown", "--collect", stdout=collected)
    (tmp_path / "unsigned.json").write_text(collected.getvalue())
    call_command("sign_wellknown", "--sign", str(tmp_path / "unsigned.json"), stdout=signed)
    (tmp_path / "signed.json").write_text(signed.getvalue())
    (keys / "root.key").unlink()
    with pytest.raises(NotPublished):
        document()
    with pytest.raises(CommandError, match="no signature"):
        call_command("sign_wellknown", "--publish", str(tmp_path / "unsigned.json"))
    call_command("sign_wellknown", "--publish", str(tmp_path / "signed.json"), stdout=StringIO())
    assert document() == json.loads(signed.getvalue())
