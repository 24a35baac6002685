"""A house that lies consistently, in well-hashed, well-logged receipts, is found by what it says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.claims import FAILED
from jobs.client.steps.artifact import require_assertion
from jobs.client.tally_format import LoggedReceipt, Tally, write_tally
from jobs.client.trust import Trust, add_own, trust_of
from jobs.client.verdicts import Broken, Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, EXIT_NEWER, EXIT_UNKNOWN, STEPS, Report, verify, verify_tally
from receipts.canonical import encode
from receipts.checkpoint import Checkpoint, sign_note
from receipts.committers.erc7053 import encode_commit
from tests.jobs.client.house import JOB_ID, ORIGIN, REQUIRED, House, Keys, Teller

Lie = Callable[[dict[str, Any]], None]


def sets(*path: str, to: Any) -> Lie:
    """Change one field to a value, or by a function of the old one."""

    def lie(value: dict[str, Any]) -> None:
        place = value
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to(place[path[-1]]) if callable(to) else to

    return lie


def broken(report: Report) -> dict[str, str | None]:
    """Name what broke, and at which field."""
    return {item.claim: item.field for item in report.verdicts if item.verdict is Word.BROKEN}


def changed(house: House, knob: str, change: dict[str, Any]) -> House:
    """Turn one of the house's knobs."""
    setattr(house, knob, change)
    return house


def told(house: House, trust: Trust, *, about: str = "artifact") -> Report:
    """Verify what a house tells, with the file where it matters: reading its credential costs most."""
    artifact = house.artifact if about in ("artifact", "credential") else None
    return verify_tally(house.file, trust, artifact=artifact)


def drops(*path: str) -> Lie:
    """Leave one field out."""

    def lie(value: dict[str, Any]) -> None:
        place = value
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return lie


