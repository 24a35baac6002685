"""A key counts for what stands at its leaves: before a rotation the old one, from it on the new one, never by time.

For each role: what was made before a rotation holds under the trust file of after it; what a key signs that has
ended is broken, and named; who holds a trust file of before is told to fetch it anew.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.client.tally_format import LoggedReceipt
from jobs.client.trust import NotATrustFile, Trust, add_own, fingerprint, require_root, trust_of
from jobs.client.verdicts import Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, Report, verify, verify_tally
from receipts.canonical import encode
from receipts.checkpoint import make_vkey, open_checkpoint
from receipts.keyacts import KeyAct, sign_act
from receipts.keys import Ed25519Signer, sign_text
from tests.jobs.client.house import ORIGIN, House, Keys, seed
from tests.jobs.client.test_verdicts import broken, sets

NEXT = Keys("next")
# role -> the claims that lean on it
LEANS_ON: dict[str, set[str]] = {
    "log": {"checkpoint"},
    "hub": {"promise", "receipts-chain"},
    "provider": {"work-signed", "usage"},
    "client": {"request-signed"},
    "attester": {"attestation"},
    "sender": {"anchor"},
}
ROLES = sorted(LEANS_ON)


def log_size(house: House) -> int:
    vkey = make_vkey(ORIGIN, house.keys.log.public)
    return open_checkpoint(str(house.tally.checkpoint), vkey).size


def after(house: House, role: str, leaf: int, *, overlap: int = 0) -> Trust:
    """Cy's trust file of after a rotation at `leaf`, by the house's present root."""
    clients = [house.keys.client.key_id, NEXT.client.key_id]
    if role == "client":
        spans: list[dict[str, Any]] = [
            {"key_id": clients[0], "until_leaf": leaf + overlap},
            {"key_id": clients[1], "since_leaf": leaf},
        ]
        return trust_of(add_own(house.document(), clients=clients, client_keys=spans))
    document = house.document(
        keys=house.keys_after(role, leaf, by=NEXT, overlap=overlap), **published_by_next(house, role)
    )
    return trust_of(add_own(document, clients=clients[:1]))


def published_by_next(house: House, role: str) -> dict[str, Any]:
    """What the document names besides `keys` once a role's key is the next one."""
    before = house.document()
    if role == "log":
        return {"log": {**before["log"], "vkey": str(make_vkey(ORIGIN, NEXT.log.public))}}
    if role == "sender":
        return {"chain": {**before["chain"], "committer": NEXT.sender.key_id}}
    if role == "attester":
        return {"attesters": {"addresses": [NEXT.attester.key_id], "threshold": 1}}
    return {}


def signed_by_next(role: str, folder: Path) -> House:
    """The same house after it rotated one role's key; the log keeps its name."""
    keys = copy.copy(Keys())
    setattr(keys, role, getattr(NEXT, role))
    return House(folder, keys=keys, first_log_key=Keys().log)


def checked(house: House, trust: Trust) -> Report:
    return verify_tally(house.file, trust, artifact=house.artifact)


@pytest.mark.parametrize("role", ROLES)
def test_what_was_made_before_a_rotation_holds_under_the_trust_file_of_after(role: str, house: House) -> None:
    report = checked(house, after(house, role, log_size(house)))
    assert report.exit_code == EXIT_HOLDS, broken(report)


@pytest.mark.parametrize("role", ROLES)
def test_what_an_ended_key_signs_is_broken_and_key_leaf_and_range_are_named(role: str, house: House) -> None:
    report = checked(house, after(house, role, 2))
    assert report.exit_code == EXIT_BROKEN
    found = broken(report)
    assert found.keys() >= LEANS_ON[role], found
    key_id = getattr(house.keys, role).key_id
    for claim in LEANS_ON[role]:
        told = report.of(claim)
        assert f"the {role} key {key_id} counts from leaf 0 to 1, not at leaf" in told.detail
        assert (told.expected, str(told.found).split()[0]) == ("from leaf 0 to 1", "leaf")


@pytest.mark.parametrize("role", ROLES)
def test_what_the_next_key_signs_holds_from_its_first_leaf_on(role: str, house: House, folder: Path) -> None:
    later = signed_by_next(role, folder)
    report = checked(later, after(house, role, 5))  # five strangers' leaves lie before the job's first
    assert report.exit_code == EXIT_HOLDS, broken(report)


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"sender"}))
def test_what_the_next_key_signs_does_not_reach_back(role: str, house: House, folder: Path) -> None:
    report = checked(signed_by_next(role, folder), after(house, role, 10_000))
    assert broken(report).keys() == LEANS_ON[role]


def test_who_follows_as_sender_may_commit_a_checkpoint_of_before(house: House, folder: Path) -> None:
    """An anchor comes after its checkpoint, so a rotation may fall between the two."""
    report = checked(signed_by_next("sender", folder), after(house, "sender", 10_000))
    assert report.exit_code == EXIT_HOLDS, broken(report)


@pytest.mark.parametrize("role", ROLES)
def test_a_trust_file_of_before_a_rotation_says_to_fetch_it_anew(
    role: str, house: House, trust: Trust, folder: Path
) -> None:
    report = checked(signed_by_next(role, folder), trust)
    found = broken(report)
    assert found.keys() == LEANS_ON[role], found
    for claim in LEANS_ON[role]:
        told = report.of(claim)
        assert "fetch it anew" in told.detail or (
            claim == "request-signed" and "taken by a client since" in told.detail
        )
        assert told.found is not None and getattr(NEXT, role).key_id in (told.found, *vkeys_named(told.found))


