"""The client of the Capture API says what happened, sends nothing twice, and keeps its token to itself."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from receipts.canonical import nid
from receipts.committers import nit
from receipts.committers.capture import (
    Capture,
    CaptureError,
    Endpoints,
    InsufficientFunds,
    NoAnswer,
    NoSuchAsset,
    NotOwner,
    NotReached,
    Refused,
    Throttled,
    Unauthorised,
)
from receipts.keys import Secp256k1Signer
from tests.receipts.numbers.conftest import SECRET, client_of
from tests.receipts.numbers.standin import STRANGER, TOKEN, Faults, Service

pytestmark = pytest.mark.chain

FILE = b'{"nid":"bafkrei"}'
SIGNER = Secp256k1Signer(SECRET)


def form(file: bytes = FILE, **fields: str) -> dict[str, str]:
    """A form as Ada sends it, signed."""
    metadata = nit.signed_metadata(file, created_ms=1_795_000_000_000)
    return {
        "caption": "a proof",
        "headline": "GPU Job JobSubmitted",
        "nit_commit_custom": '{"jobDetails":{}}',
        "signed_metadata": metadata,
        "signature": nit.signature_list(SIGNER, file=file, metadata=metadata),
        "public_access": "true",
        **fields,
    }


def body(asset: str, **fields: Any) -> dict[str, Any]:
    return {
        "encodingFormat": "application/json",
        "assetCid": asset,
        "assetTimestampCreated": 1_795_000_000,
        "assetCreator": "Ada",
        "assetSha256": "00" * 32,
        "commitMessage": "JobCompleted",
        "custom": {"jobDetails": {"eventType": "JobCompleted"}},
        **fields,
    }


def register(capture: Capture, **fields: str) -> str:
    return capture.register(file=FILE, filename="proof.json", mime="application/json", fields=form(FILE, **fields)).nid


# --- what it can do ------------------------------------------------------------------------------------


def test_an_asset_is_registered_read_updated_and_committed_on(service: Service, capture: Capture) -> None:
    asset = register(capture)
    assert asset == nid(FILE)
    done = capture.commit(body(asset))
    capture.update(asset, {"caption": "a better proof", "commit_message": "said better"})
    history = capture.history(asset)
    assert [commit.tx_hash for commit in history] == [item["txHash"] for item in service.commits(asset)]
    assert history[1].tx_hash == done.tx_hash
    assert history[1].asset_tree_cid == done.asset_tree_cid
    assert [json.loads(commit.said)["abstract"] for commit in history] == ["a proof", "JobCompleted", "said better"]
    assert capture.asset(asset).caption == "a better proof"
    assert capture.tree(history)["jobDetails"] == {"eventType": "JobCompleted"}


def test_a_workflow_is_followed_until_its_transaction_is_made(service: Service, capture: Capture) -> None:
    service.slow_work = 2
    taken = capture.register(file=FILE, filename="proof.json", mime="application/json", fields=form())
    assert capture.history(taken.nid) == []
    assert [capture.workflow(taken.workflow_id) for _ in range(3)] == ["running", "running", "done"]
    assert len(capture.history(taken.nid)) == 1


def test_an_asset_that_nobody_knows_has_no_history(capture: Capture) -> None:
    assert capture.history(nid(b"nothing")) == []
    with pytest.raises(NoSuchAsset):
        capture.asset(nid(b"nothing"))


def test_the_testnet_is_named_in_each_request_that_knows_it(service: Service) -> None:
    asked: list[str] = []
    service.faults.plan = lambda method, path: asked.append(path)
    done = client_of(service, testnet=True).commit(body(nid(FILE)))
    assert done.tx_hash.startswith("0x")
    answer = client_of(service, testnet=True).history(nid(FILE))
    assert len(answer) == 1


# --- what goes wrong --------------------------------------------------------------------------------------


def test_a_wrong_token_is_said_and_not_shown(service: Service) -> None:
    wrong = "wrong-but-secret-all-the-same"
    with pytest.raises(Unauthorised) as caught:
        client_of(service, wrong).asset(nid(FILE))
    assert wrong not in str(caught.value)
    assert "401" in str(caught.value)


def test_no_token_is_said(service: Service) -> None:
    with pytest.raises(Unauthorised):
        client_of(service, "").history(nid(FILE))


def test_anothers_asset_is_not_ours_to_commit_on(service: Service, capture: Capture) -> None:
    asset = register(capture)
    with pytest.raises(NotOwner):
        client_of(service, STRANGER).commit(body(asset))


@pytest.mark.parametrize("balance", [0, 10**16])
def test_too_little_money_is_an_error_of_its_own(service: Service, capture: Capture, balance: int) -> None:
    service.balances[TOKEN] = balance
    with pytest.raises(InsufficientFunds) as caught:
        register(capture)
    assert caught.value.changed_nothing
    assert caught.value.may_retry


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nit_commit_custom": "{"}, "valid JSON"),
        ({"signature": form(b"another file")["signature"]}, "Invalid signature"),
    ],
)
def test_a_form_that_is_refused_tells_why(capture: Capture, fields: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        register(capture, **fields)


def test_a_commit_that_is_refused_tells_why(capture: Capture) -> None:
    with pytest.raises(Refused, match="must be an integer"):
        capture.commit(body(nid(FILE), assetTimestampCreated="now"))


def test_a_headline_of_26_characters_is_refused_before_it_is_sent(service: Service, capture: Capture) -> None:
    with pytest.raises(Refused, match="26 characters"):
        register(capture, headline="x" * 26)
    assert service.requests == []


@pytest.mark.parametrize(
    ("fault", "kind", "took_effect"),
    [
        ("before", NoAnswer, 0),
        ("after", NoAnswer, 1),
        ("error", NoAnswer, 0),
        ("error-after", NoAnswer, 1),
        ("slow", NoAnswer, 1),
        ("throttle", Throttled, 0),
    ],
)
def test_a_fault_is_told_and_a_commit_is_never_repeated(
    service: Service, fault: str, kind: type[CaptureError], took_effect: int
) -> None:
    capture = client_of(service, timeout_seconds=0.5 if fault == "slow" else 10)
    service.faults = Faults(plan=lambda method, path: fault if path == "/nit" else None)
    with pytest.raises(kind) as caught:
        capture.commit(body(nid(FILE)))
    assert service.faults.met == [fault]
    assert service.count() == took_effect
    assert caught.value.changed_nothing is (fault == "throttle")


@pytest.mark.parametrize("fault", ["before", "after", "error", "throttle"])
def test_a_read_is_repeated_three_times_at_most(service: Service, capture: Capture, fault: str) -> None:
    service.faults = Faults(plan=lambda method, path: fault if len(service.faults.met) < 2 else None)
    assert capture.history(nid(FILE)) == []
    assert service.faults.met == [fault] * 2
    service.faults = Faults(plan=lambda method, path: fault)
    with pytest.raises(CaptureError):
        capture.history(nid(FILE))
    assert service.faults.met == [fault] * 3


def test_a_service_that_is_not_there_was_surely_not_told() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        capture = Capture(Endpoints(url, url, url, url), TOKEN, sleep=lambda _: None)
        with pytest.raises(NotReached) as caught:
            capture.commit(body(nid(FILE)))
    assert caught.value.changed_nothing


# --- a server that means harm ----------------------------------------------------------------------------


@contextmanager
def answering(status: int, content: bytes, *, headers: dict[str, str] | None = None, drip: float = 0) -> Iterator[Any]:
    """Serve one answer to everything, perhaps byte by byte; give the client and what it was asked with."""
    seen: list[str | None] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            pieces = [content[at : at + 1] for at in range(len(content))] if drip else [content]
            for piece in pieces:
                try:
                    self.wfile.write(piece)
                except OSError:
                    return  # the client has had enough
                if drip and over.wait(drip):
                    return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Capture(Endpoints(url, url, url, url), TOKEN, timeout_seconds=1, sleep=lambda _: None), seen
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def test_a_redirect_is_not_followed() -> None:
    with answering(302, b"", headers={"Location": "http://127.0.0.1:1/elsewhere"}) as (capture, seen):
        with pytest.raises(Refused, match="302"):
            capture.asset(nid(FILE))
        assert seen == [f"token {TOKEN}"]


def test_an_answer_has_a_bounded_size() -> None:
    with answering(200, b'"' + b"x" * 2_000_000 + b'"') as (capture, _), pytest.raises(NoAnswer, match="longer than"):
        capture.asset(nid(FILE))


def test_an_answer_that_drips_is_not_waited_for_for_ever() -> None:
    with answering(200, b" " * 400, drip=0.02) as (capture, _), pytest.raises(NoAnswer, match="not whole"):
        capture.asset(nid(FILE))


@pytest.mark.parametrize("content", [b"<html>", b"[1,2]", b"", b"[" * 100_000, b'{"detail": 1}', b'{"id": 7}'])
def test_an_answer_that_is_none_is_no_answer(content: bytes) -> None:
    with answering(200, content) as (capture, _), pytest.raises(NoAnswer):
        capture.asset(nid(FILE))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"detail":"A"}', "A"),
        (b'{"message":"B"}', "B"),
        (b'{"error":{"type":"T","message":"C"}}', "C"),
        (b'{"error":"D"}', "D"),
        (b'{"caption":["E"]}', "caption: ['E']"),
        (b"nothing to read", "HTTP 418"),
        (b'{"detail":"\\u001b[31mred"}', " [31mred"),
    ],
)
def test_every_shape_of_a_refusal_is_read(content: bytes, said: str) -> None:
    with answering(418, content) as (capture, _):
        with pytest.raises(Refused) as caught:
            capture.asset(nid(FILE))
        assert str(caught.value).endswith(said)
        assert "\x1b" not in str(caught.value)


def test_the_token_of_a_netrc_file_is_never_sent_in_the_place_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login mallory password mallory\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("receipts.committers.capture._LOOPBACK", frozenset())  # as with a host elsewhere
    with answering(404, b"{}") as (capture, seen):
        with pytest.raises(NoSuchAsset):
            capture.asset(nid(FILE))
        assert seen == [f"token {TOKEN}"]


def test_the_token_is_in_no_text_that_anybody_reads(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    capture = client_of(service)
    register(capture)
    told = [repr(capture), str(vars(capture)["_at"])]
    service.balances.pop(TOKEN)  # revoked: the service repeats it in its refusal
    with pytest.raises(Unauthorised) as caught:
        capture.history(nid(FILE))
    told += [str(caught.value), repr(caught.value), caplog.text]
    assert not [text for text in told if TOKEN in text]
