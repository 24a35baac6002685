"""Is this the file that the job made, does it carry the credential it was given, and what was disclosed? Pure."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from jobs.claims import COMPLETED, STARTED
from jobs.client.case import Case, Read
from jobs.client.steps.signed import claim_of
from jobs.client.verdicts import Broken, NotClaimed, Unknown, reading, require_equal
from receipts.canonical import field_digest

_PROMPTS: Final = ("prompt", "negative_prompt")


def artifact(case: Case) -> str:
    """Name the given file by its digest, and find it among the job's outputs, signed or as made."""
    completed = case.need("JobCompleted")
    outputs = {item["name"]: item for item in claim_of(completed, COMPLETED)["outputs"]}
    issued = case.all("CredentialIssued")
    for receipt in issued:
        _require_output(receipt, outputs)
    given = case.artifact_sha256
    assert case.artifact is not None
    for receipt in issued:
        if receipt.data["signed_sha256"] == given:
            require_equal(receipt.at("data.size"), receipt.data["size"], len(case.artifact), "is not the file's size")
            return f"{receipt.data['name']} as signed, {given}"
    for output in outputs.values():
        if output["sha256"] == given:
            return f"{output['name']} as the provider made it, before it got its credential, {given}"
    if not issued:
        raise Unknown("no credential was issued yet, and the file is none of the unsigned outputs")
    raise Broken(
        "artifact sha256",
        "the file is none of the job's outputs: its bytes were changed, or it is another file",
        expected=" or ".join(receipt.data["signed_sha256"] for receipt in issued),
        found=given,
    )


def credential(case: Case) -> str:
    """Read the file's Content Credentials under the trust file's root, and hold them against the receipts."""
    issued = _issued(case)
    if not case.trust.c2pa_root_pem:
        raise Unknown("the trust file names no C2PA root")
    assert case.artifact is not None
    if not issued.data["embedded"]:
        raise Unknown("the credential lies beside the file, and is not at hand")
    if find_spec("c2pa") is None:
        raise Unknown("no C2PA library is installed here")
    from provenance.verify import NotReadable, read_credential

    with reading("artifact"):
        found = read_credential(case.artifact, issued.data["mime"], root_pem=case.trust.c2pa_root_pem)
    if isinstance(found, NotReadable):
        raise Broken("artifact", f"no credential can be read: {found.reason}")
    if not found.trusted:
        raise Broken(
            "artifact credential",
            "the credential does not hold under the trust file's root",
            expected="Trusted",
            found=f"{found.state}: {', '.join(found.failures) or 'no reason given'}",
        )
    require_equal("artifact credential label", found.label, issued.data["manifest_label"], "is another manifest")
    require_assertion(found.assertion, _assertion(case, issued))
    return f"Trusted, signed by {found.issuer}, names this job and its receipts"


def disclosure(case: Case) -> str:
    """Check each disclosed input against its salted digest in JobSubmitted."""
    if not case.tally.disclosed:
        raise NotClaimed("the owner disclosed no input")
    receipt = case.need("JobSubmitted")
    digests: Mapping[str, str] = receipt.data["inputs"]
    for index, item in enumerate(case.tally.disclosed):
        where = f"disclosed[{index}]"
        if item.name not in digests:
            raise Broken(
                f"{where}.name",
                "is no input of this job",
                expected=" or ".join(sorted(digests)),
                found=item.name,
            )
        with reading(f"{where}.value"):
            digest = field_digest(item.name, item.value, item.salt)
        require_equal(
            f"{where} {item.name}",
            digest,
            digests[item.name],
            f"value and salt do not give {receipt.at('data.inputs')}",
        )
    shown = ", ".join(f"{item.name} = {item.value!r}" for item in case.tally.disclosed)
    hidden = len(digests) - len(case.tally.disclosed)
    return f"{shown[:300]}; {hidden} inputs stay private"


def _require_output(receipt: Read, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    output = outputs.get(receipt.data["name"])
    if output is None:
        raise Broken(
            receipt.at("data.name"),
            "is no output that JobCompleted names",
            expected=" or ".join(sorted(outputs)),
            found=receipt.data["name"],
        )
    for name, value in (("unsigned_sha256", output["sha256"]), ("mime", output["mime"])):
        require_equal(receipt.at(f"data.{name}"), receipt.data[name], value, "is not what JobCompleted names")


def _issued(case: Case) -> Read:
    """Find the CredentialIssued that the given file is to be held against. Raises: Unknown."""
    case.need("CredentialIssued")
    issued, given = case.all("CredentialIssued"), case.artifact_sha256
    for receipt in issued:
        if given == receipt.data["signed_sha256"]:
            return receipt
        if given == receipt.data["unsigned_sha256"] and receipt.data["embedded"]:
            raise Unknown("the file is the output before it got its credential")
    return issued[0]


def _assertion(case: Case, issued: Read) -> dict[str, Any]:
    """Say what the credential's own assertion must be, from the receipts alone."""
    submitted, completed = case.need("JobSubmitted"), case.need("JobCompleted")
    told = claim_of(completed, COMPLETED)
    started = [item for item in case.all("JobStarted") if item.body["attempt"] == completed.body["attempt"]]
    if not started:
        raise Unknown("the tally holds no JobStarted of this attempt")
    inputs = submitted.data["inputs"]
    return {
        "v": 1,
        "job_id": case.tally.job_id,
        "job_nid": case.tally.job_nid,
        "completed_nid": str(completed.nid),
        "unsigned_sha256": issued.data["unsigned_sha256"],
        "kind": submitted.data["kind"],
        "model": submitted.data["model"],
        "model_digest": claim_of(started[0], STARTED)["model_digest"],
        "prompt_digests": {name: inputs[name] for name in _PROMPTS if name in inputs},
        "provider": told["provider"],
        "meter": told["meter"],
        "origin": case.origin,
        "simulated": case.origin == "simulated",
        "hub": case.trust.origin,
    }


def require_assertion(found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> None:
    """Insist that a credential's own assertion says exactly what is expected. Raises: Broken."""
    if found is None:
        raise Broken("artifact credential", "says nothing about a job (no org.tallystick.job)")
    for name, value in expected.items():
        require_equal(f"artifact credential {name}", found.get(name), value, "is not what the receipts tell")
    if extra := sorted(found.keys() - expected.keys()):
        raise Broken(f"artifact credential {extra[0]}", "is no field of org.tallystick.job 1")
