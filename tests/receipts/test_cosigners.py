"""Witnesses are asked after the checkpoint is committed, believed only by their signature, and never waited for."""

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from receipts import anchor as anchoring
from receipts import cosigners, log
from receipts.api.state import witness_state
from receipts.checkpoint import (
    COSIGNATURE_V1,
    NoteSignature,
    check_cosignature,
    cosign,
    make_vkey,
    parse_checkpoint,
    parse_note,
    parse_signatures,
)
from receipts.cosigners import WitnessesWrong, is_final, newest_final, turn, witnesses
from receipts.keys import Ed25519Signer, make_key_file
from receipts.log import found_log
from receipts.merkle import EMPTY_ROOT, ProofBroken, check_consistency
from receipts.models import Checkpoint, Cosignature, Tenant, WitnessAlarm, WitnessStatus
from receipts.models.witnesses import published_note
from receipts.wellknown import unsigned_document
from receipts.witness_request import SIZE_TYPE, read_request
from tests.receipts.test_log import published, receipts

Answer = tuple[int, str, bytes]
TEXT = "text/plain"


class Bo:
    """A witness of another make, as small as the protocol lets it be; `say` answers in its place."""

    def __init__(self, name: str = "witness.example/bo", seed: int = 1) -> None:
        self.key = Ed25519Signer(bytes([seed]) * 32)
        self.vkey = make_vkey(name, self.key.public, COSIGNATURE_V1)
        self.size, self.root = 0, EMPTY_ROOT
        self.asked: list[int] = []  # the old sizes
        self.say: Callable[[bytes], Answer | None] = lambda body: None
        self.clock: Callable[[], int] = lambda: int(time.time())
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def entry(self) -> str:
        return f"{self.vkey}@http://127.0.0.1:{self.server.server_port}/tlog/witness"

    def add_checkpoint(self, body: bytes) -> Answer:
        """Do what c2sp.org/tlog-witness says."""
        request = read_request(body)
        self.asked.append(request.old)
        new = request.checkpoint
        if request.old != self.size or (new.size == self.size and new.root != self.root):
            return 409, SIZE_TYPE, f"{self.size}\n".encode()
        try:
            check_consistency(self.size, self.root, new.size, new.root, request.proof)
        except ProofBroken as error:
            return 422, TEXT, str(error).encode()
        self.size, self.root = new.size, new.root
        return 200, TEXT, self.line(request.note.text).encode()

    def line(self, text: str, key: Ed25519Signer | None = None) -> str:
        return str(cosign(text, self.vkey.name, key or self.key, self.key.public, time_s=self.clock()))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bo = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/tlog/witness/add-checkpoint"
                status, media_type, answer = bo.say(body) or bo.add_checkpoint(body)
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(answer)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # who asked has heard enough
                    self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        return Handler


@pytest.fixture(autouse=True)
def house(tmp_path: Path, settings: Any, db: None) -> None:
    """Ada's house, with a log."""
    settings.TLOG_DIR, settings.KEYS_DIR = tmp_path / "tlog", tmp_path / "keys"
    settings.CHECKPOINT_SECONDS = settings.WITNESS_SECONDS = 0
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    found_log("log.example/ada")


@pytest.fixture
def bo(settings: Any) -> Iterator[Bo]:
    """The witness that Ada's house asks."""
    given = Bo()
    settings.WITNESSES = [given.entry]
    yield given
    given.server.shutdown()
    given.server.server_close()


@pytest.fixture
def cy(settings: Any, bo: Bo) -> Iterator[Bo]:
    """A second witness."""
    given = Bo("witness.example/cy", seed=2)
    settings.WITNESSES = [bo.entry, given.entry]
    yield given
    given.server.shutdown()
    given.server.server_close()


def grow(count: int = 3) -> Checkpoint:
    """Put receipts into the log and publish; give the checkpoint."""
    receipts(count)
    log.turn()
    return Checkpoint.objects.order_by("-size")[0]


def retimed(line: str) -> str:
    """Let a cosignature tell a second later than it was signed for."""
    (found,) = parse_signatures(line)
    later = int.from_bytes(found.signature[:8]) + 1
    return str(NoteSignature(found.name, found.key_hash, later.to_bytes(8) + found.signature[8:]))


def due() -> None:
    """Let every witness be due again."""
    WitnessStatus.objects.update(ask_after=timezone.now() - dt.timedelta(seconds=1), claimed_until=None)


