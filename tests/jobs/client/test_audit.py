"""A whole log from outside: what holds is told, a change is named by leaf and NID, what is missing is unknown."""

import http.server
import json
import os
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.client import audit as auditing
from jobs.client import cli
from jobs.client.auditing.source import Address, Folder, Source
from jobs.client.auditing.state import NotAState, read_state, write_state
from jobs.client.trust import read_trust
from jobs.client.verdicts import Unknown, Word
from receipts.canonical import decode, encode, nid
from receipts.checkpoint import make_vkey, open_checkpoint
from receipts.exported import Line, ProofLine, write_checkpoint_line, write_line, write_proof_line
from receipts.keys import sign_text
from receipts.merkle import inclusion_proof, leaf_hash, root_of
from receipts.tiles import Tile, decode_bundle, encode_bundle
from tests.jobs.client.book import Book, tell_jobs, tile_at
from tests.jobs.client.house import ORIGIN, House, Keys

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
SEED = 20261121
JOBS = 60  # 600 receipts: two full bundles and a partial one


@pytest.fixture(scope="session")
def bodies(house: House) -> list[bytes]:
    return tell_jobs(house.folder, JOBS)


@pytest.fixture
def book(bodies: list[bytes], tmp_path: Path) -> Book:
    """Cy's folder: log, export, trust file."""
    folder = tmp_path / "book"
    folder.mkdir()
    return Book(folder, list(bodies)).publish().export_all()


def run(book: Book, *more: str, place: str | None = None) -> tuple[int, dict[str, Any]]:
    """Audit as the command line does, and give exit code and verdicts by claim."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(["audit", place or str(book.folder), "--trust", str(book.trust), "--json", *more])
    told = json.loads(out.getvalue())
    return code, {item["claim"]: item for item in told.get("verdicts", [])} | {"told": told}


def broken(told: dict[str, Any]) -> set[str]:
    return {name for name, item in told.items() if item.get("verdict") == "broken"}


def rewrite(path: Path, number: int, body: bytes, name: str | None = None) -> None:
    """Put other bytes into one line of an export."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = write_line(Line(number, name or nid(body), body))
    path.write_bytes(b"".join(lines))


def test_an_honest_log_holds_and_every_signature_was_checked(book: Book) -> None:
    code, told = run(book)
    assert code == 0, told
    assert told["told"]["counts"]["shown"] == told["told"]["counts"]["size"] == 10 * JOBS
    for claim in auditing.OF_RECEIPTS:
        due = "not claimed" if claim == "house-signed" else "holds"
        assert told[claim]["verdict"] == due, claim
    assert told["work-signed"]["detail"].startswith(f"in {JOBS} groups")
    assert [item["claim"] for item in told["told"]["verdicts"]][:7] == [
        *("checkpoint", "witnesses", "entries", "tiles", "root", "append-only", "receipts")
    ]


def test_a_log_without_receipts_is_audited_as_far_as_it_goes(book: Book) -> None:
    book.export.unlink()
    code, told = run(book)
    assert code == 0
    assert told["root"]["verdict"] == "holds"
    assert told["receipts"]["verdict"] == told["usage"]["verdict"] == "not claimed"


# --- what is changed is found where it is ----------------------------------------------------------


def test_a_changed_receipt_is_named_by_leaf_and_nid(book: Book) -> None:
    place = next(i for i, body in enumerate(book.bodies) if b'"JobCompleted"' in body)
    name = nid(book.bodies[place])
    rewrite(book.export, place, book.bodies[place].replace(b'\\"value\\":1500', b'\\"value\\":1501'), name)
    code, told = run(book)
    assert code == 1
    assert told["receipts"]["field"] == f"leaf {place} ({name}) bytes"
    assert told["receipts"]["expected"] == name != told["receipts"]["found"]
    assert told["work-signed"]["field"].startswith(f"leaf {place} ({name}) JobCompleted data.claim")
    assert broken(told) >= {"receipts", "work-signed", "receipts-chain"}


def test_a_receipt_at_another_leaf_is_not_in_the_log(book: Book) -> None:
    rewrite(book.export, 7, book.bodies[8])
    code, told = run(book)
    assert code == 1 and told["receipts"]["field"].startswith("leaf 7 (")
    assert str(nid(book.bodies[7])) in told["receipts"]["expected"]


