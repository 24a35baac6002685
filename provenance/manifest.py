"""Build what a credential says, from the facts of one artifact. Pure: values in, values out.

The manifest has four parts: how the artifact came to be (`c2pa.actions.v2`), what went into it (the
model and the prompts as `inputTo` ingredients), whether it may be used for training, and our own
assertion `org.tallystick.job`, which ties it to the receipts. No circle: it names the unsigned output's
digest and the NIDs of JobSubmitted and JobCompleted, never the signed file or a log proof.

Numbers: a manifest is CBOR, and integers above 2^63-1 would come back as floats. As everywhere in
Tallystick integers above 2^53-1 are decimal strings and floats are refused.

Source: C2PA 2.2 §18 (actions, ingredients), CAWG training and data mining 1.1, IPTC digital source types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from provenance.digests import Sha256, as_sha256
from provenance.errors import NotSignable
from receipts.canonical import MAX_SAFE_INTEGER

Origin = Literal["hosted", "reported", "simulated"]

JOB_LABEL: Final = "org.tallystick.job"
ACTIONS_LABEL: Final = "c2pa.actions.v2"
TRAINING_LABEL: Final = "cawg.training-mining"
ASSERTION_VERSION: Final = 1
# Labels as the library's settings want them, without a version; what isn't listed is only gathered, not attested.
CREATED_LABELS: Final = ("c2pa.actions", "c2pa.ingredient", TRAINING_LABEL, JOB_LABEL)

_IPTC: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED_MEDIA: Final = _IPTC + "trainedAlgorithmicMedia"
ALGORITHMIC_MEDIA: Final = _IPTC + "algorithmicMedia"
COMPOSITE_TRAINED_MEDIA: Final = _IPTC + "compositeWithTrainedAlgorithmicMedia"
TRAINED_DATA: Final = "http://c2pa.org/digitalsourcetype/trainedAlgorithmicData"
OUR_SOURCE_TYPES: Final = frozenset({TRAINED_MEDIA, ALGORITHMIC_MEDIA, COMPOSITE_TRAINED_MEDIA, TRAINED_DATA})

_MAX_DEPTH: Final = 8
_USES: Final = ("cawg.ai_training", "cawg.ai_generative_training", "cawg.ai_inference", "cawg.data_mining")


@dataclass(frozen=True, kw_only=True)
class CredentialFacts:
    """What the hub knows of one artifact and puts its name to. Prompts come as salted digests, never as text."""

    job_id: str
    job_nid: str  # of JobSubmitted: the job's NID
    completed_nid: str  # of JobCompleted
    unsigned_sha256: Sha256  # of the output as the worker made it; JobCompleted names the same
    kind: str
    model: str
    model_digest: str
    provider: str  # key id
    origin: Origin
    hub: str  # the log's origin
    software: str  # what did the work, for example "diffusers"
    software_version: str
    prompt_digests: Mapping[str, str] = field(default_factory=dict)  # name → salted digest
    meter: Mapping[str, Any] = field(default_factory=dict)  # typed values, as JobCompleted has them
    source_type: str = TRAINED_MEDIA
    training_allowed: bool = False

    @property
    def simulated(self) -> bool:
        """Say whether the mock GPU did this; then everything about it says so."""
        return self.origin == "simulated"


def build(facts: CredentialFacts, *, mime: str, version: str) -> dict[str, Any]:
    """Build the manifest definition for one artifact.

    Raises: NotSignable, when the facts hold a float or a source type that we never claim; NotADigest.
    """
    source_type = _source_type(facts)
    ingredients = _ingredients(facts)
    action = {
        "action": "c2pa.created",
        "digitalSourceType": source_type,
        "softwareAgent": {"name": facts.software, "version": facts.software_version},
        "parameters": {"ingredientIds": [item["instance_id"] for item in ingredients]},
    }
    return {
        "claim_generator_info": [{"name": "Tallystick", "version": version}],
        "title": _title(facts),
        "format": mime,
        "ingredients": ingredients,
        "assertions": [
            {"label": ACTIONS_LABEL, "data": {"actions": [action]}},
            {"label": TRAINING_LABEL, "data": {"entries": _training_entries(facts)}},
            {"label": JOB_LABEL, "data": job_assertion(facts)},
        ],
    }


def job_assertion(facts: CredentialFacts) -> dict[str, Any]:
    """Build our own assertion; whoever checks it against the receipts compares with exactly this."""
    return {
        "v": ASSERTION_VERSION,
        "job_id": facts.job_id,
        "job_nid": facts.job_nid,
        "completed_nid": facts.completed_nid,
        "unsigned_sha256": as_sha256(facts.unsigned_sha256),
        "kind": facts.kind,
        "model": facts.model,
        "model_digest": facts.model_digest,
        "prompt_digests": dict(facts.prompt_digests),
        "provider": facts.provider,
        "meter": exact(dict(facts.meter)),
        "origin": facts.origin,
        "simulated": facts.simulated,
        "hub": facts.hub,
    }


def exact(value: Any, *, where: str = "meter", depth: int = 0) -> Any:
    """Give `value` as CBOR and JSON both keep it: big integers as decimal strings.

    Raises: NotSignable, for floats, anything that is not JSON, or too many levels.
    """
    if depth > _MAX_DEPTH:
        raise NotSignable(f"{where} has more than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, Mapping):
        return {str(name): exact(item, where=f"{where}.{name}", depth=depth + 1) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [exact(item, where=f"{where}[{n}]", depth=depth + 1) for n, item in enumerate(value)]
    raise NotSignable(f"{where} is a {type(value).__name__}; only whole numbers, text, true, false and null are signed")


def _title(facts: CredentialFacts) -> str:
    # The title is the one line that every viewer shows, so a simulation says it there.
    return f"SIMULATED {facts.kind} {facts.job_id}" if facts.simulated else f"{facts.kind} {facts.job_id}"


def _source_type(facts: CredentialFacts) -> str:
    if facts.source_type not in OUR_SOURCE_TYPES:
        raise NotSignable(f"{facts.source_type!r} is not a digital source type of ours")
    # The mock GPU draws by rule, no model was at work: it must not say "trained".
    return ALGORITHMIC_MEDIA if facts.simulated else facts.source_type


def _ingredients(facts: CredentialFacts) -> list[dict[str, Any]]:
    """Name the model and the prompts. The library hashes no ingredient without C2PA: the digests are written out."""
    prompts = [
        {
            "title": name,
            "format": "text/plain",
            "relationship": "inputTo",
            "instance_id": f"tallystick:{facts.job_id}:prompt:{name}",
            "description": f"salted digest {digest}",
            "data_types": [{"type": "c2pa.types.generator.prompt"}],
        }
        for name, digest in sorted(facts.prompt_digests.items())
    ]
    model = {
        "title": facts.model,
        "format": "application/octet-stream",
        "relationship": "inputTo",
        "instance_id": f"tallystick:{facts.job_id}:model",
        "description": f"digest {facts.model_digest}",
        "data_types": [{"type": "c2pa.types.model"}],
    }
    return [*prompts, model]


def _training_entries(facts: CredentialFacts) -> dict[str, dict[str, str]]:
    use = "allowed" if facts.training_allowed else "notAllowed"
    return {name: {"use": use} for name in _USES}
