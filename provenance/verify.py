"""Read a credential and say what holds, for anyone: no Django, no network, no trust in whoever wrote the file. Pure.

The library's own "Valid" is not enough: an unknown signer is Valid, and so is a parent that was tampered
with. What is required here, in this order:

    1. the bytes are a file of a size we read, and a manifest is in it or beside it
    2. the library calls the whole Trusted under the given root, and lists no failure
    3. no ingredient's own validation failed
    4. the first action says how the asset was made, in a source type that we allow
    5. our assertion stands in it at most once
    6. where the format lets us take the manifest out again, what remains is the unsigned output it names

What C2PA does not cover: about a thousand bytes of padding and box labels inside the manifest can change
without notice (and without effect). The receipt names the signed file's digest, which covers every byte:
compare it with `CredentialReading.sha256`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from provenance import png, reader
from provenance.c2pa_settings import library_settings
from provenance.digests import Sha256, digest_bytes
from provenance.manifest import ACTIONS_LABEL, JOB_LABEL, OUR_SOURCE_TYPES
from provenance.mime import SNIFF_BYTES, plain, sniff

MAX_READ_BYTES: Final = 256 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
_OPENING_ACTIONS: Final = frozenset({"c2pa.created", "c2pa.opened"})


@dataclass(frozen=True)
class NotReadable:
    """No credential could be read from these bytes: `reason`, and whether the asset simply carries none."""

    reason: str
    absent: bool = False
    sha256: Sha256 | None = None


@dataclass(frozen=True)
class Ingredient:
    """Something that went into the asset, as its manifest tells."""

    title: str
    relationship: str
    description: str
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CredentialReading:
    """What a credential says and what of it holds. Believe `assertion` only where `trusted` is true."""

    trusted: bool  # under the given root, with no failure anywhere
    state: str  # the library's word: Trusted, Valid or Invalid
    failures: tuple[str, ...]  # C2PA status codes and our own, "where: code" for ingredients
    sha256: Sha256  # of the bytes read; compare it with the receipt's
    mime: str  # as the bytes show, else as declared
    embedded: bool
    label: str
    title: str
    issuer: str
    certificate_serial: str  # decimal
    digital_source_type: str | None
    assertion: Mapping[str, Any] | None  # org.tallystick.job
    unsigned_sha256: Sha256 | None  # what remains without the manifest, where the format lets us see it
    ingredients: tuple[Ingredient, ...] = field(default=())


def read_credential(
    asset: Path | bytes,
    mime: str | None,
    *,
    root_pem: str,
    manifest: bytes | None = None,
    allowed_source_types: frozenset[str] = OUR_SOURCE_TYPES,
    max_bytes: int = MAX_READ_BYTES,
    contained: bool = True,
) -> CredentialReading | NotReadable:
    """Read the credential in `asset`, or the detached one in `manifest`, and judge it under one root.

    Whatever the bytes are, the answer is a value; only a path that can't be opened raises (OSError).
    `contained=False` reads in this process, 50 times faster: for bytes that we signed ourselves.
    """
    data = _load(asset, max_bytes)
    if isinstance(data, NotReadable):
        return data
    sha256 = digest_bytes(data)
    actual_mime = sniff(data[:SNIFF_BYTES]) or (plain(mime) if mime else "application/octet-stream")
    if manifest is not None and not 0 < len(manifest) <= MAX_MANIFEST_BYTES:
        return NotReadable(f"a detached manifest has 1 to {MAX_MANIFEST_BYTES} bytes", sha256=sha256)
    read = reader.read_contained if contained else reader.read_here
    answer = read(settings=library_settings(root_pem), mime=actual_mime, asset=data, manifest=manifest)
    if "content" not in answer:
        return NotReadable(answer["reason"], answer["absent"], sha256)
    try:
        return _judge(answer, data, sha256, actual_mime, allowed_source_types)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The library parsed it, yet it has not the shape of a manifest store.
        return NotReadable(f"the manifest is malformed: {type(error).__name__}", sha256=sha256)


def _load(asset: Path | bytes, max_bytes: int) -> bytes | NotReadable:
    if isinstance(asset, Path):
        with asset.open("rb") as stream:
            asset = stream.read(max_bytes + 1)
    if not asset:
        return NotReadable("the file is empty")
    if len(asset) > max_bytes:
        return NotReadable(f"larger than the {max_bytes} bytes that are read")
    return asset


def _judge(
    answer: reader.Answer, data: bytes, sha256: Sha256, mime: str, allowed_source_types: frozenset[str]
) -> CredentialReading:
    content, embedded = answer["content"], answer["embedded"]
    active = content["manifests"][content["active_manifest"]]
    ingredients = tuple(_ingredient(item) for item in active.get("ingredients", []))
    own = [item["data"] for item in active["assertions"] if _is_labelled(item, JOB_LABEL)]
    source_type = _first_source_type(active)
    unsigned = png.unsigned_digest(data) if mime == "image/png" else None
    state = str(content.get("validation_state"))
    failures = (
        *_failures(content.get("validation_results")),  # 2
        *(f"{item.title}: {code}" for item in ingredients for code in item.failures),  # 3
        *(_source_type_failures(source_type, allowed_source_types)),  # 4
        *(["tallystick.assertion.multiple"] if len(own) > 1 else []),  # 5
        *_unsigned_failures(own, unsigned if embedded else sha256),  # 6
    )
    signature = active["signature_info"]
    return CredentialReading(
        trusted=state == "Trusted" and not failures,
        state=state,
        failures=failures,
        sha256=sha256,
        mime=mime,
        embedded=embedded,
        label=str(content["active_manifest"]),
        title=str(active.get("title", "")),
        issuer=str(signature.get("issuer", "")),
        certificate_serial=str(signature.get("cert_serial_number", "")),
        digital_source_type=source_type,
        assertion=own[0] if len(own) == 1 and isinstance(own[0], dict) else None,
        unsigned_sha256=unsigned if embedded else sha256,
        ingredients=ingredients,
    )


def _failures(results: Mapping[str, Any] | None) -> Iterator[str]:
    """Walk validation results to any depth: the active manifest's, and the deltas of its ingredients."""
    if results is None:
        yield "tallystick.results.missing"
        return
    for item in results.get("activeManifest", {}).get("failure", []):
        yield str(item["code"])
    for delta in results.get("ingredientDeltas", []):
        for item in delta.get("validationDeltas", {}).get("failure", []):
            yield f"ingredient: {item['code']}"