def test_a_changed_entry_breaks_its_tile_and_the_root(book: Book) -> None:
    path = tile_at(book.folder, Tile(None, 1))
    entries = decode_bundle(path.read_bytes())
    entries[5] = entries[5].replace(entries[5][-40:-9], b"a" * 31)
    path.write_bytes(encode_bundle(entries))
    code, told = run(book)
    assert code == 1
    assert told["tiles"]["field"] == "tile/0/001 hash 5 (leaf 261)"
    assert broken(told) >= {"tiles", "root", "receipts"}
    assert told["receipts"]["field"].startswith("leaf 261 (")


@pytest.mark.parametrize(
    ("tile", "field"),
    [(Tile(0, 0), "tile/0/000 hash 3 (leaf 3)"), (Tile(1, 0, 2), "tile/1/000.p/2 hash 1 (leaves 256 to 511)")],
)
def test_a_changed_tile_is_named_and_the_root_still_holds(book: Book, tile: Tile, field: str) -> None:
    path = tile_at(book.folder, tile)
    data = bytearray(path.read_bytes())
    data[(3 if tile.level == 0 else 1) * 32 + 4] ^= 1
    path.write_bytes(data)
    code, told = run(book)
    assert code == 1 and broken(told) == {"tiles"}
    assert told["tiles"]["field"] == field


def test_a_missing_tile_is_unknown_and_a_missing_bundle_stops_the_walk(book: Book) -> None:
    tile_at(book.folder, Tile(0, 1)).unlink()
    code, told = run(book)
    assert code == 3 and told["tiles"]["verdict"] == "unknown" and told["root"]["verdict"] == "holds"
    tile_at(book.folder, Tile(None, 1)).unlink()
    code, told = run(book)
    assert code == 3 and told["root"]["verdict"] == told["receipts"]["verdict"] == "unknown"
    assert "tile/entries/001 is missing" in told["entries"]["detail"]


def test_a_checkpoint_by_another_key_judges_nothing(book: Book) -> None:
    Book(book.folder, book.bodies, Keys("mallory")).publish()
    code, told = run(book)
    assert code == 1 and broken(told) == {"checkpoint"}
    assert told["root"]["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("type_", "old", "new", "claims"),
    [
        ("JobStarted", b'"seq":3', b'"seq":4', {"receipts-chain"}),
        ("JobScheduled", b'"lease_until"', b'"lease_untie"', {"receipts-canonical"}),
        ("JobScheduled", b'{"actor"', b'{ "actor"', {"receipts-canonical"}),
        ("JobCompleted", b"-JobCompleted", b"-JobCompletes", {"idempotency-keys"}),
        ("UsageAttested", b'"units":1790', b'"units":1791', {"attestation"}),
    ],
)
def test_a_lie_that_was_logged_is_found_by_what_it_says(
    book: Book, type_: str, old: bytes, new: bytes, claims: set[str]
) -> None:
    place = next(i for i, body in enumerate(book.bodies) if f'"eventType":"{type_}"'.encode() in body)
    changed = book.bodies[place].replace(old, new)
    assert changed != book.bodies[place]
    entry = encode({"eventType": type_, "nid": nid(changed), "v": 1})
    book.bodies[place] = changed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.jobs.client.book.entry_of", lambda body: entry if body == changed else entry_of(body))
        book.publish()
    book.export_all()
    code, told = run(book)
    assert code == 1 and broken(told) >= claims
    assert "receipts" not in broken(told), "the log does hold it"
    assert any(told[claim]["field"].startswith(f"leaf {place} ({nid(changed)})") for claim in claims), told


def entry_of(body: bytes) -> bytes:
    return encode({"eventType": decode(body)["eventType"], "nid": nid(body), "v": 1})


# --- one history across runs -----------------------------------------------------------------------