def vkeys_named(found: str) -> list[str]:
    """The log's key is named by the hash that notes know it by."""
    return [NEXT.log.key_id] if found == make_vkey(ORIGIN, NEXT.log.public).key_hash.hex() else []


def test_a_rotation_in_the_middle_of_a_job_is_judged_receipt_by_receipt(house: House, folder: Path) -> None:
    """The old hub key scheduled, the new one issued the credential: each at its own leaf."""
    rotated = House(folder, alter={"CredentialIssued": sets("actor", to=f"hub:{NEXT.hub.key_id}")})
    issued = next(item for item in rotated.tally.receipts if b'"CredentialIssued"' in item.body)
    assert issued.leaf is not None
    assert checked(rotated, after(house, "hub", issued.leaf)).exit_code == EXIT_HOLDS
    for leaf in (issued.leaf + 1, 5):
        found = broken(checked(rotated, after(house, "hub", leaf)))
        assert "receipts-chain" in found, leaf


def test_two_keys_that_overlap_both_count_meanwhile(house: House, folder: Path) -> None:
    size = log_size(house)
    overlapping = after(house, "hub", 5, overlap=size)
    for one in (house, signed_by_next("hub", folder)):
        assert checked(one, overlapping).exit_code == EXIT_HOLDS


@pytest.mark.parametrize("role", ["hub", "provider", "client"])
def test_what_has_no_leaf_yet_waits_for_it_where_the_key_has_an_end(role: str, house: House) -> None:
    pending = tuple(LoggedReceipt(item.body, None, None) for item in house.tally.receipts[:4])
    tally = replace(house.tally, receipts=pending, checkpoint=None, anchor=None, mint=None, disclosed=())
    report = verify(tally, after(house, role, 7))
    assert not broken(report)
    waits = [item for item in report.verdicts if "its leaf is not known yet" in item.detail]
    assert waits and all(item.verdict is Word.UNKNOWN for item in waits)
    assert {item.claim for item in waits} <= LEANS_ON[role]


def test_a_trust_file_of_before_senders_were_listed_is_read_as_ever(house: House, folder: Path) -> None:
    keys = [key for key in house.published_keys() if key["role"] != "sender"]
    trust = house.trust(keys=keys)
    assert checked(house, trust).exit_code == EXIT_HOLDS
    assert broken(checked(signed_by_next("sender", folder), trust)) == {"anchor": "anchor.raw sender"}


def test_a_key_that_never_counted_says_so(house: House) -> None:
    report = checked(house, after(house, "hub", 0))
    assert "counts for no leaf" in report.of("promise").detail


# --- the root ------------------------------------------------------------------------------------------------


def succession(old: Ed25519Signer, new: Ed25519Signer, **changes: Any) -> dict[str, Any]:
    """The act by which one root key names the next, signed by both."""
    fields: dict[str, Any] = {"act": "rotated", "role": "root", "from_leaf": 9, "at": "2026-11-21T07:00:00.000Z"}
    text = KeyAct(**(fields | {"key_id": new.key_id, "replaces": old.key_id} | changes)).text()
    return {"claim": text, "signatures": [sign_act(old, text), sign_act(new, text)]}


def succeeded(house: House, root: Ed25519Signer, successors: list[dict[str, Any]]) -> dict[str, Any]:
    """What the house publishes under another root key."""
    document = house.document(successors=successors)
    del document["signature"]
    ended = [{**key, "until_leaf": 9} if key["role"] == "root" else key for key in document["keys"]]
    first = next(key for key in ended if key["role"] == "root")
    present = {name: value for name, value in first.items() if name != "until_leaf"} | {
        "key_id": root.key_id,
        "since_leaf": 9,
    }
    document["keys"] = [*ended, present]
    return document | {"signature": sign_text(root, encode(document).decode())}


def test_who_keeps_an_earlier_root_s_fingerprint_is_led_to_the_present_one(house: House) -> None:
    first, second, third = house.keys.root, NEXT.root, Keys("third").root
    document = succeeded(house, third, [succession(first, second), succession(second, third)])
    trust = trust_of(add_own(document, clients=[house.keys.client.key_id]))
    assert (trust.root, trust.roots) == (third.key_id, (first.key_id, second.key_id, third.key_id))
    for root in (first, second, third):
        require_root(trust, fingerprint(root.key_id))
    with pytest.raises(NotATrustFile, match="is expected"):
        require_root(trust, fingerprint(Keys("mallory").root.key_id))
    assert checked(house, trust).exit_code == EXIT_HOLDS


def test_a_succession_that_the_old_root_did_not_sign_leads_nowhere(house: House) -> None:
    first, mallory = house.keys.root, Ed25519Signer(seed("mallory root"))
    good = succession(first, mallory)
    by_one = {**good, "signatures": good["signatures"][1:]}
    for successors, rule in (
        ([by_one], "both root keys"),
        ([good | {"claim": good["claim"].replace('"from_leaf":9', '"from_leaf":8')}], "does not hold"),
        ([succession(first, mallory, role="hub")], "does not lead on"),
        ([succession(NEXT.root, mallory), succession(first, mallory)], "does not lead on"),
        ([succession(first, NEXT.root)], "the file is signed by"),
    ):
        with pytest.raises(NotATrustFile, match=rule):
            trust_of(succeeded(house, mallory, successors))


def test_a_span_is_for_a_client_that_is_believed(house: House) -> None:
    own = add_own(house.document(), clients=[], client_keys=[{"key_id": NEXT.client.key_id, "until_leaf": 3}])
    with pytest.raises(NotATrustFile, match=r"none of own\.clients"):
        trust_of(own)
