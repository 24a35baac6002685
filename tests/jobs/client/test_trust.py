"""A trust file is what the root key signed, and the holder's own part; nothing else is believed."""

import json
import random
from typing import Any

import pytest

from jobs.client.trust import (
    CLAIMS,
    NotATrustFile,
    Trust,
    add_own,
    fingerprint,
    read_trust,
    require_root,
    trust_of,
)
from receipts.canonical import encode
from receipts.checkpoint import COSIGNATURE_V1, make_vkey
from receipts.keys import sign_text
from tests.jobs.client.house import House, Keys, seed
from tests.jobs.client.test_mutations import changes, leaves, replaced

KEY: dict[str, Any] = {"role": "provider", "alg": "Ed25519", "key_id": "B" * 43, "since_leaf": 0}


def refused(value: Any) -> str:
    """Say why a document is refused."""
    with pytest.raises(NotATrustFile) as error:
        trust_of(value)
    return str(error.value)


def test_what_the_house_publishes_is_a_trust_file(house: House) -> None:
    trust = read_trust(encode(house.document()))
    assert trust.origin == "tallystick.test/log"
    assert trust.root == house.keys.root.key_id
    assert trust.clients == frozenset()
    assert set(trust.require) <= set(CLAIMS)
    assert trust.chain is not None and trust.chain.confirmations == 2


def test_whatever_value_of_the_signed_part_is_changed_is_refused(house: House) -> None:
    document = house.document()
    dice = random.Random(1)
    for path, value in leaves(document):
        for new in changes(value, dice):
            assert refused(replaced(document, path, new)), (path, new)


def test_the_holders_own_part_is_theirs(house: House) -> None:
    mine = add_own(house.document(), clients=[KEY["key_id"], KEY["key_id"]], require=["witnesses"])
    assert mine["own"] == {"clients": ["B" * 43], "require": ["witnesses"]}
    assert trust_of(mine).require[-1] == "witnesses"
    again = add_own(mine, clients=[])
    assert trust_of(again).clients == frozenset()
    assert "own" not in house.document()


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        ({"clients": "B" * 43}, "own.clients"),
        ({"clients": ["x"]}, "own.clients[0]"),
        ({"clients": [], "require": ["all"]}, "own.require[0]"),
        ({"clients": [], "keys": []}, "own.keys"),
        ({}, "own.clients"),
    ],
)
def test_an_own_part_that_says_nothing_known_is_refused(house: House, own: Any, rule: str) -> None:
    assert refused({**house.document(), "own": own}).startswith(rule)


def test_only_the_root_key_that_the_holder_knows_is_taken(house: House) -> None:
    trust = trust_of(house.document())
    require_root(trust, trust.root)
    require_root(trust, fingerprint(trust.root))
    require_root(trust, f"sha256:{fingerprint(trust.root)}")
    for other in ("", "0" * 64, fingerprint(Keys("mallory").root.key_id), trust.root[:-1]):
        with pytest.raises(NotATrustFile, match="is expected"):
            require_root(trust, other)


def test_a_document_that_another_key_signed_is_refused(house: House) -> None:
    document = house.document()
    del document["signature"]
    mallory = Keys("mallory").root
    assert "does not name as its root key" in refused(
        document | {"signature": sign_text(mallory, encode(document).decode())}
    )


def test_a_key_has_one_role(house: House) -> None:
    keys = house.document()["keys"]
    both = [*keys, {**KEY, "key_id": house.keys.log.key_id}]
    assert "has two roles, log and provider" in refused(house.document(keys=both))


def test_the_published_log_key_is_one_of_the_logs(house: House) -> None:
    document = house.document()
    other = str(make_vkey("tallystick.test/log", Keys("mallory").log.public))
    assert "log.vkey" in refused(house.document(log={**document["log"], "vkey": other}))
    assert "log.vkey" in refused(house.document(log={**document["log"], "vkey": "nonsense"}))


def test_a_witness_signs_cosignatures_and_nothing_else(house: House) -> None:
    public = Keys("witness").log.public
    assert trust_of(house.document(witnesses=[str(make_vkey("w.test", public, COSIGNATURE_V1))])).witnesses
    assert "type 0x04" in refused(house.document(witnesses=[str(make_vkey("w.test", public))]))
    assert "witnesses[0]" in refused(house.document(witnesses=["w.test"]))


def test_a_later_format_is_called_newer(house: House) -> None:
    assert "newer" in refused(house.document(format="tallystick-trust/2"))
    assert "newer" not in refused(house.document(format="tallystick-trust/1b"))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"hello", b"\x89PNG\r\n", b'{"format":1}', seed("x")])
def test_what_is_no_trust_file_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(NotATrustFile) as error:
        read_trust(data)
    assert "\n" not in str(error.value)


def test_a_house_without_a_chain_has_a_trust_file_too(house: House) -> None:
    trust = trust_of(house.document(chain=None))
    assert isinstance(trust, Trust) and trust.chain is None


def test_json_with_a_key_twice_is_refused(house: House) -> None:
    data = json.dumps(house.document())[:-1] + ', "format": "tallystick-trust/1"}'
    with pytest.raises(NotATrustFile, match="twice"):
        read_trust(data.encode())