class Counting:
    """A folder that counts what is read, and breaks off where it is told to."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self._folder, self.stop_at, self.reads = Folder(folder), stop_at, list[str]()
        self.name = str(folder)

    def get(self, path: str, limit: int) -> bytes | None:
        if len(self.reads) == self.stop_at:
            raise KeyboardInterrupt
        self.reads.append(path)
        return self._folder.get(path, limit)


def check(book: Book, source: Source, state: Path | None = None, *, receipts: bool = True) -> auditing.Audit:
    trust = read_trust(book.trust.read_bytes())
    return auditing.audit(source, trust, receipts=book.export if receipts else None, state_path=state)


def test_a_grown_log_is_audited_from_where_the_last_audit_ended(book: Book, tmp_path: Path) -> None:
    book.publish(530)
    state = tmp_path / "state"
    assert check(book, Counting(book.folder / "log"), state, receipts=False).report.exit_code == 0
    book.publish()
    source = Counting(book.folder / "log")
    done = check(book, source, state, receipts=False)
    assert done.report.exit_code == 0
    assert "the 530 leaves audited before are its beginning, 70 were added" in done.report.of("append-only").detail
    assert [path for path in source.reads if "entries" in path] == ["tile/entries/002.p/88"]


@pytest.mark.parametrize("changed", [3, 520])
def test_a_rewritten_log_is_found_and_both_checkpoints_are_kept(book: Book, tmp_path: Path, changed: int) -> None:
    state = tmp_path / "state"
    book.publish(530)
    assert run(book, "--resume", str(state), "--receipts", os.devnull)[0] == 0
    kept = state.read_bytes()
    book.bodies[changed] = book.bodies[changed].replace(b'"seq"', b'"seq" ')
    book.bodies[changed] = encode({**decode(book.bodies[changed]), "tenant": "mallory"})
    book.publish()
    code, told = run(book, "--resume", str(state), "--receipts", os.devnull)
    assert code == 1 and broken(told) == {"append-only"}, "Mallory's log is whole in itself"
    assert told["append-only"]["field"] == "log of 530 leaves, audited before"
    evidence = json.loads((tmp_path / "state.evidence.json").read_text())
    vkey = make_vkey(ORIGIN, book.keys.log.public)
    assert [open_checkpoint(evidence[when], vkey).size for when in ("before", "now")] == [530, 600]
    assert state.read_bytes() == kept, "what was seen first stays what later logs must extend"


def test_a_shorter_log_is_a_rollback(book: Book, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run(book, "--resume", str(state))[0] == 0
    book.publish(300).export_all(300)
    code, told = run(book, "--resume", str(state))
    assert code == 1 and broken(told) == {"append-only"}
    assert told["append-only"]["expected"] == "600 leaves or more" and told["append-only"]["found"] == "300"


def test_a_state_of_another_log_is_bad_usage(book: Book, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run(book, "--resume", str(state))[0] == 0
    state.write_text(state.read_text().replace(ORIGIN, "other.test/log"))
    code, told = run(book, "--resume", str(state))
    assert code == 2 and "of the log 'other.test/log'" in told["told"]["error"]


# --- crashes -----------------------------------------------------------------------------------------


def test_wherever_it_is_interrupted_it_goes_on_to_the_same_verdicts(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auditing, "SAVE_EVERY_BUNDLES", 1)
    whole = Counting(book.folder / "log")
    honest = check(book, whole)
    points = range(len(whole.reads)) if FULL else sorted(random.Random(SEED).sample(range(len(whole.reads)), 4))
    for point in points:
        state = tmp_path / f"state-{point}"
        with pytest.raises(KeyboardInterrupt):
            check(book, Counting(book.folder / "log", stop_at=point), state)
        after = Counting(book.folder / "log")
        again = check(book, after, state)
        assert {(v.claim, v.verdict, v.detail) for v in again.report.verdicts if v.claim in auditing.OF_RECEIPTS} == {
            (v.claim, v.verdict, v.detail) for v in honest.report.verdicts if v.claim in auditing.OF_RECEIPTS
        }
        assert again.counts == honest.counts
        if point > 4:
            assert len(after.reads) < len(whole.reads), "a bundle that was done is not read again"
    with capsys.disabled():
        print(f"\n{len(points)} of {len(whole.reads)} points of interruption tried")


def test_killed_while_it_judges_it_goes_on(book: Book, tmp_path: Path) -> None:
    state = tmp_path / "state"
    given = ["audit", str(book.folder), "--trust", str(book.trust), "--resume", str(state), "--json"]
    program = [sys.executable, "-m", "jobs.client.cli", *given]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    child = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not state.exists() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    at = read_state(state.read_bytes(), ORIGIN).gone.bucket
    assert at > 0
    code, told = run(book, "--resume", str(state))
    assert code == 0 and told["work-signed"]["detail"].startswith(f"in {JOBS} groups")


# --- over HTTP ---------------------------------------------------------------------------------------


class Shelf(http.server.SimpleHTTPRequestHandler):
    """Serves the log; stumbles, or sends too much, where it is told to."""

    protocol_version = "HTTP/1.1"
    stumbles: dict[str, list[int]] = {}
    asked: list[tuple[str, int]] = []
    long: set[str] = set()

    def do_GET(self) -> None:
        type(self).asked.append((self.path, self.client_address[1]))
        if self.stumbles.get(self.path):
            self.send_error(self.stumbles[self.path].pop(0))
        elif self.path in self.long:
            self.send_response(200)
            self.send_header("Content-Length", str(10**9))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def shelf(book: Book) -> Iterator[str]:
    Shelf.stumbles, Shelf.asked, Shelf.long = {}, [], set()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), lambda *given: Shelf(*given, directory=str(book.folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/log/"
        server.shutdown()
        thread.join()


def test_a_log_behind_an_address_is_read_over_one_connection(book: Book, shelf: str) -> None:
    code, told = run(book, "--receipts", str(book.export), place=shelf)
    assert code == 0, told
    assert len({port for _, port in Shelf.asked}) == 1
    assert len(Shelf.asked) == 1 + 3 + 3 + 1


def test_a_partial_tile_that_went_is_cut_from_the_full_one(book: Book, shelf: str) -> None:
    book.publish()
    note = (book.folder / "log" / "checkpoint").read_text()
    more = tell_jobs(book.folder.parent, 20, first=100)
    for name in ("tile/0/002.p/88", "tile/entries/002.p/88"):
        (book.folder / "log" / name).unlink()
    Book(book.folder, [*book.bodies, *more]).publish()
    (book.folder / "log" / "checkpoint").write_text(note)
    code, told = run(book, place=shelf)
    assert code == 0, told
    assert told["root"]["detail"].startswith("600 leaves")


def test_a_house_that_stumbles_is_asked_again_and_one_that_floods_is_not_read(book: Book, shelf: str) -> None:
    trust = read_trust(book.trust.read_bytes())
    pauses: list[float] = []
    Shelf.stumbles = {"/log/tile/0/001": [503, 429]}
    done = auditing.audit(Address(shelf, sleep=pauses.append), trust)
    assert done.report.exit_code == 0 and len(pauses) == 2
    Shelf.stumbles = {"/log/tile/0/001": [403]}
    done = auditing.audit(Address(shelf, sleep=pauses.append), trust)
    assert done.report.of("tiles").verdict is Word.UNKNOWN and len(pauses) == 2
    Shelf.long = {"/log/tile/0/001"}
    done = auditing.audit(Address(shelf, sleep=pauses.append), trust)
    assert "longer than the 8192 bytes" in done.report.of("tiles").detail
    assert done.report.of("root").verdict is Word.HOLDS, "what follows is read over a new connection"


def test_a_house_that_is_gone_leaves_everything_unknown() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as free:
        port = free.server_address[1]
    with pytest.raises(Unknown, match="the connection failed"):
        Address(f"http://127.0.0.1:{port}/", sleep=lambda _: None).get("checkpoint", 10)


# --- what is no log, no export, no state ---------------------------------------------------------------


@pytest.mark.parametrize("place", ["nothing-here", "http://", "http://x:99999/", "https:///tlog", os.devnull])
def test_what_is_no_log_is_bad_usage_in_one_line(book: Book, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["audit", place, "--trust", str(book.trust)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1


LINES = [
    (b"", "cut off"),
    (b"{}\n", "leaf"),
    (b"\xff\xfe\n", "UTF-8"),
    (b'{"bytes":"","leaf":-1,"nid":""}\n', "leaf"),
    (b'{"bytes":"","leaf":0,"nid":"bafk"}\n', "nid"),
    (b"[" * 5000 + b"\n", "nested"),
    (b"x" * 200_000 + b"\n", "line 1"),
]


@pytest.mark.parametrize(("line", "says"), LINES)
def test_what_is_no_export_is_refused_by_line_and_field(
    book: Book, line: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = book.export.read_bytes()
    book.export.write_bytes(line or whole[:-1])
    code = cli.main(["audit", str(book.folder), "--trust", str(book.trust)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and says in err and "line " in err


def test_lines_out_of_order_are_refused(book: Book) -> None:
    lines = book.export.read_bytes().splitlines(keepends=True)
    lines[300], lines[301] = lines[301], lines[300]
    book.export.write_bytes(b"".join(lines))
    code, told = run(book)
    assert code == 2 and "lines ascend" in told["told"]["error"]


def test_changed_bytes_anywhere_never_crash_the_audit_and_never_hold(
    book: Book, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flip, cut and insert in exports, bundles, tiles, checkpoint: an end that is told, and none that hides it."""
    dice = random.Random(SEED)
    state = tmp_path / "state"
    assert run(book, "--resume", str(state))[0] == 0
    targets = [book.export, *(path for path in (book.folder / "log").rglob("*") if path.is_file())]
    rounds = 2_000 if FULL else 25
    ends = {1: 0, 2: 0, 3: 0, 4: 0}
    for _ in range(rounds):
        path = dice.choice(targets)
        before = path.read_bytes()
        data = bytearray(before)
        place = dice.randrange(len(data))
        act = dice.randrange(3)
        if act == 0:
            data[place] ^= 1 << dice.randrange(8)
        elif act == 1:
            del data[place : place + dice.choice([1, 10, 1000])]
        else:
            data[place:place] = bytes([dice.randrange(256)])
        path.write_bytes(data)
        code, _ = run(book)
        path.write_bytes(before)
        if code == 0:  # a second spelling of the same line changes nothing that is checked
            assert path == book.export and decode_lines(data) == decode_lines(before), (path, place, act)
        else:
            ends[code] += 1
    with capsys.disabled():
        print(f"\n{rounds} changed files tried: {ends[1]} broken, {ends[2]} refused, {ends[3] + ends[4]} unknown")