LATER = "2026-11-21T07:59:00.000Z"
# What the hub says wrongly -> the one claim that finds it, and a part of the field that it names.
HUB_LIES: list[tuple[str, Lie, str, str]] = [
    ("JobSubmitted", sets("data", "model", to="another-model"), "request-signed", "data.model"),
    ("JobSubmitted", sets("data", "max_price", to="9"), "request-signed", "data.max_price"),
    ("JobSubmitted", sets("actor", to="client:" + "A" * 43), "request-signed", "actor"),
    ("JobSubmitted", sets("seq", to=2), "receipts-chain", "receipts[0] JobSubmitted seq"),
    ("JobSubmitted", drops("data", "sig"), "request-signed", "data.sig"),
    ("JobSubmitted", drops("data", "claim"), "request-signed", "data.claim"),
    ("JobScheduled", sets("data", "provider", to="B" * 43), "work-signed", "data.claim"),
    ("JobScheduled", sets("data", "fencing", to=7), "receipts-chain", "data.fencing"),
    ("JobScheduled", sets("data", "price", to="5"), "usage", "data.claim price"),
    ("JobScheduled", sets("data", "unit_type", to="gpu_ms"), "usage", "data.claim unit_type"),
    ("JobScheduled", sets("actor", to="hub:" + "A" * 43), "receipts-chain", "actor"),
    ("JobScheduled", sets("actor", to="provider:" + "A" * 43), "receipts-chain", "actor"),
    ("JobScheduled", sets("seq", to=3), "receipts-chain", "seq"),
    ("JobScheduled", sets("prev", to="bafkrei" + "a" * 52), "receipts-chain", "prev"),
    ("JobScheduled", sets("attempt", to=2), "receipts-chain", "attempt"),
    ("JobScheduled", sets("tenant", to="mallory"), "receipts-chain", "tenant"),
    ("JobScheduled", sets("idempotencyKey", to="gpu-job-x-JobScheduled"), "idempotency-keys", "idempotencyKey"),
    ("JobStarted", sets("occurredAt", to="2026-11-21T06:00:00.000Z"), "receipts-chain", "occurredAt"),
    ("JobStarted", sets("occurredAt", to="2026-99-21T07:00:00.000Z"), "receipts-canonical", "occurredAt"),
    ("JobStarted", sets("jobId", to="job_0000000000000000000000000b"), "receipts-chain", "jobId"),
    ("JobStarted", sets("nid", to="bafkrei" + "a" * 52), "receipts-chain", "nid"),
    ("JobStarted", sets("actor", to="provider:" + "B" * 43), "work-signed", "actor"),
    ("JobStarted", sets("actor", to="hub:" + "B" * 43), "receipts-chain", "actor"),
    ("JobProgressUpdate", sets("data", "step", to=0), "work-signed", "data.step"),
    ("JobProgressUpdate", sets("idempotencyKey", to=lambda key: key[:-1] + "7"), "idempotency-keys", "idempotencyKey"),
    ("JobProgressUpdate", sets("idempotencyKey", to=lambda key: key[:-1] + "x"), "idempotency-keys", "idempotencyKey"),
    ("JobCompleted", sets("idempotencyKey", to=lambda key: key + "-2"), "idempotency-keys", "idempotencyKey"),
    ("JobCompleted", sets("data", "sig", "key_id", to="B" * 43), "work-signed", "data.claim"),
    ("JobCompleted", sets("occurredAt", to="2026-11-21T07:00:00.200Z"), "meter", "finished_at"),
    ("CredentialIssued", sets("data", "name", to="other.png"), "artifact", "data.name"),
    ("CredentialIssued", sets("data", "unsigned_sha256", to="0" * 64), "artifact", "data.unsigned_sha256"),
    ("CredentialIssued", sets("data", "signed_sha256", to="0" * 64), "artifact", "artifact sha256"),
    ("CredentialIssued", sets("data", "size", to=1), "artifact", "data.size"),
    ("CredentialIssued", sets("data", "mime", to="image/jpeg"), "artifact", "data.mime"),
    ("CredentialIssued", sets("data", "manifest_label", to="urn:c2pa:0"), "credential", "label"),
    ("UsageReceipt", sets("data", "receipt_hash", to="0x" + "0" * 64), "usage", "data.receipt_hash"),
    ("UsageAttested", sets("subject", to="usage:another"), "attestation", "subject"),
    ("UsageAttested", sets("data", "receipt_hash", to="0x" + "0" * 64), "attestation", "data.receipt_hash"),
    ("UsageAttested", sets("data", "provider", to="0x" + "c0" * 20), "attestation", "data.provider"),
    ("UsageAttested", sets("data", "units", to=1), "attestation", "data.units"),
    ("UsageAttested", sets("data", "unit_type", to="gpu_ms"), "attestation", "data.unit_type"),
    ("UsageAttested", sets("data", "price", to="1"), "attestation", "data.price"),
    ("UsageAttested", sets("data", "amount", to="1"), "attestation", "data.amount"),
    ("UsageAttested", sets("data", "acceptance", to="signed"), "attestation", "data.acceptance"),
    ("UsageAttested", sets("data", "epoch", to="2026-11-20"), "attestation", "data.epoch"),
    ("UsageAttested", sets("data", "chain_id", to=1), "attestation", "data.chain_id"),
    ("UsageAttested", sets("data", "minter", to="0x" + "c0" * 20), "attestation", "data.minter"),
    ("UsageAttested", sets("data", "deadline", to=1), "attestation", "data.attestations[0]"),
    ("UsageAttested", sets("data", "attestations", to=lambda given: given * 2), "attestation", "data.attestations"),
    ("UsageAttested", sets("actor", to="attester:0x" + "c0" * 20), "attestation", "actor"),
    ("TokensMinted", sets("data", "amount", to="1"), "mint", "data.amount"),
    ("TokensMinted", sets("data", "provider", to="0x" + "c0" * 20), "mint", "data.provider"),
    ("UsageAttested", sets("seq", to=2), "receipts-chain", "UsageAttested seq"),
    ("UsageAttested", sets("prev", to="bafkrei" + "a" * 52), "receipts-chain", "UsageAttested prev"),
    ("TokensMinted", sets("seq", to=3), "receipts-chain", "TokensMinted seq"),
    ("TokensMinted", sets("prev", to="bafkrei" + "a" * 52), "receipts-chain", "TokensMinted prev"),
    ("TokensMinted", sets("subject", to="usage:another"), "mint", "subject"),
    ("TokensMinted", sets("idempotencyKey", to="x"), "idempotency-keys", "idempotencyKey"),
    ("TokensMinted", sets("actor", to="provider:" + "B" * 43), "receipts-chain", "actor"),
    ("TokensMinted", sets("data", "token", to="0x" + "c0" * 20), "mint", "data.token"),
    ("TokensMinted", sets("data", "tx_hash", to="0x" + "0" * 64), "mint", "mint.raw"),
    ("TokensMinted", sets("occurredAt", to="2026-11-21T06:00:00.000Z"), "receipts-chain", "occurredAt"),
]  # fmt: skip
# What a provider or client signs wrongly.
SIGNED_LIES: list[tuple[str, Lie, str, str]] = [
    ("JobRequest", sets("hub", to="another.house/log"), "request-signed", "hub"),
    ("JobRequest", sets("inputs", "prompt", to="A" * 43), "request-signed", "data.inputs"),
    ("Promise", sets("nid", to="bafkrei" + "a" * 52), "promise", "promise.claim nid"),
    ("Promise", sets("log", to="another.house/log"), "promise", "promise.claim log"),
    ("Promise", sets("by", to="2020-01-01T00:00:00.000Z"), "promise", "promise.claim by"),
    ("WorkStarted", sets("job_nid", to="bafkrei" + "a" * 52), "work-signed", "data.claim job_nid"),
    ("WorkStarted", sets("attempt", to=2), "work-signed", "data.claim attempt"),
    ("WorkStarted", sets("fencing", to=2), "work-signed", "data.claim fencing"),
    ("WorkStarted", sets("provider", to="B" * 43), "work-signed", "data.claim provider"),
    ("WorkStarted", sets("device", to=7), "work-signed", "data.claim device"),
    ("WorkStarted", sets("at", to="2026-13-01T00:00:00.000Z"), "work-signed", "data.claim at"),
    ("WorkProgress", sets("step", to=3), "work-signed", "data.step"),
    ("WorkCompleted", sets("job_id", to="job_0000000000000000000000000b"), "work-signed", "data.claim job_id"),
    ("WorkCompleted", sets("finished_at", to="2026-11-21T06:00:00.000Z"), "meter", "finished_at"),
    ("WorkCompleted", sets("finished_at", to=LATER), "meter", "finished_at"),
    ("WorkCompleted", sets("meter", "wall_ms", "value", to=10**6), "meter", "meter.wall_ms"),
    ("WorkCompleted", sets("meter", "cpu_ms", "value", to=10**9), "meter", "meter.cpu_ms"),
    ("WorkCompleted", sets("meter", "cpu_ms", "value", to=1), "usage", "data.claim units"),
    ("WorkCompleted", sets("meter", "cpu_ms", "quality", to="estimated"), "usage", "data.claim units"),
    ("WorkCompleted", sets("meter", "gpu_ms", to={"quality": "measured", "source": "x"}), "meter", "meter.gpu_ms"),
    ("WorkCompleted", sets("meter", "gpu_ms", to={"quality": "measured", "source": "x", "value": 9}), "meter",
     "meter.gpu_ms"),
    ("WorkCompleted", sets("outputs", to=[]), "work-signed", "data.claim outputs"),
    ("UsageClaim", sets("job_id", to="job_0000000000000000000000000b"), "usage", "data.claim job_id"),
    ("UsageClaim", sets("model", to="another"), "usage", "data.claim model"),
    ("UsageClaim", sets("model_digest", to="0" * 64), "usage", "data.claim model_digest"),
    ("UsageClaim", sets("prompt_hash", to="A" * 43), "usage", "data.claim prompt_hash"),
    ("UsageClaim", sets("started_at", to="2026-11-21T07:00:00.000Z"), "usage", "data.claim started_at"),
    ("UsageClaim", sets("finished_at", to=LATER), "usage", "data.claim finished_at"),
    ("UsageClaim", sets("artifact_sha256", to="0" * 64), "usage", "data.claim artifact_sha256"),
    ("UsageClaim", sets("hub_id", to="another.house/log"), "usage", "data.claim hub_id"),
    ("UsageClaim", sets("chain_id", to=1), "usage", "data.claim chain_id"),
    ("UsageClaim", sets("attempt", to=2), "usage", "data.claim attempt"),
    ("UsageClaim", sets("payout", to="0x" + "c0" * 20), "attestation", "data.provider"),
    ("UsageClaim", sets("amount", to="1"), "usage", "data.claim"),
]  # fmt: skip
NOBODY = "0x" + "c0" * 20

