"""A manifest says what the facts say: typed, exact, and openly when it was a simulation."""

from dataclasses import replace
from typing import Any

import pytest

from provenance.digests import Sha256
from provenance.errors import NotADigest, NotSignable
from provenance.manifest import (
    ACTIONS_LABEL,
    ALGORITHMIC_MEDIA,
    JOB_LABEL,
    TRAINED_MEDIA,
    TRAINING_LABEL,
    build,
    job_assertion,
)
from tests.provenance.conftest import FACTS


def assertion(manifest: dict[str, Any], label: str) -> Any:
    (found,) = [item["data"] for item in manifest["assertions"] if item["label"] == label]
    return found


def test_the_first_action_says_created_by_a_trained_model_and_with_which_software() -> None:
    (action,) = assertion(build(FACTS, mime="image/png", version="0.1.0"), ACTIONS_LABEL)["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == TRAINED_MEDIA
    assert action["softwareAgent"] == {"name": "diffusers", "version": "0.42.1"}


def test_prompt_and_model_are_inputs_with_their_digests_and_the_action_names_them() -> None:
    manifest = build(replace(FACTS, prompt_digests={"prompt": "cA", "model": "bg"}), mime="image/png", version="0.1.0")
    assert [(item["title"], item["relationship"], item["description"]) for item in manifest["ingredients"]] == [
        ("model", "inputTo", "salted digest bg"),
        ("prompt", "inputTo", "salted digest cA"),
        ("tiny-shapes", "inputTo", f"digest {FACTS.model_digest}"),
    ]
    names = [item["instance_id"] for item in manifest["ingredients"]]
    assert len(set(names)) == 3  # a prompt that is called "model" is not the model
    assert assertion(manifest, ACTIONS_LABEL)["actions"][0]["parameters"] == {"ingredientIds": names}


def test_our_assertion_ties_the_artifact_to_the_receipts() -> None:
    assert job_assertion(FACTS) == {
        "v": 1,
        "job_id": "job_ada",
        "job_nid": "bafkreiajobsubmitted",
        "completed_nid": "bafkreiajobcompleted",
        "unsigned_sha256": FACTS.unsigned_sha256,
        "kind": "text-to-image",
        "model": "tiny-shapes",
        "model_digest": FACTS.model_digest,
        "prompt_digests": {"prompt": "c2FsdGVk"},
        "provider": "bo",
        "meter": {"cpu_ms": {"value": 130, "basis": "measured", "source": "process clock"}},
        "origin": "hosted",
        "simulated": False,
        "hub": "tallystick.test/log",
    }
    assert assertion(build(FACTS, mime="image/png", version="1"), JOB_LABEL) == job_assertion(FACTS)


def test_a_simulation_says_so_in_the_title_the_assertion_and_the_source_type() -> None:
    manifest = build(replace(FACTS, origin="simulated"), mime="image/png", version="0.1.0")
    assert manifest["title"].startswith("SIMULATED ")
    assert assertion(manifest, JOB_LABEL)["simulated"] is True
    assert assertion(manifest, ACTIONS_LABEL)["actions"][0]["digitalSourceType"] == ALGORITHMIC_MEDIA


def test_a_real_job_never_says_simulated() -> None:
    assert "SIMULATED" not in str(build(FACTS, mime="image/png", version="0.1.0"))


def test_big_integers_are_text_and_small_ones_stay_numbers() -> None:
    meter = {"edge": 2**53 - 1, "over": 2**53, "under": -(2**53), "wei": [10**18], "yes": True, "none": None}
    assert job_assertion(replace(FACTS, meter=meter))["meter"] == {
        "edge": 2**53 - 1,
        "over": "9007199254740992",
        "under": "-9007199254740992",
        "wei": ["1000000000000000000"],
        "yes": True,
        "none": None,
    }


def nested(levels: int) -> Any:
    return 1 if levels == 0 else {"x": nested(levels - 1)}


@pytest.mark.parametrize("meter", [{"gpu_ms": 1.5}, {"a": [b"x"]}, {"a": {1, 2}}, nested(20)])
def test_what_two_readers_could_read_in_two_ways_is_not_signed(meter: Any) -> None:
    with pytest.raises(NotSignable, match="meter"):
        job_assertion(replace(FACTS, meter=meter))


def test_a_digest_that_is_none_is_not_signed() -> None:
    with pytest.raises(NotADigest):
        job_assertion(replace(FACTS, unsigned_sha256=Sha256("nope")))


def test_a_source_type_that_we_never_claim_is_not_signed() -> None:
    camera = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    with pytest.raises(NotSignable, match="digitalCapture"):
        build(replace(FACTS, source_type=camera), mime="image/png", version="0.1.0")


@pytest.mark.parametrize(("allowed", "use"), [(False, "notAllowed"), (True, "allowed")])
def test_the_owners_word_on_training_stands_in_it(allowed: bool, use: str) -> None:
    manifest = build(replace(FACTS, training_allowed=allowed), mime="image/png", version="0.1.0")
    entries = assertion(manifest, TRAINING_LABEL)["entries"]
    assert entries["cawg.ai_generative_training"] == {"use": use}
    assert {entry["use"] for entry in entries.values()} == {use}