def decode_lines(data: bytes | bytearray) -> list[Any]:
    return [json.loads(line) for line in bytes(data).splitlines()]


@settings(max_examples=1000 if FULL else 30, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_any_other_state_is_refused_and_never_crashes(data: st.DataObject, book: Book, tmp_path: Path) -> None:
    path = tmp_path / "state"
    if not path.exists():
        check(book, Folder(book.folder / "log"), path)
    value = json.loads(path.read_text())
    place = data.draw(st.sampled_from(["format", "log", "walk", "receipts", "audited"]))
    junk = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3)
    inner = value[place]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(junk)
    else:
        value[place] = data.draw(junk)
    try:
        state = read_state(json.dumps(value).encode(), ORIGIN)
    except NotAState as error:
        assert str(error)
        return
    write_state(path.with_name("again"), state)
    assert read_state(path.with_name("again").read_bytes(), ORIGIN) == state


def test_redacted_receipts_keep_the_log_checkable(book: Book) -> None:
    with book.export.open("wb") as out:
        for leaf, body in enumerate(book.bodies):
            type_ = decode(body)["eventType"]
            public = type_ in ("UsageAttested", "TokensMinted")
            line = Line(leaf, nid(body), body) if public else Line(leaf, nid(body), None, type_, "redacted")
            out.write(write_line(line))
    code, told = run(book)
    assert code == 0, told
    assert told["told"]["counts"] == {"size": 600, "shown": 120, "redacted": 480, "erased": 0}
    assert told["attestation"]["detail"].startswith(f"in {JOBS} groups")
    assert told["work-signed"]["verdict"] == "not claimed"


