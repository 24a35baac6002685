"""Reading a credential requires more than the library's own word, and survives whatever the bytes are."""

import http.server
import io
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provenance import reader
from provenance.authority import Authority
from provenance.c2pa_settings import library_settings
from provenance.digests import digest_bytes
from provenance.manifest import ALGORITHMIC_MEDIA, CREATED_LABELS, JOB_LABEL, build, job_assertion
from provenance.reader import Answer
from provenance.sign import PreparedCredential
from provenance.signers.file import FileSigner
from provenance.verify import CredentialReading, NotReadable, read_credential
from tests.provenance.conftest import FACTS, Sign, chunk, drawing, tone

CAMERA = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def library_sign(
    authority: Authority, data: bytes, definition: dict[str, Any], prepare: Callable[[Any], None] = lambda _: None
) -> tuple[bytes, bytes]:
    """Sign with the bare library and the house's real key: what a careless house could sign."""
    import c2pa

    settings = library_settings(authority.root_pem, CREATED_LABELS)
    out = io.BytesIO()
    with (
        c2pa.Context.from_dict(settings, FileSigner(authority).open()) as context,
        c2pa.Builder(json.dumps(definition), context) as builder,
    ):
        prepare(builder)
        manifest = builder.sign("image/png", io.BytesIO(data), out)
    return out.getvalue(), manifest


def definition_for(data: bytes) -> dict[str, Any]:
    return build(replace(FACTS, unsigned_sha256=digest_bytes(data)), mime="image/png", version="0.1.0")


def reading_of(data: bytes, authority: Authority, **options: Any) -> CredentialReading:
    reading = read_credential(data, "image/png", root_pem=authority.root_pem, **options)
    assert isinstance(reading, CredentialReading), reading
    return reading


def test_the_bare_library_signs_what_we_then_trust(authority: Authority) -> None:
    signed, _ = library_sign(authority, drawing(16), definition_for(drawing(16)))
    assert reading_of(signed, authority).trusted


def test_mallorys_authority_of_the_same_names_is_not_trusted(
    sign: Sign, mallory: Authority, authority: Authority
) -> None:
    signed, _ = sign(drawing(16), by=FileSigner(mallory))
    reading = reading_of(signed, authority)
    assert not reading.trusted
    assert reading.failures == ("signingCredential.untrusted",)
    assert reading.issuer == "Ada and Bo's house"  # as it says: a name proves nothing
    assert reading_of(signed, mallory).trusted


def test_the_librarys_word_valid_is_not_enough(sign: Sign, mallory: Authority, authority: Authority) -> None:
    signed, _ = sign(drawing(16), by=FileSigner(mallory))
    assert reading_of(signed, authority).state == "Valid"