def _ingredient(item: Mapping[str, Any]) -> Ingredient:
    results = item.get("validation_results")
    failures = list(_failures(results)) if results is not None else []
    failures += [str(status["code"]) for status in item.get("validation_status", []) if not status.get("success")]
    return Ingredient(
        title=str(item.get("title", "")),
        relationship=str(item.get("relationship", "")),
        description=str(item.get("description", "")),
        failures=tuple(dict.fromkeys(failures)),
    )


def _is_labelled(assertion: Mapping[str, Any], label: str) -> bool:
    # A second assertion of the same label gets "__1" appended.
    return str(assertion["label"]).partition("__")[0] == label


def _first_source_type(active: Mapping[str, Any]) -> str | None:
    """Give the source type of the first action, which must open the asset's history; None when it doesn't say."""
    actions = [item["data"]["actions"] for item in active["assertions"] if _is_labelled(item, ACTIONS_LABEL)]
    if len(actions) != 1 or not actions[0] or actions[0][0]["action"] not in _OPENING_ACTIONS:
        return None
    source_type = actions[0][0].get("digitalSourceType")
    return source_type if isinstance(source_type, str) else None


def _source_type_failures(source_type: str | None, allowed: frozenset[str]) -> Iterator[str]:
    if source_type is None:
        yield "tallystick.sourceType.missing"
    elif source_type not in allowed:
        yield "tallystick.sourceType.notAllowed"


def _unsigned_failures(own: list[Any], remains: Sha256 | None) -> Iterator[str]:
    if remains is None or len(own) != 1 or not isinstance(own[0], dict):
        return
    if own[0].get("unsigned_sha256") != remains:
        yield "tallystick.unsigned.mismatch"