def test_a_part_of_a_job_is_unknown_where_the_rest_is_missing(book: Book) -> None:
    lines = book.export.read_bytes().splitlines(keepends=True)
    book.export.write_bytes(b"".join(lines[:100] + lines[101:]))
    code, told = run(book)
    assert code == 3
    assert told["receipts"]["verdict"] == "holds"
    assert told["receipts-chain"]["verdict"] == "unknown" and "not all of a" in told["receipts-chain"]["detail"]


def erased(body: bytes) -> bytes:
    """The house's act that says that a receipt's bytes are gone."""
    return encode(
        {
            "v": 1,
            "eventType": "ReceiptErased",
            "seq": 1,
            "occurredAt": "2026-11-21T07:00:00.000Z",
            "actor": f"hub:{Keys().hub.key_id}",
            "idempotencyKey": f"erase:{nid(body)[-8:]}-ReceiptErased",
            "salt": "s" * 22,
            "subject": f"erase:{nid(body)[-8:]}",
            "data": {"erased": nid(body), "reason": "law"},
        }
    )


def test_an_erased_receipt_is_unknown_and_one_that_only_vanished_is_broken(book: Book) -> None:
    gone = book.bodies[0]
    rewrite_erased = write_line(Line(0, nid(gone), None, "JobSubmitted", "erased"))

    def export() -> None:
        lines = book.publish().export_all().export.read_bytes().splitlines(keepends=True)
        book.export.write_bytes(b"".join([rewrite_erased, *lines[1:]]))

    export()
    code, told = run(book)
    assert code == 1 and told["receipts"]["field"] == f"receipt {nid(gone)}"
    assert "no logged act" in told["receipts"]["detail"]
    book.bodies.append(erased(gone))
    export()
    code, told = run(book)
    assert code == 3, told
    assert told["receipts"]["verdict"] == "holds" and "1 erased" in told["receipts"]["detail"]
    assert told["receipts-chain"]["verdict"] == "unknown" and broken(told) == set()