# --- the ordinary way -------------------------------------------------------------------------------------


def test_a_cosignature_is_stored_and_published_under_the_logs_own(bo: Bo, settings: Any) -> None:
    checkpoint = grow()
    assert [told.words for told in turn()] == ["cosigned"]
    row = Cosignature.objects.get()
    assert (row.checkpoint_id, row.vkey) == (checkpoint.size, str(bo.vkey))
    log.turn()
    text = (settings.TLOG_DIR / "checkpoint").read_text()
    assert text == checkpoint.note + row.line == published_note(checkpoint)
    assert published(settings).size == checkpoint.size, "the log's signature still opens it"
    assert check_cosignature(parse_note(text), bo.vkey) == int(row.signed_at.timestamp())
    assert bytes(Checkpoint.objects.get().root) == bo.root


def test_each_checkpoint_goes_on_from_what_the_witness_cosigned_last(bo: Bo) -> None:
    for _ in range(3):
        grow()
        turn()
        due()
    assert bo.asked == [0, 3, 6]
    assert turn() == [], "what is cosigned is not asked for again"


def test_a_witness_that_knows_another_size_is_asked_from_there(bo: Bo) -> None:
    first = grow()
    bo.size, bo.root = first.size, bytes(first.root)  # it cosigned, and was not heard
    grow()
    assert turn()[0].line
    assert bo.asked == [0, 3]
    assert not WitnessAlarm.objects.exists()


def test_nobody_is_asked_where_nobody_is_named(bo: Bo, settings: Any) -> None:
    settings.WITNESSES = []
    grow()
    assert turn() == [] and bo.asked == []


def test_the_document_names_the_witnesses_and_the_quorum(bo: Bo, settings: Any) -> None:
    from config.founding import make_keys, register_keys

    make_keys(lambda _line: None)
    register_keys()
    settings.CHAIN_RPC_URL = ""
    told = unsigned_document()
    assert told["witnesses"] == [str(bo.vkey)]
    assert "witness_quorum" not in told["policy"] and "witnesses" not in told["policy"]["require"]
    settings.WITNESS_QUORUM = 1
    policy = unsigned_document()["policy"]
    assert policy["witness_quorum"] == 1 and policy["require"][-1] == "witnesses"


# --- a quorum ---------------------------------------------------------------------------------------------