CHAIN_LIES: list[tuple[str, dict[str, Any], str, str]] = [
    ("anchor_changes", {"to": NOBODY}, "anchor", "anchor.raw to"),
    ("anchor_changes", {"chain_id": 1}, "anchor", "anchor.raw chain_id"),
    ("anchor_changes", {"value": 1}, "anchor", "anchor.raw value"),
    ("anchor_changes", {"data": b"\x01\x02\x03\x04"}, "anchor", "anchor.raw data"),
    ("anchor_changes", {"data": encode_commit("another", "{}")}, "anchor", "anchor.raw assetCid"),
    ("shown_anchor", {"size": 1}, "anchor", "anchor.raw commitData.size"),
    ("shown_anchor", {"root": "A" * 44}, "anchor", "anchor.raw commitData.root"),
    ("shown_anchor", {"log": "bafkrei" + "a" * 52}, "anchor", "anchor.raw commitData.log"),
    ("shown_anchor", {"checkpoint": "bafkrei" + "a" * 52}, "anchor", "anchor.raw commitData.checkpoint"),
    ("shown_anchor", {"note": "x"}, "anchor", "anchor.raw commitData"),
    ("mint_changes", {"to": NOBODY}, "mint", "mint.raw to"),
    ("mint_changes", {"chain_id": 1}, "mint", "mint.raw chain_id"),
    ("mint_changes", {"value": 1}, "mint", "mint.raw value"),
    ("mint_changes", {"data": b"\x01\x02\x03\x04" + bytes(256)}, "mint", "mint.raw data"),
    ("mint_changes", {"authorization": {"provider": NOBODY}}, "mint", "mint.raw provider"),
    ("mint_changes", {"authorization": {"units": 1}}, "mint", "mint.raw amount"),
    ("mint_changes", {"authorization": {"receipt_hash": "0x" + "0" * 64}}, "mint", "mint.raw receipt_hash"),
    ("mint_changes", {"authorization": {"deadline": 1}}, "mint", "mint.raw deadline"),
    ("mint_changes", {"signatures": [(Keys().attester.key_id, bytes(65))]}, "mint", "mint.raw attesterSigs"),
    ("mint_changes", {"signatures": []}, "mint", "mint.raw attesterSigs"),
    ("credential_changes", {"job_id": "job_0000000000000000000000000b"}, "credential", "credential job_id"),
    ("credential_changes", {"job_nid": "bafkrei" + "a" * 52}, "credential", "credential job_nid"),
    ("credential_changes", {"completed_nid": "bafkrei" + "a" * 52}, "credential", "credential completed_nid"),
    ("credential_changes", {"kind": "upscaling"}, "credential", "credential kind"),
    ("credential_changes", {"model_digest": "0" * 64}, "credential", "credential model_digest"),
    ("credential_changes", {"prompt_digests": {}}, "credential", "credential prompt_digests"),
    ("credential_changes", {"provider": "B" * 43}, "credential", "credential provider"),
    ("credential_changes", {"meter": {}}, "credential", "credential meter"),
    ("credential_changes", {"origin": "reported"}, "credential", "credential origin"),
    ("credential_changes", {"hub": "another.house/log"}, "credential", "credential hub"),
]  # fmt: skip