def export_part(book: Book, leaves: list[int]) -> Path:
    """Write a part of the log as an operator exports it, with a proof for each receipt."""
    part = book.folder.parent / "part"
    part.mkdir()
    hashes = [leaf_hash(entry_of(body)) for body in book.bodies]
    read = lambda level, index: root_of(hashes[index << level : (index + 1) << level])  # noqa: E731
    note = (book.folder / "log" / "checkpoint").read_text()
    with (part / "receipts.jsonl").open("wb") as lines, (part / "proofs.jsonl").open("wb") as proofs:
        proofs.write(write_checkpoint_line(note))
        for leaf in leaves:
            body = book.bodies[leaf]
            lines.write(write_line(Line(leaf, nid(body), body)))
            proofs.write(write_proof_line(ProofLine(leaf, tuple(inclusion_proof(read, leaf, len(hashes))))))
    return part


def test_a_part_is_held_against_the_root_by_its_own_proofs(book: Book) -> None:
    job = decode(book.bodies[0])["jobId"].encode()
    hash_ = next(decode(body)["data"]["receipt_hash"] for body in book.bodies if b"UsageReceipt" in body)
    mine = [leaf for leaf, body in enumerate(book.bodies) if b'"jobId":"' + job in body or hash_.encode() in body]
    assert len(mine) == 10
    part = export_part(book, mine)
    code, told = run(book, place=str(part))
    assert code == 0, told
    assert told["receipts"]["detail"] == "10 receipts stand at their leaves of 600"
    assert told["root"]["verdict"] == "not claimed"
    assert all(told[claim]["verdict"] == "holds" for claim in ("receipts-chain", "work-signed", "attestation", "meter"))

    whole = (part / "receipts.jsonl").read_bytes()
    (part / "receipts.jsonl").write_bytes(whole.replace(b"a", b"b", 1))
    assert run(book, place=str(part))[0] in (1, 2)
    other = write_line(Line(mine[0], nid(book.bodies[1]), book.bodies[1]))
    (part / "receipts.jsonl").write_bytes(b"".join([other, *whole.splitlines(keepends=True)[1:]]))
    code, told = run(book, place=str(part))
    assert code == 1 and told["receipts"]["field"].startswith(f"leaf {mine[0]} (")
    (part / "receipts.jsonl").write_bytes(whole)
    proofs = (part / "proofs.jsonl").read_bytes().splitlines(keepends=True)
    for wrong in (proofs[:-1], [*proofs, proofs[-1]], [], [b"{}\n"], [proofs[0], *proofs[2:], proofs[1]]):
        (part / "proofs.jsonl").write_bytes(b"".join(wrong))
        code, told = run(book, place=str(part))
        assert code == 2 and told["told"]["error"], wrong


def test_a_key_act_that_the_root_did_not_sign_is_broken(book: Book, house: House) -> None:
    def act(signer: Any, seq: int) -> bytes:
        claim = encode({"v": 1, "type": "KeyAct", "act": "added", "role": "hub", "key_id": "k" * 43,
                        "from_leaf": 0, "at": "2026-11-21T07:00:00.000Z"}).decode()  # fmt: skip
        body = {
            "v": 1, "eventType": "KeyRotated", "seq": 1, "occurredAt": "2026-11-21T07:00:00.000Z",
            "actor": f"root:{signer.key_id}", "idempotencyKey": f"key:{seq}-KeyRotated", "salt": "s" * 22,
            "subject": f"key:{seq}",
            "data": {"role": "hub", "act": "added", "key_id": "k" * 43, "from_leaf": 0, "claim": claim,
                     "signatures": [dict(sign_text(signer, claim))]},
        }  # fmt: skip
        return encode(body)

    book.bodies.append(act(house.keys.root, 1))
    assert run(book.publish().export_all())[1]["house-signed"]["verdict"] == "holds"
    book.bodies.append(act(Keys("mallory").root, 2))
    code, told = run(book.publish().export_all())
    assert code == 1 and broken(told) == {"house-signed"}
    assert told["house-signed"]["field"].startswith(f"leaf 601 ({nid(book.bodies[601])})")
