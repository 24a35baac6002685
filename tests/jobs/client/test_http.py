"""The client has bounded patience: it repeats what is safe to repeat, and names what the house would not do."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs.claims import REQUEST, read_claim
from jobs.client import cli, http
from jobs.client.http import (
    BadRequest,
    Conflict,
    HouseInTrouble,
    NoSuchThing,
    NotAllowed,
    NotTheHouse,
    TallystickClient,
    TooMany,
    Unreachable,
    WaitedTooLong,
    signed_request,
)
from jobs.client.trust import add_own, fingerprint, read_trust
from jobs.runners.base import BadInput
from receipts.canonical import field_digest, unb64url
from receipts.keys import make_key_file, verify_text
from tests.jobs.client.house import ORIGIN, House, Keys

JOB: dict[str, Any] = {"job_id": "job_1", "nid": "bafk", "state": "completed", "evidence": "complete", "attempt": 1}


class Scripted(HTTPServer):
    """A house that answers as it is told, and remembers what it was asked."""

    answers: list[tuple[int, Any]]
    asked: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(
            {
                "method": self.command,
                "path": self.path,
                "key": self.headers.get("Idempotency-Key"),
                "who": self.headers.get("Authorization"),
                "body": json.loads(body) if body else None,
            }
        )
        status, value = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == 0:
            self.connection.close()  # as a proxy that dies
            return
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(data) + (5 if status == 206 else 0)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    httpd = Scripted(("127.0.0.1", 0), _Handler)
    httpd.asked, httpd.answers = [], [(200, JOB)]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def url_of(server: Scripted) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(server: Scripted, pauses: list[float]) -> Iterator[TallystickClient]:
    with TallystickClient(url_of(server), "ts_key", sleep=pauses.append, timeout_seconds=5) as given:
        yield given


def problem(status: int, slug: str = "x", **more: Any) -> tuple[int, Any]:
    return status, {"type": f"/api/v1/problems#{slug}", "title": "T", "status": status, "detail": "because", **more}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NoSuchThing),
        (409, Conflict),
        (422, BadRequest),
        (429, TooMany),
        (500, HouseInTrouble),
        (302, BadRequest),
    ],
)
def test_each_no_of_the_house_has_a_name(
    client: TallystickClient, server: Scripted, status: int, kind: type[http.Refused]
) -> None:
    server.answers = [problem(status, errors=[{"field": "kind", "rule": "must be one of …"}], may_retry=False)]
    with pytest.raises(kind, match="because") as error:
        client.get("job_1")
    assert type(error.value) is kind
    assert (error.value.status, error.value.field, error.value.kind) == (status, "kind", "x")


@pytest.mark.parametrize("failure", [(503, b"<html>"), (429, {}), (502, b""), (0, None)])
def test_reading_is_repeated_until_it_passes(
    client: TallystickClient, server: Scripted, pauses: list[float], failure: tuple[int, Any]
) -> None:
    server.answers = [failure, failure, (200, JOB)]
    assert client.get("job_1")["state"] == "completed"
    assert len(server.asked) == 3
    assert len(pauses) == 2 and all(0 < pause <= 8 for pause in pauses)


def test_patience_ends(client: TallystickClient, server: Scripted, pauses: list[float]) -> None:
    server.answers = [(503, b"")]
    with pytest.raises(HouseInTrouble):
        client.get("job_1")
    assert len(server.asked) == 4
    assert pauses == [1.0, 1.0, 1.0], "as long as the house asks for"


def test_a_submission_is_repeated_under_one_key(client: TallystickClient, server: Scripted) -> None:
    server.answers = [(0, None), problem(503), problem(409, "still-running"), (201, JOB)]
    done = client.submit("text-to-image", {"prompt": "a red circle"})
    assert done.created and done.job_id == "job_1"
    assert {item["key"] for item in server.asked} == {done.idempotency_key}
    assert len(server.asked) == 4
    assert {item["who"] for item in server.asked} == {"Bearer ts_key"}


def test_a_conflict_that_will_not_pass_is_not_repeated(client: TallystickClient, server: Scripted) -> None:
    server.answers = [problem(409, "illegal-move")]
    with pytest.raises(Conflict):
        client.submit("text-to-image", {"prompt": "x"}, idempotency_key="mine")
    assert [item["key"] for item in server.asked] == ["mine"]


def test_cancelling_is_asked_once(client: TallystickClient, server: Scripted, pauses: list[float]) -> None:
    server.answers = [(503, b"")]
    with pytest.raises(HouseInTrouble):
        client.cancel("job_1")
    assert len(server.asked) == 1 and pauses == []
    assert server.asked[0]["path"] == "/api/v1/jobs/job_1/cancel"


def test_a_house_that_is_not_there_is_named(pauses: list[float]) -> None:
    client = TallystickClient("http://127.0.0.1:9", sleep=pauses.append)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 can't be reached: no connection"):
        client.get("job_1")
    with pytest.raises(Unreachable):
        TallystickClient("nonsense").get("job_1")


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"7", b"", b"\xff"])
def test_an_answer_that_no_house_gives_is_not_believed(
    client: TallystickClient, server: Scripted, answer: bytes
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(NotTheHouse):
        client.get("job_1")
    with pytest.raises(NotTheHouse):
        client.submit("text-to-image", {"prompt": "x"})


def test_an_answer_without_end_is_cut_off(
    client: TallystickClient, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [(200, b"[" + b"1," * 1000)]
    monkeypatch.setattr(http, "JSON_LIMIT", 100)
    with pytest.raises(NotTheHouse, match="longer than 100 bytes"):
        client.receipts("job_1")


def test_an_answer_that_breaks_off_is_no_answer(client: TallystickClient, server: Scripted) -> None:
    server.answers = [(206, b"half")]
    with pytest.raises(Unreachable, match="broke off"):
        client.tally("job_1")


def test_a_job_is_followed_until_its_evidence_is_complete(
    client: TallystickClient, server: Scripted, pauses: list[float]
) -> None:
    stations = [
        {**JOB, "state": "submitted", "evidence": "none"},
        {**JOB, "state": "submitted", "evidence": "none"},
        {**JOB, "state": "running", "evidence": "none"},
        {**JOB, "evidence": "credential"},
        JOB,
    ]
    server.answers = [(200, station) for station in stations]
    told = [(job["state"], job["evidence"]) for job in client.watch("job_1")]
    assert told == [
        ("submitted", "none"),
        ("running", "none"),
        ("completed", "credential"),
        ("completed", "complete"),
    ]
    assert len(pauses) == 4
    server.answers = [(200, stations[2]), (200, JOB)]
    assert client.wait("job_1", until=lambda job: job["state"] == "running")["state"] == "running"


def test_waiting_ends(client: TallystickClient, server: Scripted) -> None:
    server.answers = [(200, {**JOB, "state": "running"})]
    with pytest.raises(WaitedTooLong, match="job_1 is running after 0 s"):
        client.wait("job_1", timeout_seconds=0)


def test_a_signed_request_says_what_the_house_will_read() -> None:
    signer = Keys().client
    body = signed_request(
        "text-to-image", {"prompt": "a red circle", "guidance": "3.50"}, model="tiny-shapes", signer=signer, hub="h"
    )
    assert body["inputs"] == {"prompt": "a red circle", "steps": 15, "guidance": "3.5", "count": 1}
    assert verify_text(body["claim"], body["sig"]) == signer.key_id
    told = read_claim(body["claim"], REQUEST)
    for name, value in body["inputs"].items():
        assert told["inputs"][name] == field_digest(name, value, unb64url(body["salts"][name], size=16))
    assert "a red circle" not in body["claim"]
    assert "max_price" not in told
    with pytest.raises(BadInput):
        signed_request("text-to-image", {"prompt": ""}, model="tiny-shapes", signer=signer, hub="h")


def test_a_request_is_signed_for_the_log_that_the_house_publishes(
    client: TallystickClient, server: Scripted, house: House
) -> None:
    server.answers = [(200, house.document()), (201, JOB)]
    client.submit("text-to-image", {"prompt": "x"}, signer=Keys().client, max_price=7)
    sent = server.asked[1]["body"]
    told = read_claim(sent["claim"], REQUEST)
    assert (told["hub"], told["max_price"], sent["max_price"]) == (ORIGIN, "7", "7")


def test_what_is_downloaded_lies_in_the_folder_and_nowhere_else(
    client: TallystickClient, server: Scripted, tmp_path: Path
) -> None:
    server.answers = [(200, b"tally"), (200, {**JOB, "artifacts": [{"name": "../../escaped.png"}]}), (200, b"png")]
    kept = client.download("job_1", tmp_path / "out", disclose=("prompt",))
    assert [path.name for path in kept] == ["job_1.tally.json", "job_1-escaped.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in kept)
    assert server.asked[0]["path"].endswith("/tally?disclose=prompt")
    assert kept[1].read_bytes() == b"png"


# --- the same from the command line ----------------------------------------------------------------


@pytest.fixture
def typed(server: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    monkeypatch.setenv("TALLYSTICK_URL", url_of(server))
    monkeypatch.setenv("TALLYSTICK_API_KEY", "ts_key")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        return code, *capsys.readouterr()

    yield run


def test_submit_sends_inputs_as_their_kind_types_them(typed: Any, server: Scripted, tmp_path: Path) -> None:
    make_key_file(tmp_path / "client.key", "ed25519")
    server.answers = [(200, {"log": {"origin": "o"}}), (201, JOB)]
    code, out, _ = typed("submit", "a red circle", "-i", "steps=4", "-i", "guidance=2.5", "--key",
                         str(tmp_path / "client.key"))  # fmt: skip
    assert code == 0 and out.startswith("job_1  submitted")
    sent = server.asked[1]["body"]
    assert sent["inputs"] == {"prompt": "a red circle", "steps": 4, "guidance": "2.5", "count": 1}
    assert {"claim", "sig", "salts"} <= sent.keys()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["submit", "x", "-i", "steps"], "NAME=VALUE"),
        (["submit", "x", "-i", "prompt=y"], "given twice"),
        (["submit", "x", "--kind", "alchemy"], "--kind must be one of"),
        (["submit", "x", "--key", "/nowhere.key"], "can't be read"),
    ],
)
def test_what_can_not_be_submitted_is_bad_usage(typed: Any, arguments: list[str], rule: str) -> None:
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "") and rule in err


def test_every_command_of_jobs_prints_lines_and_json(typed: Any, server: Scripted, tmp_path: Path) -> None:
    server.answers = [(200, JOB)]
    assert typed("get", "job_1")[1].startswith("job_id           job_1")
    assert json.loads(typed("--json", "get", "job_1")[1]) == JOB
    assert typed("watch", "job_1")[:2] == (0, "job_1  None  completed  evidence: complete\n")
    assert typed("cancel", "job_1")[0] == 0
    server.answers = [(200, {"results": [JOB]})]
    assert typed("list")[1].splitlines()[-1] == "1 jobs"
    assert json.loads(typed("list", "--json")[1]) == [JOB]
    server.answers = [(200, b"tally"), (200, JOB)]
    assert typed("download", "job_1", "-o", str(tmp_path))[1] == f"{tmp_path}/job_1.tally.json\n"


def test_what_the_house_refuses_ends_with_1_and_an_absent_house_with_69(typed: Any, server: Scripted) -> None:
    server.answers = [problem(404)]
    assert typed("get", "job_1") == (1, "", "tallystick: because\n")
    failed = {**JOB, "state": "failed", "evidence": "none", "failure_class": "runner"}
    server.answers = [(200, failed)]
    assert typed("watch", "job_1")[0] == 1
    code, _, err = typed("get", "job_1", "--url", "http://127.0.0.1:9")
    assert code == 69 and "no connection (try again later)" in err


def test_without_an_api_key_the_way_to_one_is_told(
    typed: Any, monkeypatch: pytest.MonkeyPatch, server: Scripted, tmp_path: Path
) -> None:
    monkeypatch.delenv("TALLYSTICK_API_KEY")
    code, _, err = typed("list")
    assert code == 2 and "TALLYSTICK_API_KEY_FILE" in err
    (tmp_path / "key").write_text("ts_filed\n")
    monkeypatch.setenv("TALLYSTICK_API_KEY_FILE", str(tmp_path / "key"))
    typed("get", "job_1")
    assert server.asked[-1]["who"] == "Bearer ts_filed"


# --- keeping a trust file --------------------------------------------------------------------------


def test_trust_add_keeps_only_the_house_whose_root_is_known(
    typed: Any, server: Scripted, house: House, tmp_path: Path
) -> None:
    server.answers = [(200, house.document())]
    kept, root = tmp_path / "t.json", fingerprint(house.keys.root.key_id)
    add = ("trust", "add", url_of(server), "-o", str(kept), "--root")
    code, _, err = typed(*add, "0" * 64)
    assert code == 2 and "is expected" in err and not kept.exists()

    client = house.keys.client.key_id
    assert typed(*add, root, "--client-key", client)[0] == 0
    assert server.asked[-1]["path"] == "/.well-known/tallystick.json"
    assert read_trust(kept.read_bytes()).clients == {client}

    mine = add_own(json.loads(kept.read_text()), clients=[client], require=["witnesses"])
    kept.write_text(json.dumps(mine))
    other = Keys("mallory").client.key_id
    assert typed(*add, house.keys.root.key_id, "--client-key", other)[0] == 0
    renewed = read_trust(kept.read_bytes())
    assert renewed.clients == {client, other} and renewed.require[-1] == "witnesses"
    assert json.loads(typed("trust", "show", str(kept), "--json")[1])["root"] == root


def test_trust_add_never_replaces_another_house(
    typed: Any, server: Scripted, house: House, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "t.json"
    kept.write_text(json.dumps(house.document()))
    mallory = House(folder, keys=Keys("mallory"))
    server.answers = [(200, mallory.document())]
    code, _, err = typed("trust", "add", url_of(server), "-o", str(kept), "--root", mallory.keys.root.key_id)
    assert code == 2 and "trusts another root key" in err
    assert json.loads(kept.read_text()) == house.document()


@pytest.mark.parametrize(
    "arguments", [["--client-key", "short"], ["-o", "/nowhere/t.json"], ["-o", "/dev/null/t.json"]]
)
def test_trust_add_refuses_what_it_can_not_keep(
    typed: Any, server: Scripted, house: House, tmp_path: Path, arguments: list[str]
) -> None:
    server.answers = [(200, house.document())]
    given = ["-o", str(tmp_path / "t.json"), *arguments]
    code, _, err = typed("trust", "add", url_of(server), "--root", house.keys.root.key_id, *given)
    assert code == 2 and err.count("\n") == 1
    assert not (tmp_path / "t.json").exists()