@pytest.mark.parametrize(
    "root_pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_without_a_root_nothing_is_trusted(sign: Sign, root_pem: str) -> None:
    signed, _ = sign(drawing(16))
    reading = read_credential(signed, None, root_pem=root_pem)
    assert isinstance(reading, NotReadable) or not reading.trusted


def test_a_tampered_parent_is_noticed_although_the_library_calls_the_child_trusted(
    sign: Sign, authority: Authority
) -> None:
    parent = bytearray(sign(drawing(16))[0])
    parent[-30] ^= 1  # a pixel
    child = drawing(16, seed=2)
    definition = definition_for(child)

    def with_parent(builder: Any) -> None:
        ingredient = {"title": "original", "relationship": "parentOf", "instance_id": "parent"}
        builder.add_ingredient(json.dumps(ingredient), "image/png", io.BytesIO(bytes(parent)))

    definition["assertions"][0]["data"]["actions"][0] |= {
        "action": "c2pa.opened",
        "parameters": {"ingredientIds": ["parent"]},
    }
    definition["ingredients"] = []
    signed, _ = library_sign(authority, child, definition, with_parent)
    reading = reading_of(signed, authority)
    assert reading.state == "Trusted"
    assert not reading.trusted
    assert any("dataHash.mismatch" in code for code in reading.failures)
    (ingredient,) = reading.ingredients
    assert ingredient.relationship == "parentOf"
    assert ingredient.failures


def test_an_untouched_parent_does_not_spoil_the_child(sign: Sign, authority: Authority) -> None:
    parent, _ = sign(drawing(16))
    child = drawing(16, seed=2)
    definition = definition_for(child)
    definition["assertions"][0]["data"]["actions"][0] |= {
        "action": "c2pa.opened",
        "parameters": {"ingredientIds": ["parent"]},
    }
    definition["ingredients"] = []

    def with_parent(builder: Any) -> None:
        ingredient = {"title": "original", "relationship": "parentOf", "instance_id": "parent"}
        builder.add_ingredient(json.dumps(ingredient), "image/png", io.BytesIO(parent))

    signed, _ = library_sign(authority, child, definition, with_parent)
    assert reading_of(signed, authority).failures == ()
    assert reading_of(signed, authority).trusted


def test_a_picture_that_calls_itself_a_photograph_is_refused(authority: Authority) -> None:
    definition = definition_for(drawing(16))
    definition["assertions"][0]["data"]["actions"][0]["digitalSourceType"] = CAMERA
    signed, _ = library_sign(authority, drawing(16), definition)
    reading = reading_of(signed, authority)
    assert reading.state == "Trusted"
    assert reading.failures == ("tallystick.sourceType.notAllowed",)
    assert reading.digital_source_type == CAMERA


def test_who_reads_may_allow_fewer_source_types(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(16))
    reading = reading_of(signed, authority, allowed_source_types=frozenset({ALGORITHMIC_MEDIA}))
    assert reading.failures == ("tallystick.sourceType.notAllowed",)


def test_an_assertion_that_stands_in_it_twice_is_refused(authority: Authority) -> None:
    definition = definition_for(drawing(16))
    definition["assertions"].append({"label": JOB_LABEL, "data": {**job_assertion(FACTS), "job_id": "job_mallory"}})
    signed, _ = library_sign(authority, drawing(16), definition)
    reading = reading_of(signed, authority)
    assert "tallystick.assertion.multiple" in reading.failures
    assert reading.assertion is None


def test_a_credential_that_names_another_output_than_it_stands_on_is_refused(authority: Authority) -> None:
    signed, _ = library_sign(authority, drawing(16), definition_for(drawing(16, seed=2)))
    reading = reading_of(signed, authority)
    assert reading.state == "Trusted"
    assert reading.failures == ("tallystick.unsigned.mismatch",)


def test_a_manifest_without_our_assertion_says_so_and_may_be_trusted(authority: Authority) -> None:
    definition = definition_for(drawing(16))
    definition["assertions"] = definition["assertions"][:2]
    signed, _ = library_sign(authority, drawing(16), definition)
    reading = reading_of(signed, authority)
    assert reading.trusted
    assert reading.assertion is None


def test_the_bytes_decide_the_type_not_what_they_are_called(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(16))
    for declared in ("image/jpeg", "text/plain", "nonsense", None):
        reading = read_credential(signed, declared, root_pem=authority.root_pem)
        assert isinstance(reading, CredentialReading)
        assert (reading.trusted, reading.mime) == (True, "image/png")


def test_a_path_reads_like_its_bytes(sign: Sign, authority: Authority, tmp_path: Path) -> None:
    signed, _ = sign(drawing(16))
    (tmp_path / "a.jpg").write_bytes(signed)
    assert read_credential(tmp_path / "a.jpg", None, root_pem=authority.root_pem) == reading_of(signed, authority)


@pytest.mark.parametrize("data", [drawing(16), tone(), b'{"a":1}', b"just text", b"%PDF-1.7 no"])
def test_a_file_without_a_credential_is_told_apart_from_a_broken_one(authority: Authority, data: bytes) -> None:
    answer = read_credential(data, None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable)
    assert answer.sha256 == digest_bytes(data)
    assert answer.absent == (data[:5] != b"%PDF-"), answer


def test_a_detached_manifest_for_another_file_does_not_hold(
    sign: Sign, authority: Authority, manifest_of: Callable[[PreparedCredential], bytes]
) -> None:
    _, prepared = sign(b'{"a":1}', "application/json")
    other = read_credential(b'{"a":2}', "application/json", root_pem=authority.root_pem, manifest=manifest_of(prepared))
    assert isinstance(other, CredentialReading)
    assert not other.trusted
    assert set(other.failures) == {"assertion.dataHash.mismatch", "tallystick.unsigned.mismatch"}


@pytest.mark.parametrize("manifest", [b"", b"x", b"{}", bytes(100), b"\x00\x00\x00\x20jumb" + bytes(24)])
def test_a_detached_manifest_that_is_none_is_not_readable(authority: Authority, manifest: bytes) -> None:
    answer = read_credential(b'{"a":1}', "application/json", root_pem=authority.root_pem, manifest=manifest)
    assert isinstance(answer, NotReadable)
    assert "\n" not in answer.reason


def with_cbor(manifest: bytes, head: bytes) -> bytes:
    """Let our assertion's CBOR begin with another head: a type and a claimed length."""
    at = manifest.index(b"cbor", manifest.index(JOB_LABEL.encode() + b"\0")) + 4
    return manifest[:at] + head + manifest[at + len(head) :]


@pytest.mark.parametrize("length", [2**31, 2**33, 2**36, 2**63])
@pytest.mark.parametrize("major", [2, 3, 4, 5], ids=["bytes", "text", "array", "map"])
def test_a_length_that_the_file_only_claims_takes_no_memory_of_ours(
    sign: Sign, authority: Authority, manifest_of: Callable[[PreparedCredential], bytes], major: int, length: int
) -> None:
    _, prepared = sign(b"text", "text/plain")
    manifest = with_cbor(manifest_of(prepared), bytes([major << 5 | 27]) + length.to_bytes(8))
    context = multiprocessing.get_context("fork")
    memory = context.Queue()
    # In a process of its own, because the peak of "all children so far" is what can be asked for.
    asking = context.Process(target=_peak_of_reading, args=(manifest, authority.root_pem, memory))
    asking.start()
    assert memory.get(timeout=60) < reader.BASE_MEMORY_BYTES
    asking.join(60)


def _peak_of_reading(manifest: bytes, root_pem: str, memory: Any) -> None:
    answer = read_credential(b"text", "text/plain", root_pem=root_pem, manifest=manifest)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    memory.put(peak if isinstance(answer, NotReadable) else float("inf"))


def test_a_file_that_kills_the_library_is_not_readable_and_kills_nobody_else(
    sign: Sign, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signed, _ = sign(drawing(16))
    (tmp_path / "dies.py").write_text("import os; os.abort()")
    monkeypatch.setattr(reader, "__file__", str(tmp_path / "dies.py"))
    answer = read_credential(signed, None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable)
    assert answer.reason == "the C2PA library died of it (exit -6)"


def test_a_file_that_keeps_the_library_busy_is_given_up(
    sign: Sign, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signed, _ = sign(drawing(16))
    (tmp_path / "hangs.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setattr(reader, "__file__", str(tmp_path / "hangs.py"))
    monkeypatch.setattr(reader, "WALL_SECONDS", 0.3)
    answer = read_credential(signed, None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable)
    assert answer.reason == "not read within 0.3 s"


def test_here_and_contained_read_the_same(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(16))
    for data in (signed, drawing(16), signed[:-3], b"text"):
        here, there = (read_credential(data, None, root_pem=authority.root_pem, contained=c) for c in (False, True))
        assert here == there


def hostile() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "one byte", b"\x89"
    yield "only a signature", drawing(4)[:8]
    yield "a chunk longer than the file", drawing(4)[:8] + b"\xff\xff\xff\xffIHDR" + bytes(20)
    yield "a manifest chunk of nothing", drawing(4)[:33] + chunk(b"caBX", b"") + drawing(4)[33:]
    yield (
        "a manifest chunk of noise",
        drawing(4)[:33] + chunk(b"caBX", random.Random(3).randbytes(500)) + drawing(4)[33:],
    )
    yield (
        "a box longer than itself",
        drawing(4)[:33] + chunk(b"caBX", b"\xff\xff\xff\xffjumb" + bytes(50)) + drawing(4)[33:],
    )
    yield (
        "a box that contains itself",
        drawing(4)[:33] + chunk(b"caBX", b"\x00\x00\x00\x00jumb" * 2000) + drawing(4)[33:],
    )
    yield "a RIFF longer than the file", b"RIFF\xff\xff\xff\xffWAVEfmt "
    yield "a JPEG of markers", b"\xff\xd8\xff" + b"\xff\xeb\xff\xff" * 50
    yield "an MP4 of nothing", b"\x00\x00\x00\x18ftypisom" + bytes(12) + b"\xff\xff\xff\xffuuid"
    yield "a TIFF that points to itself", b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(60)
    yield "a GIF of noise", b"GIF89a" + random.Random(4).randbytes(200)
    yield "zeroes", bytes(10_000)


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_hostile_bytes_give_an_answer_and_never_an_exception(authority: Authority, name: str, data: bytes) -> None:
    answer = read_credential(data, None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable), name
    assert 0 < len(answer.reason) <= 200
    assert "\n" not in answer.reason


@pytest.mark.parametrize("keep", [9, 40, 45, 100, 1000, 4000, -1, -12])
def test_a_truncated_picture_is_never_trusted(sign: Sign, authority: Authority, keep: int) -> None:
    answer = read_credential(sign(drawing(16))[0][:keep], None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable) or not answer.trusted


def test_a_file_above_the_limit_is_not_read(sign: Sign, authority: Authority, tmp_path: Path) -> None:
    signed, _ = sign(drawing(16))
    (tmp_path / "a.png").write_bytes(signed)
    for asset in (signed, tmp_path / "a.png"):
        answer = read_credential(asset, None, root_pem=authority.root_pem, max_bytes=len(signed) - 1)
        assert isinstance(answer, NotReadable)
        assert "larger" in answer.reason
        assert not isinstance(
            read_credential(asset, None, root_pem=authority.root_pem, max_bytes=len(signed)), NotReadable
        )


def altered(change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library answer something else than it did: `change` edits its JSON in place."""

    def answer(**question: Any) -> Answer:
        answer = reader.read_here(**question)
        change(answer["content"])
        return answer

    monkeypatch.setattr(reader, "read_contained", answer)


def active(content: dict[str, Any]) -> dict[str, Any]:
    found = content["manifests"][content["active_manifest"]]
    assert isinstance(found, dict)
    return found


def actions(content: dict[str, Any]) -> list[Any]:
    (found,) = [item["data"]["actions"] for item in active(content)["assertions"] if "actions" in item["label"]]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("change", "failures"),
    [
        (lambda content: content.update(validation_state="Valid"), ()),
        (lambda content: content.pop("validation_results"), ("tallystick.results.missing",)),
        (
            lambda content: content["validation_results"].update(
                ingredientDeltas=[{"validationDeltas": {"failure": [{"code": "claim.missing"}]}}]
            ),
            ("ingredient: claim.missing",),
        ),
        (
            lambda content: active(content)["ingredients"][0].update(
                validation_status=[{"code": "ingredient.claimSignature.mismatch"}]
            ),
            ("prompt: ingredient.claimSignature.mismatch",),
        ),
        (lambda content: actions(content)[0].pop("digitalSourceType"), ("tallystick.sourceType.missing",)),
        (lambda content: actions(content)[0].update(action="c2pa.edited"), ("tallystick.sourceType.missing",)),
        (lambda content: actions(content).clear(), ("tallystick.sourceType.missing",)),
    ],
    ids=["only Valid", "no results", "a delta", "an old status", "no source type", "edited first", "no action"],
)
def test_whatever_else_than_trusted_without_a_failure_is_not_trusted(
    sign: Sign,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], object],
    failures: tuple[str, ...],
) -> None:
    signed, _ = sign(drawing(16))
    altered(change, monkeypatch)
    reading = reading_of(signed, authority)
    assert reading.failures == failures
    assert not reading.trusted


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("active_manifest"),
        lambda content: content.update(manifests=[]),
        lambda content: active(content).pop("assertions"),
        lambda content: active(content).update(signature_info=None),
        lambda content: actions(content).__setitem__(0, "created"),
    ],
)
def test_a_manifest_of_another_shape_is_not_readable(
    sign: Sign, authority: Authority, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object]
) -> None:
    signed, _ = sign(drawing(16))
    altered(change, monkeypatch)
    answer = read_credential(signed, None, root_pem=authority.root_pem)
    assert isinstance(answer, NotReadable)
    assert "malformed" in answer.reason


class _Counting(http.server.BaseHTTPRequestHandler):
    asked: list[str]
    manifest: bytes

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.manifest)))
        self.end_headers()
        self.wfile.write(self.manifest)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the requests are counted."""


def test_an_address_in_a_strangers_file_is_never_dialled(authority: Authority) -> None:
    class Handler(_Counting):
        asked: list[str] = []
        manifest = b""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/evil.c2pa"

            def elsewhere(builder: Any) -> None:
                builder.set_no_embed()
                builder.set_remote_url(url)

            asset, Handler.manifest = library_sign(authority, drawing(16), definition_for(drawing(16)), elsewhere)
            assert url.encode() in asset
            answer = read_credential(asset, None, root_pem=authority.root_pem)
        finally:
            server.shutdown()
            thread.join()
    assert Handler.asked == []
    assert isinstance(answer, NotReadable)


@pytest.mark.parametrize(
    "module", ["verify", "reader", "store", "manifest", "digests", "sign", "authority", "mime", "png"]
)
def test_no_module_loads_the_c2pa_library_or_django_before_it_is_used(module: str) -> None:
    script = f"import sys, provenance.{module}; print([m for m in ('c2pa', 'django') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