@pytest.mark.parametrize(("event_type", "lie", "claim", "field"), HUB_LIES)
def test_what_the_hub_tells_wrongly_is_named(
    event_type: str, lie: Lie, claim: str, field: str, trust: Trust, folder: Path
) -> None:
    found = broken(told(House(folder, alter={event_type: lie}), trust, about=claim))
    assert claim in found and field in str(found[claim]), found


@pytest.mark.parametrize(("type_", "lie", "claim", "field"), SIGNED_LIES)
def test_what_is_signed_wrongly_is_named(
    type_: str, lie: Lie, claim: str, field: str, trust: Trust, folder: Path
) -> None:
    found = broken(told(House(folder, alter_claim={type_: lie}), trust, about=claim))
    assert claim in found and field in str(found[claim]), found


@pytest.mark.parametrize(("knob", "change", "claim", "field"), CHAIN_LIES)
def test_what_is_sent_to_the_chain_wrongly_is_named(
    knob: str, change: dict[str, Any], claim: str, field: str, trust: Trust, folder: Path
) -> None:
    found = broken(told(changed(House(folder), knob, change), trust, about=claim))
    assert found.keys() <= {claim, "artifact"} and field in str(found[claim]), found


@pytest.mark.parametrize(
    ("role", "claims"),
    [
        ("log", {"checkpoint"}),
        ("hub", {"promise", "receipts-chain"}),
        ("provider", {"work-signed", "usage"}),
        ("client", {"request-signed"}),
        ("attester", {"attestation"}),
        ("sender", {"anchor"}),
    ],
)
def test_one_forged_key_breaks_what_it_signs(role: str, claims: set[str], trust: Trust, folder: Path) -> None:
    keys = Keys()
    setattr(keys, role, getattr(Keys("mallory"), role))
    found = broken(told(House(folder, keys=keys), trust, about="keys"))
    # The anchor names the log by its identity, which the log's key is part of.
    assert found.keys() == claims | ({"anchor"} if role == "log" else set()), found