def test_without_its_quorum_a_checkpoint_is_not_final_nor_anchored(
    bo: Bo, cy: Bo, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WITNESS_QUORUM = 2
    first = grow()
    cy.say = lambda body: (503, TEXT, b"tomorrow")
    turn()
    assert not is_final(first) and newest_final() is None
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9"
    monkeypatch.setattr(anchoring, "committer", lambda: object())  # asked for nothing, or it would fail
    assert anchoring.anchor() is None
    state = witness_state()
    assert state is not None and state.final == 0 and state.lag_s >= 0

    cy.say = lambda body: None
    due()
    turn()
    assert is_final(first) and newest_final() == first
    second = grow()
    assert not is_final(second)
    assert newest_final() == first and newest_final(at_least=first.size + 1) is None
    settings.WITNESS_QUORUM = 0
    assert is_final(second) and newest_final() == second and witness_state() is None


def test_a_witness_that_is_named_no_more_counts_no_more(bo: Bo, cy: Bo, settings: Any) -> None:
    settings.WITNESS_QUORUM = 1
    checkpoint = grow()
    cy.say = lambda body: (503, TEXT, b"")
    turn()
    assert is_final(checkpoint)
    settings.WITNESSES = [cy.entry]
    assert not is_final(checkpoint)


def test_witnesses_are_due_at_one_beat_so_that_they_see_the_same_checkpoint(bo: Bo, cy: Bo, settings: Any) -> None:
    settings.WITNESS_SECONDS = 3600
    grow()
    turn()
    assert len(set(WitnessStatus.objects.values_list("ask_after", flat=True))) == 1


# --- what witnesses may say -------------------------------------------------------------------------------


def test_another_root_for_one_size_is_an_alarm_that_is_kept(bo: Bo) -> None:
    checkpoint = grow()
    bo.size, bo.root = checkpoint.size, bytes(32)
    turn()
    alarm = WitnessAlarm.objects.get()
    assert (alarm.kind, alarm.status, alarm.checkpoint_id) == ("refused", 409, checkpoint.size)
    due()
    turn()
    assert WitnessAlarm.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM receipts_witnessalarm")


def test_a_refused_proof_is_an_alarm(bo: Bo) -> None:
    grow()
    bo.size, bo.root = 2, bytes(32)
    turn()
    assert [(row.kind, row.status) for row in WitnessAlarm.objects.all()] == [("refused", 422)]
    assert not Cosignature.objects.exists()


def test_a_witness_that_is_ahead_is_an_alarm(bo: Bo) -> None:
    grow()
    bo.size = 1_000
    turn()
    assert WitnessAlarm.objects.get().kind == "ahead"


def test_a_witness_that_went_back_is_an_alarm_and_is_asked_from_where_it_is(bo: Bo) -> None:
    first = grow()
    turn()
    grow()
    bo.size, bo.root = 0, EMPTY_ROOT
    due()
    assert turn()[0].line
    assert WitnessAlarm.objects.get().answer == f"it says 0, and cosigned {first.size}"


@pytest.mark.parametrize("spoilt", ["key", "text", "time", "bytes", "nothing", "stranger"])
def test_what_is_no_cosignature_of_its_key_is_an_alarm_and_not_published(bo: Bo, spoilt: str) -> None:
    grow()
    mallory = Ed25519Signer(bytes([9]) * 32)

    def say(body: bytes) -> Answer:
        text = read_request(body).note.text
        lines = {
            "key": bo.line(text, key=mallory),
            "text": bo.line(text.replace("3", "4", 1)),
            "time": retimed(bo.line(text)),
            "bytes": "\u2014 x\n",
            "nothing": "",
            "stranger": str(cosign(text, "mallory", mallory, mallory.public, time_s=bo.clock())),
        }
        return 200, TEXT, lines[spoilt].encode()

    bo.say = say
    turn()
    assert WitnessAlarm.objects.get().kind == "bad-cosignature"
    assert not Cosignature.objects.exists()


def test_lines_of_strangers_beside_its_own_are_passed_over(bo: Bo) -> None:
    grow()
    mallory = Ed25519Signer(bytes([9]) * 32)

    def say(body: bytes) -> Answer:
        text = read_request(body).note.text
        stranger = str(cosign(text, "mallory", mallory, mallory.public, time_s=1))
        return 200, TEXT, (stranger + bo.line(text)).encode()

    bo.say = say
    turn()
    assert Cosignature.objects.get().line.startswith("\u2014 witness.example/bo ")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, TEXT, b"\xe2\x80\x94 x " + b"A" * 20_000), "longer than"),
        ((200, TEXT, b"A" * 5_000_000), "longer than"),
        ((307, TEXT, b""), "answers 307"),
        ((404, TEXT, b"never heard of it"), "answers 404: never heard of it"),
        ((409, TEXT, b"7\n"), "answers 409"),
        ((409, SIZE_TYPE, b"seven\n"), "a size and a newline"),
        ((409, SIZE_TYPE, b"9" * 30 + b"\n"), "a size and a newline"),
        ((500, TEXT, b"\xff\x00"), "answers 500"),
    ],
)
def test_a_hostile_answer_is_told_and_the_witness_asked_later(bo: Bo, answer: Answer, words: str) -> None:
    grow()
    bo.say = lambda body: answer
    assert words in turn()[0].words
    status = WitnessStatus.objects.get()
    assert status.failures == 1 and status.ask_after > status.told_at and status.claimed_until is None
    assert turn() == [], "it is not due yet"
    assert not Cosignature.objects.exists()


def test_a_witness_that_names_ever_another_size_is_left(bo: Bo) -> None:
    grow(5)
    sizes = iter((1, 2, 3, 4, 5))
    bo.say = lambda body: (409, SIZE_TYPE, f"{next(sizes)}\n".encode())
    assert turn()[0].words == "it names another size each time"


def test_a_clock_that_is_wrong_vouches_for_no_time(bo: Bo) -> None:
    grow()
    bo.clock = lambda: int(time.time()) - 3_600
    assert "its clock says" in turn()[0].words
    assert not Cosignature.objects.exists() and not WitnessAlarm.objects.exists()


def test_failures_make_the_pauses_longer_up_to_a_bound() -> None:
    now = timezone.now()
    for failures, longest in ((1, 2), (4, 16), (40, 600)):
        for _ in range(50):
            pause = (cosigners._again(now, failures) - now).total_seconds()
            assert longest / 2 <= pause <= longest


# --- slow, dead, twice ------------------------------------------------------------------------------------


