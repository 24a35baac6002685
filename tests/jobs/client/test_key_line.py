"""A house that works changes its keys under way: what it made before and makes after holds, to the receipt."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from jobs import admission, pipeline
from jobs.audit import audit, house_trust
from jobs.client.trust import Trust, fingerprint, require_root
from jobs.client.verdicts import Word
from jobs.client.verify import Report, verify_tally
from jobs.models import Job
from jobs.states import JobState
from jobs.tally import build_tally
from receipts import log
from receipts.keyring import revoke_key, rotate_file
from receipts.keys import Role, load_signer, make_key_file
from receipts.log import leaf_index, log_head
from receipts.models import Pending, Receipt
from tests.jobs.cast import Bo, leased
from tests.jobs.client.test_verdicts import broken
from tests.jobs.test_tally import METER, ask, bo_of_the_house, done

__all__ = ["bo_of_the_house"]


def rotated(role: Role, *, restarted: bool = True) -> int:
    """Rotate a role's key as its operator does, and restart what holds the old one; give the leaf."""
    path = Path(settings.KEYS_DIR).parent / f"{role}-{log_head().size}.key"
    make_key_file(path, "ed25519")
    act = rotate_file(role=role, new=path)
    if restarted:
        admission.hub_signer.cache_clear()
    return act.from_leaf


def kept(job: Job) -> tuple[bytes, Trust]:
    """A job's tally and the trust file, as somebody keeps them now."""
    log.turn()
    return build_tally(job), house_trust(job)


def whole(report: Report) -> bool:
    word = {item.claim: item.verdict for item in report.verdicts}
    assert not broken(report), broken(report)
    claims = ("receipts-chain", "request-signed", "work-signed", "promise", "inclusion", "checkpoint", "meter")
    return all(word[claim] is Word.HOLDS for claim in claims)


@pytest.mark.parametrize("roles", [["hub"], ["log"], ["root"], ["hub", "log", "root", "hub", "log"]])
def test_jobs_of_before_and_after_hold_under_the_trust_file_of_after(roles: list[Role], bo_of_the_house: Bo) -> None:
    first = done(bo_of_the_house)
    early, trust_of_then = kept(first)
    assert whole(verify_tally(early, trust_of_then))
    first_root = trust_of_then.root
    for role in roles:
        rotated(role)
        log.turn()
    second = done(bo_of_the_house)
    late, trust = kept(second)
    for file in (early, build_tally(first), late):
        assert whole(verify_tally(file, trust))
    require_root(trust, fingerprint(first_root))
    assert whole(verify_tally(early, trust_of_then)), "who fetches nothing loses nothing"
    stale = broken(verify_tally(late, trust_of_then))
    due = {"hub": {"promise", "receipts-chain"}, "log": {"checkpoint"}, "root": set[str]()}
    assert stale.keys() == set[str]().union(*(due[role] for role in roles))


def test_a_job_under_way_goes_through_a_rotation_unharmed(bo_of_the_house: Bo) -> None:
    """Its first receipts wait for their leaves when the hub's key ends: they get them before its end."""
    attempt = leased(ask())
    assert Pending.objects.filter(receipt__subject=attempt.job_id).count() == 2
    leaf = rotated("hub")
    bo_of_the_house.start(attempt)
    bo_of_the_house.complete(attempt, meter=METER)
    pipeline.advance(attempt.job_id)
    job = Job.objects.get(pk=attempt.job_id)
    file, trust = kept(job)
    assert whole(verify_tally(file, trust))
    leaves = [leaf_index(pk) or 0 for pk in Receipt.objects.filter(subject=job.job_id).values_list("pk", flat=True)]
    assert min(leaves) < leaf < max(leaves)
    assert not audit(job).broken, "the house's own console says so too"


def test_what_a_process_that_was_not_restarted_still_promises_is_broken_by_its_leaf(bo_of_the_house: Bo) -> None:
    old = load_signer("hub", settings.KEYS_DIR).key_id
    assert admission.hub_key_id() == old
    leaf = rotated("hub", restarted=False)
    file, trust = kept(done(bo_of_the_house))
    found = verify_tally(file, trust).of("promise")
    assert found.verdict is Word.BROKEN
    assert f"the hub key {old} counts from leaf 0 to {leaf - 1}, not at leaf {leaf + 1}" in found.detail


def test_a_provider_whose_key_was_revoked_is_offered_no_more_work(bo_of_the_house: Bo) -> None:
    done(bo_of_the_house)  # who has room and took the last one
    revoke_key(role="provider", key_id=bo_of_the_house.signer.key_id, reason="compromised")
    job_id = ask()
    pipeline.advance(job_id)
    assert Job.objects.get(pk=job_id).state == JobState.SUBMITTED


@pytest.mark.parametrize(("role", "claims"), [("provider", {"work-signed", "usage"}), ("client", {"request-signed"})])
def test_a_revoked_key_s_work_of_before_its_last_leaf_stays_good(
    role: Any, claims: set[str], bo_of_the_house: Bo
) -> None:
    good = done(bo_of_the_house)
    log.turn()
    stolen_from = log_head().size
    bad = done(bo_of_the_house)
    log.turn()
    key_id = load_signer(role, settings.KEYS_DIR).key_id
    revoke_key(role=role, key_id=key_id, from_leaf=stolen_from, reason="compromised")
    file, trust = kept(good)
    assert whole(verify_tally(file, trust))
    file, trust = kept(bad)
    assert broken(verify_tally(file, trust)).keys() == claims
    assert {item.claim for item in audit(bad).broken} == claims