def test_a_move_that_no_job_makes_is_named(trust: Trust, folder: Path) -> None:
    def cancelled(say: Teller) -> None:
        say.add("JobCancelled", f"hub:{say.house.keys.hub.key_id}", {"by": "client", "billed": "nothing"})

    report = told(House(folder, after={"JobCompleted": cancelled}), trust, about="chain")
    verdict = report.of("receipts-chain")
    assert verdict.field == "receipts[6] JobCancelled eventType"
    assert verdict.found == "completed"


def test_fencing_numbers_rise_from_lease_to_lease(trust: Trust, folder: Path) -> None:
    same = sets("data", "fencing", to=41)
    house = House(folder, requeued_first=True, alter={"JobScheduled": same, "JobRequeued": same})
    verdict = told(house, trust, about="chain").of("receipts-chain")
    assert (verdict.field, verdict.expected) == ("receipts[3] JobScheduled data.fencing", "more than 41")


def test_progress_that_goes_backwards_is_broken_though_it_is_signed(trust: Trust, folder: Path) -> None:
    house = House(
        folder,
        alter={"JobProgressUpdate": sets("data", "step", to=1)},
        alter_claim={"WorkProgress": sets("step", to=1)},
    )
    assert broken(told(house, trust, about="work")) == {"work-signed": "receipts[4] JobProgressUpdate data.step"}


