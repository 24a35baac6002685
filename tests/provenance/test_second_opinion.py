"""A verifier of other make, with its own parser and its own crypto, comes to the same verdicts."""

from collections.abc import Callable
from typing import Any

import encypher_c2pa
import pytest

from provenance.authority import Authority
from provenance.manifest import job_assertion
from provenance.sign import PreparedCredential
from provenance.signers.file import FileSigner
from tests.provenance.conftest import Sign, drawing, tone


def second_opinion(data: bytes, mime: str, root_pem: str, **options: Any) -> dict[str, Any]:
    return dict(encypher_c2pa.verify(data, mime, trust_pem=root_pem, no_default_trust=True, telemetry=False, **options))


@pytest.mark.parametrize(("data", "mime"), [(drawing(16), "image/png"), (tone(), "audio/wav")])
def test_it_trusts_what_we_sign_under_our_root(sign: Sign, authority: Authority, data: bytes, mime: str) -> None:
    signed, prepared = sign(data, mime)
    report = second_opinion(signed, mime, authority.root_pem)
    assert report["validation_state"] == "Trusted"
    assert report["validation_results"]["failure"] == []
    assert (report["integrity"], report["signature"], report["hard_binding"]) == ("valid", "valid", "match")
    manifest = report["manifest_report"]["manifests"][prepared.manifest_label]
    assert {"label": "org.tallystick.job", "data": job_assertion(prepared.facts)} in manifest["assertions"]


def test_it_trusts_our_detached_manifest(
    sign: Sign, authority: Authority, manifest_of: Callable[[PreparedCredential], bytes]
) -> None:
    data, prepared = sign(b'{"a":1}', "application/json")
    # It knows no JSON; for a detached manifest the type only has to be one it knows.
    report = second_opinion(data, "application/zip", authority.root_pem, manifest_store=manifest_of(prepared))
    assert (report["validation_state"], report["hard_binding"]) == ("Trusted", "match")
    changed = second_opinion(b'{"a":2}', "application/zip", authority.root_pem, manifest_store=manifest_of(prepared))
    assert changed["validation_state"] == "Invalid"


def test_it_does_not_trust_mallorys_authority_of_the_same_names(
    sign: Sign, authority: Authority, mallory: Authority
) -> None:
    signed, _ = sign(drawing(16), by=FileSigner(mallory))
    assert second_opinion(signed, "image/png", authority.root_pem)["validation_state"] != "Trusted"
    assert second_opinion(signed, "image/png", mallory.root_pem)["validation_state"] == "Trusted"


def test_it_notices_a_changed_pixel(sign: Sign, authority: Authority) -> None:
    signed = bytearray(sign(drawing(16))[0])
    signed[-30] ^= 1
    report = second_opinion(bytes(signed), "image/png", authority.root_pem)
    assert report["validation_state"] == "Invalid"
    assert report["hard_binding"] == "mismatch"
