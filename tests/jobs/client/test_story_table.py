"""The verifier's table of legal moves is its own, and says what the house's tables say."""

from jobs.claims import _FIELDS, SHAPES
from jobs.client.steps.signed import CLAIM_OF
from jobs.client.steps.story import ACTORS, LEGAL
from jobs.states import EVIDENCE_MOVES, JOB_MOVES, ONLY_REPORTED, UNFINISHED, EvidenceState, JobState
from receipts.events import ACTOR, EVENTS, About

EVIDENCE = {"CredentialIssued", "UsageReceipt"}


def test_every_move_of_the_house_has_a_receipt_that_tells_it_and_none_tells_more() -> None:
    told = {
        (before, after)
        for event_type, (allowed, after) in LEGAL.items()
        for before in allowed
        if event_type not in EVIDENCE | {"JobSubmitted", "JobProgressUpdate"}
    }
    moves = {(before.value, after.value) for before, others in JOB_MOVES.items() for after in others}
    reported = {(before.value, after.value) for before, after in ONLY_REPORTED}
    assert told == moves - reported


def test_unfinished_means_the_same() -> None:
    assert LEGAL["JobFailed"][0] == LEGAL["JobCancelled"][0] == {state.value for state in UNFINISHED}


def test_the_credential_comes_before_the_usage_receipt_in_both() -> None:
    assert EVIDENCE_MOVES[EvidenceState.CREDENTIAL] == {EvidenceState.USAGE}
    assert LEGAL["CredentialIssued"] == (frozenset({"completed"}), JobState.COMPLETED.value)
    assert LEGAL["UsageReceipt"] == (frozenset({"completed"}), "settled")


def test_every_receipt_of_a_job_is_in_the_tables() -> None:
    about_jobs = {name for name, event in EVENTS.items() if event.about is About.JOB}
    assert set(LEGAL) == about_jobs
    assert set(ACTORS) == about_jobs | {"UsageAttested", "TokensMinted"}
    roles = {role for allowed in ACTORS.values() for role in allowed}
    assert all(role in ACTOR["pattern"] for role in roles)


def test_every_field_of_every_claim_has_a_shape() -> None:
    assert {type_: required | optional for type_, (required, optional) in _FIELDS.items()} == {
        type_: frozenset(fields) for type_, fields in SHAPES.items()
    }
    assert set(CLAIM_OF) < {name for name, event in EVENTS.items() if "claim" in event.data["properties"]}