def test_progress_is_numbered_upwards(trust: Trust, folder: Path) -> None:
    house = House(folder, alter={"JobProgressUpdate": sets("idempotencyKey", to=lambda key: key[:-1] + "1")})
    found = told(house, trust, about="keys").of("idempotency-keys")
    assert [fault.rule for fault in found.also] == ["stands in receipts[3] too"]
    assert "does not rise" in found.detail


def test_a_failure_is_of_the_class_that_the_provider_signed(trust: Trust, folder: Path) -> None:
    def failed(say: Teller) -> None:
        about = {"job_id": JOB_ID, "job_nid": say.job_nid, "attempt": 1, "fencing": 41}
        claim = say.claim(FAILED, say.house.keys.provider, **about, **{"class": "runner"}, meter={}, at=say.at())
        data = {"cause": "attempt-failed", "class": "out-of-memory", "fencing": 41, "attempts_left": 1, "meter": {}}
        say.add("JobRequeued", f"provider:{say.house.keys.provider.key_id}", data | claim)

    report = told(House(folder, after={"JobStarted": failed}), trust, about="work")
    assert report.of("work-signed").field == "receipts[3] JobRequeued data.class"


def test_a_price_above_what_the_client_offered_is_broken(trust: Trust, folder: Path) -> None:
    lower = {"JobSubmitted": sets("data", "max_price", to="1")}
    house = House(folder, alter=lower, alter_claim={"JobRequest": sets("max_price", to="1")})
    assert broken(told(house, trust, about="usage")) == {"usage": "receipts[7] UsageReceipt data.claim price"}


def test_more_gpu_time_than_a_host_can_give_is_broken(trust: Trust, folder: Path) -> None:
    figure = {"quality": "measured", "source": "cuda-events", "value": 10**9}
    house = House(
        folder,
        alter_claim={
            "WorkStarted": sets("device", to="NVIDIA H200"),
            "WorkCompleted": sets("meter", "gpu_ms", to=figure),
        },
    )
    assert "meter.gpu_ms" in str(broken(told(house, trust, about="meter"))["meter"])


def test_leaves_lie_in_the_order_in_which_receipts_were_written(trust: Trust, folder: Path) -> None:
    found = told(House(folder, logged_backwards=True), trust, about="log").of("inclusion")
    assert found.field == "receipts[1].leaf" and "not behind" in found.detail


def test_a_checkpoint_of_another_log_or_of_nobody_is_broken(house: House, trust: Trust) -> None:
    tree = Checkpoint("another/log", 24, bytes(32))
    ours = replace(tree, origin=ORIGIN).text()
    log_key, stranger = house.keys.log, Keys("mallory").log
    for note, rule in (
        (sign_note(tree.text(), ORIGIN, log_key, log_key.public), "is of another log"),
        (sign_note(ours, "another", stranger, stranger.public), "did not sign it"),
        (sign_note(ours, ORIGIN, log_key, log_key.public)[:-8] + "AAAAAA=\n", "does not fit the text"),
    ):
        found = verify(replace(house.tally, checkpoint=note), trust).of("checkpoint")
        assert found.verdict is Word.BROKEN and rule in found.detail, found


def test_the_jobs_own_receipts_stand_before_the_public_ones(house: House, trust: Trust) -> None:
    receipts = [*house.tally.receipts]
    receipts[7], receipts[8] = receipts[8], receipts[7]
    found = verify(replace(house.tally, receipts=tuple(receipts)), trust).of("receipts-chain")
    assert found.field == "receipts[7]" and "before the public ones" in found.detail


def test_a_story_without_its_beginning_or_its_job_is_named(house: House, trust: Trust) -> None:
    def found(**changes: Any) -> str | None:
        return verify(replace(house.tally, **changes), trust).of("receipts-chain").field

    receipts = house.tally.receipts
    assert found(receipts=receipts[1:]) == "receipts[0] JobScheduled eventType"
    assert found(receipts=receipts[8:]) == "receipts"
    assert found(receipts=(*receipts[:8], receipts[9], receipts[8])) == "receipts[8]"
    assert found(job_nid="bafkrei" + "a" * 52) == "job_nid"