def test_nobody_there_is_told(bo: Bo, settings: Any) -> None:
    grow()
    settings.WITNESSES = [f"{bo.vkey}@http://127.0.0.1:9"]
    assert turn()[0].words == "no answer: ConnectionError"


def test_a_slow_witness_delays_neither_the_log_nor_a_quick_one(bo: Bo, cy: Bo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosigners, "_READ_SECONDS", 0.5)
    grow()
    hang = threading.Event()

    def slow(body: bytes) -> Answer:
        hang.wait(20)
        return 503, TEXT, b""

    bo.say = slow
    try:
        told = {item.witness.vkey.name: item.words for item in turn()}
    finally:
        hang.set()
    assert told == {"witness.example/bo": "no answer in time", "witness.example/cy": "cosigned"}


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_witness_thinks_and_the_log_goes_on(bo: Bo) -> None:
    grow()

    def thinks(body: bytes) -> None:
        with connection.cursor() as cursor:  # this thread's own connection
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state LIKE 'idle in transaction%%'"
            )
            assert cursor.fetchone() == (0,)
        try:
            receipts(1)
            assert log.turn().published == 4
        finally:
            connection.close()

    bo.say = thinks
    assert turn()[0].line
    assert list(Cosignature.objects.values_list("checkpoint_id", flat=True)) == [3]


def test_while_one_turn_asks_another_does_not(bo: Bo) -> None:
    grow()
    WitnessStatus.objects.create(
        vkey=str(bo.vkey),
        ask_after=timezone.now(),
        told_at=timezone.now(),
        claimed_until=timezone.now() + dt.timedelta(seconds=30),
    )
    assert turn() == []
    # Who claimed it died: the claim ends by itself.
    WitnessStatus.objects.update(claimed_until=timezone.now() - dt.timedelta(seconds=1))
    assert turn()[0].line


def test_a_log_whose_tiles_are_gone_asks_for_nothing_it_can_not_prove(bo: Bo, settings: Any) -> None:
    grow()
    turn()
    grow()
    for tile in (settings.TLOG_DIR / "tile" / "0").rglob("*"):
        if tile.is_file():
            tile.unlink()
    due()
    assert "missing on disk" in turn()[0].words


# --- settings ---------------------------------------------------------------------------------------------


def test_witnesses_are_read_strictly(bo: Bo, settings: Any) -> None:
    (found,) = witnesses()
    assert (found.vkey, found.url) == (bo.vkey, bo.entry.partition("@")[2])
    plain = str(make_vkey("witness.example/bo", bo.key.public))
    for entry in ("", "bo", str(bo.vkey), f"{bo.vkey}@ftp://x", f"{plain}@http://x", f"{str(bo.vkey)[:-3]}@http://x"):
        settings.WITNESSES = [entry]
        with pytest.raises(WitnessesWrong):
            witnesses()
    settings.WITNESSES = [bo.entry, bo.entry]
    with pytest.raises(WitnessesWrong, match="twice"):
        witnesses()


def test_a_quorum_that_can_not_be_is_a_contradiction(bo: Bo, settings: Any) -> None:
    from config.checks import settings_fit_together

    for quorum in (2, -1):
        settings.WITNESS_QUORUM = quorum
        assert "tallystick.E021" in {found.id for found in settings_fit_together()}
    settings.WITNESS_QUORUM = 1
    assert not {found.id for found in settings_fit_together()} & {"tallystick.E020", "tallystick.E021"}
    settings.WITNESSES = ["bo"]
    assert "tallystick.E020" in {found.id for found in settings_fit_together()}


def test_the_text_that_is_cosigned_is_the_logs_own(bo: Bo) -> None:
    checkpoint = grow()
    turn()
    assert parse_checkpoint(parse_note(published_note(checkpoint)).text).root == bo.root


def test_a_checkpoint_recovered_from_its_published_copy_is_not_cosigned_twice(bo: Bo, settings: Any) -> None:
    checkpoint = grow()
    turn()
    copy = published_note(checkpoint)
    # Restored: the row is made anew from the file, what witnesses said is lost, and they are asked once more.
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        Cosignature.objects.all().delete()
        Checkpoint.objects.filter(size=checkpoint.size).update(note=copy)
        cursor.execute("SET session_replication_role = origin")
    due()
    assert turn()[0].line
    again = published_note(Checkpoint.objects.get())
    assert again == copy
    check_cosignature(parse_note(again), bo.vkey)