def test_a_receipt_that_stands_twice_has_a_key_that_stands_twice(house: House, trust: Trust) -> None:
    receipts = house.tally.receipts
    found = verify(replace(house.tally, receipts=(*receipts[:7], receipts[6], *receipts[7:])), trust)
    assert found.of("idempotency-keys").detail.endswith("stands in receipts[6] too")


def test_a_credential_that_says_nothing_of_the_job_or_too_much_is_broken() -> None:
    with pytest.raises(Broken, match="says nothing about a job"):
        require_assertion(None, {"v": 1})
    with pytest.raises(Broken, match="artifact credential note: is no field"):
        require_assertion({"v": 1, "note": "x"}, {"v": 1})


def test_every_claim_of_the_policy_is_one_that_a_step_judges() -> None:
    claims = [step.claim for step in STEPS]
    assert len(set(claims)) == len(claims)
    assert set(REQUIRED) <= set(claims)
    assert all(step.false_only_if for step in STEPS)


def test_a_job_offered_twice_holds(trust: Trust, folder: Path) -> None:
    report = told(House(folder, requeued_first=True), trust)
    assert report.exit_code == EXIT_HOLDS, broken(report)
    assert "2 attempts" in report.of("receipts-chain").detail


def test_an_unsigned_request_is_not_claimed_and_so_not_enough(trust: Trust, folder: Path) -> None:
    report = told(House(folder, unsigned_request=True), trust)
    assert report.of("request-signed").verdict is Word.NOT_CLAIMED
    assert report.exit_code == EXIT_UNKNOWN


def test_a_client_that_the_checker_never_named_stays_unknown(house: House) -> None:
    report = told(house, trust_of(house.document()))
    assert report.of("request-signed").verdict is Word.UNKNOWN
    assert report.exit_code == EXIT_UNKNOWN


def test_a_client_other_than_the_one_named_is_broken(house: House) -> None:
    report = told(house, trust_of(add_own(house.document(), clients=[Keys("mallory").client.key_id])))
    assert broken(report) == {"request-signed": "receipts[0] JobSubmitted data.sig.key_id"}


def test_the_holder_may_insist_on_more_than_the_house_does(house: House) -> None:
    own = add_own(house.document(), clients=[house.keys.client.key_id], require=["witnesses"])
    assert told(house, trust_of(own)).exit_code == EXIT_UNKNOWN


@pytest.mark.parametrize("role", ["log", "hub", "provider", "attester"])
def test_a_revoked_key_counts_for_old_leaves_alone(role: str, house: House) -> None:
    def until(leaf: int) -> Trust:
        keys = [{**key, "until_leaf": leaf} if key["role"] == role else key for key in house.document()["keys"]]
        return house.trust(keys=keys)

    assert told(house, until(10_000)).exit_code == EXIT_HOLDS
    report = told(house, until(2))
    assert report.exit_code == EXIT_BROKEN
    assert any("counts from leaf 0 to 1" in item.detail for item in report.verdicts)


def test_without_the_file_what_it_shows_stays_unknown(house: House, trust: Trust) -> None:
    report = verify_tally(house.file, trust)
    assert report.of("artifact").verdict is Word.UNKNOWN
    assert report.of("credential").verdict is Word.UNKNOWN
    assert report.exit_code == EXIT_UNKNOWN


def test_the_unsigned_output_is_recognised_and_carries_no_credential(house: House, trust: Trust) -> None:
    report = verify_tally(house.file, trust, artifact=house.told.unsigned)
    assert "as the provider made it" in report.of("artifact").detail
    assert report.of("credential").verdict is Word.UNKNOWN
    assert not broken(report)


def test_a_credential_of_another_authority_is_broken(house: House, trust: Trust, tmp_path: Path) -> None:
    other = House(tmp_path)
    report = told(house, trust_of(add_own(house.document(c2pa={"root_pem": other.authority.root_pem}), clients=[])))
    assert broken(report)["credential"] == "artifact credential"
    assert report.of("credential").expected == "Trusted"


def test_without_a_chain_in_the_trust_file_nothing_is_believed_of_it(house: House) -> None:
    report = told(house, house.trust(chain=None))
    for claim in ("anchor", "attestation", "mint"):
        assert report.of(claim).verdict is Word.UNKNOWN
    for claim in ("anchor-on-chain", "mint-on-chain"):
        assert report.of(claim).verdict is Word.NOT_CLAIMED


def test_too_few_attesters_are_broken(house: House) -> None:
    many = {"addresses": [house.keys.attester.key_id], "threshold": 2}
    assert "too few" in told(house, house.trust(attesters=many)).of("attestation").detail


def test_disclosed_inputs_are_shown_and_the_rest_stays_private(house: House, trust: Trust) -> None:
    detail = told(house, trust).of("disclosure").detail
    assert "prompt = 'a red circle'" in detail and "2 inputs stay private" in detail


def test_a_simulated_job_that_earned_tokens_is_broken(trust: Trust, folder: Path) -> None:
    report = told(House(folder, origin="simulated"), trust)
    assert report.simulated
    assert {"attestation", "mint"} <= broken(report).keys()


def newer(house: House, **changes: Any) -> Tally:
    """Give a tally whose second receipt is of a later make."""
    tally = house.tally
    body = tally.receipts[1].body.replace(b'"JobScheduled","', b'"JobPaused","') if "eventType" in changes else (
        tally.receipts[1].body[:-1].replace(b'"v":1', b'"v":2') + b"}"
    )  # fmt: skip
    second = LoggedReceipt(body, tally.receipts[1].leaf, tally.receipts[1].proof)
    return Tally(
        job_id=tally.job_id,
        job_nid=tally.job_nid,
        receipts=(tally.receipts[0], second, *tally.receipts[2:]),
        checkpoint=tally.checkpoint,
        promise=tally.promise,
    )


@pytest.mark.parametrize("changes", [{"eventType": "JobPaused"}, {"v": 2}])
def test_a_receipt_of_a_later_make_is_unknown_and_never_passes(
    changes: dict[str, Any], house: House, trust: Trust
) -> None:
    report = verify_tally(write_tally(newer(house, **changes)), trust)
    assert report.of("receipts-canonical").detail.startswith("newer:")
    assert report.exit_code == EXIT_NEWER >= EXIT_UNKNOWN


def test_a_tally_of_a_later_format_is_unknown_and_never_passes(house: House, trust: Trust) -> None:
    data = house.file.replace(b"tallystick-tally/1", b"tallystick-tally/2")
    report = verify_tally(data, trust, artifact=house.artifact)
    assert {item.verdict for item in report.verdicts} == {Word.UNKNOWN}
    assert report.exit_code == EXIT_NEWER


def test_a_job_under_way_is_judged_as_far_as_it_is(house: House, trust: Trust) -> None:
    tally = house.tally
    pending = tuple(LoggedReceipt(item.body, None, None) for item in tally.receipts[:4])
    report = verify(
        Tally(job_id=tally.job_id, job_nid=tally.job_nid, receipts=pending, checkpoint=None, promise=tally.promise),
        trust,
    )
    assert not broken(report)
    assert report.of("receipts-chain").verdict is Word.HOLDS
    assert report.of("work-signed").verdict is Word.HOLDS
    assert report.of("inclusion").verdict is Word.UNKNOWN
    assert report.exit_code == EXIT_UNKNOWN


def test_whitespace_between_values_says_nothing(house: House, trust: Trust) -> None:
    pretty = json.dumps(json.loads(house.file), indent=2).encode()
    assert verify_tally(pretty, trust, artifact=house.artifact).exit_code == EXIT_HOLDS
    assert encode(json.loads(house.file)) + b"\n" == house.file
