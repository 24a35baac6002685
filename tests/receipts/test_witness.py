"""A witness cosigns one history of a log: it answers as the protocol says, and never signs two."""

import base64
import itertools
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, example, given
from hypothesis import settings as how
from hypothesis import strategies as st

from receipts import witness
from receipts.checkpoint import (
    Checkpoint,
    NoteBroken,
    check_cosignature,
    make_vkey,
    parse_checkpoint,
    parse_note,
    sign_note,
)
from receipts.keys import Ed25519Signer, make_key_file
from receipts.log import found_log
from receipts.merkle import consistency_proof, leaf_hash
from receipts.models import Misbehaviour, WitnessedCheckpoint, WitnessedLog
from receipts.witness_request import (
    MAX_BYTES,
    MAX_PROOF,
    RequestMalformed,
    read_request,
    read_size,
    write_request,
)
from tests.receipts.test_merkle import plain_root, reading
from tests.receipts.test_record import at_once
from tests.vectors import vectors

VECTORS = vectors("cosignatures")
URL = "/tlog/witness/add-checkpoint"
ADA = Ed25519Signer(bytes(range(32)))
ORIGIN = "log.example/ada"
VKEY = make_vkey(ORIGIN, ADA.public)
FULL = os.environ.get("TALLYSTICK_TEST_FULL") == "1"
THREADS = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def bo(tmp_path: Path, settings: Any, db: None) -> None:
    """Bo's house, which is a witness."""
    settings.KEYS_DIR = tmp_path / "keys"
    for role in ("log", "witness"):
        make_key_file(settings.KEYS_DIR / f"{role}.key", "ed25519")
    found_log("log.example/bo")


@pytest.fixture
def ada() -> "Log":
    """Ada's log, which Bo watches."""
    witness.watch_log(vkey=str(VKEY))
    return Log()


class Log:
    """A log that can tell any history: leaf `n` of a history is named by both."""

    def __init__(self, origin: str = ORIGIN) -> None:
        self.origin = origin

    def leaves(self, size: int, history: str = "", fork_at: int = 0) -> list[bytes]:
        """The first leaves of a history that leaves the true one at `fork_at`."""
        return [leaf_hash(f"{history if n >= fork_at else ''}{n}".encode()) for n in range(size)]

    def note(self, size: int, history: str = "", fork_at: int = 0) -> str:
        """Sign a checkpoint."""
        stated = Checkpoint(self.origin, size, plain_root(self.leaves(size, history, fork_at)))
        return sign_note(stated.text(), self.origin, ADA, ADA.public)

    def request(self, old: int, size: int, history: str = "", fork_at: int = 0) -> bytes:
        """Ask with the proof that this history has."""
        proof = consistency_proof(reading(self.leaves(size, history, fork_at)), old, size)
        return write_request(old, proof, self.note(size, history, fork_at))


def ask(body: bytes) -> Any:
    return Client().post(URL, body, content_type="application/octet-stream")


def require_cosigned(answer: Any, note: str) -> None:
    """Check the witness's answer as the log does: its line, put under the note, is the witness's."""
    assert answer.status_code == 200, answer.content
    check_cosignature(parse_note(note + answer.content.decode()), witness.witness_vkey())


# --- the protocol -----------------------------------------------------------------------------------------


def test_a_published_dialogue_of_a_log_and_a_witness_goes_as_published() -> None:
    dialogue = VECTORS["dialogue"]
    vkey = make_vkey(dialogue["origin"], bytes.fromhex(dialogue["key_hex"]))
    witness.watch_log(vkey=str(vkey))
    for turn in dialogue["turns"]:
        answer = ask(turn["body"].encode())
        assert answer.status_code == turn["status"], answer.content
        if turn["status"] == 200:
            require_cosigned(answer, turn["body"].partition("\n\n")[2])
        if turn["status"] == 409:
            assert answer["Content-Type"] == "text/x.tlog.size"
            assert read_size(answer.content) == turn["size"]
    assert WitnessedLog.objects.get().size == 5


def test_a_published_request_is_read_and_written_to_the_byte() -> None:
    vector = VECTORS["request"]
    told = read_request(vector["body"].encode())
    assert (told.old, len(told.proof), told.checkpoint.size) == (vector["old"], vector["proof"], 20852163)
    assert write_request(told.old, told.proof, told.text) == vector["body"].encode()


def test_a_log_grows_under_cosignatures(ada: Log) -> None:
    for old, size in ((0, 1), (1, 3), (3, 3), (3, 64), (64, 65), (65, 200)):
        require_cosigned(ask(ada.request(old, size)), ada.note(size))
    assert WitnessedLog.objects.get().size == 200
    assert list(WitnessedCheckpoint.objects.values_list("size", flat=True)) == [200, 65, 64, 3, 1]


def test_an_empty_log_may_be_cosigned_and_grows_from_there(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 0)), ada.note(0))
    require_cosigned(ask(ada.request(0, 0)), ada.note(0))
    require_cosigned(ask(ada.request(0, 4)), ada.note(4))
    false = sign_note(Checkpoint(ORIGIN, 0, bytes(32)).text(), ORIGIN, ADA, ADA.public)
    assert ask(write_request(0, [], false)).status_code == 409, "the empty log's one root was cosigned"


def test_a_fork_of_one_size_is_refused_and_the_evidence_kept(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    for _ in range(2):
        answer = ask(ada.request(7, 7, "fork"))
        assert (answer.status_code, answer.content) == (409, b"7\n")
    kept = Misbehaviour.objects.get()
    assert kept.kind == Misbehaviour.Kind.FORK
    told = [parse_checkpoint(parse_note(note).text) for note in (kept.note, kept.cosigned_note)]
    assert told[0].size == told[1].size == 7
    assert told[0].root != told[1].root


def test_a_fork_at_an_earlier_size_is_seen_whatever_the_request_knows(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    require_cosigned(ask(ada.request(7, 9)), ada.note(9))
    assert ask(ada.request(0, 7, "fork")).content == b"9\n"
    assert Misbehaviour.objects.get().size == 7


def test_a_larger_fork_is_refused_and_the_evidence_kept(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    assert ask(ada.request(7, 20, "fork", fork_at=5)).status_code == 422
    kept = Misbehaviour.objects.get()
    assert (kept.kind, kept.old_size, kept.size) == (Misbehaviour.Kind.BAD_PROOF, 7, 20)
    assert [bytes(item) for item in kept.proof] == consistency_proof(reading(ada.leaves(20, "fork", 5)), 7, 20)
    assert WitnessedLog.objects.get().size == 7


def test_a_log_that_signs_without_end_fills_no_disk(ada: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "MISBEHAVIOURS_KEPT", 3)
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    for n in range(6):
        assert ask(ada.request(7, 7, f"fork {n}")).status_code == 409
    assert Misbehaviour.objects.count() == 3


def test_strangers_leave_nothing_behind(ada: Log) -> None:
    mallory = Ed25519Signer(bytes(range(1, 33)))
    text = Checkpoint(ORIGIN, 3, bytes(32)).text()
    assert ask(write_request(0, [], sign_note(text, ORIGIN, mallory, mallory.public))).status_code == 403
    forged = parse_note(sign_note(text, ORIGIN, mallory, mallory.public))
    line = str(forged.signatures[0]).replace(str(forged.signatures[0]).split()[2], base64.b64encode(
        VKEY.key_hash + forged.signatures[0].signature).decode())  # fmt: skip
    assert ask(write_request(0, [], f"{text}\n{line}")).status_code == 403
    other = sign_note(Checkpoint("log.example/cy", 3, bytes(32)).text(), "log.example/cy", mallory, mallory.public)
    answer = ask(write_request(0, [], other))
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert not Misbehaviour.objects.exists() and WitnessedLog.objects.get().size == 0


def test_a_log_may_sign_with_a_second_key(ada: Log) -> None:
    second = Ed25519Signer(bytes(range(2, 34)))
    assert witness.watch_log(vkey=str(make_vkey(ORIGIN, second.public))).pk == WitnessedLog.objects.get().pk
    require_cosigned(ask(ada.request(0, 3)), ada.note(3))
    text = Checkpoint(ORIGIN, 5, plain_root(ada.leaves(5))).text()
    note = sign_note(text, ORIGIN, second, second.public)
    require_cosigned(ask(write_request(3, consistency_proof(reading(ada.leaves(5)), 3, 5), note)), note)


def test_a_log_that_is_watched_again_goes_on_from_where_it_was(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    assert witness.stop_watching(ORIGIN) and not witness.stop_watching(ORIGIN)
    assert ask(ada.request(7, 8)).status_code == 404
    witness.watch_log(vkey=str(VKEY))
    assert ask(ada.request(0, 7, "fork")).status_code == 409
    require_cosigned(ask(ada.request(7, 8)), ada.note(8))


# --- one history ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(0, 12),  # the old size that is said
        st.integers(0, 12),  # the size
        st.sampled_from(["", "", "a", "b"]),  # which history
        st.integers(0, 12),  # where it leaves the true one
        st.booleans(),  # whether the log asks again with the size that it was told
    ),
    max_size=12,
)


@given(steps=STEPS)
@example(steps=[(0, 3, "", 0, True), (3, 3, "a", 0, True), (3, 5, "a", 3, True), (5, 5, "", 0, True)])
@how(max_examples=500 if FULL else 25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_log_asks_one_history_alone_is_cosigned(steps: list[tuple[int, int, str, int, bool]]) -> None:
    """Sizes, roots, replays and forks in any order: all that was ever cosigned is one growing tree."""
    log = Log(f"log.example/{WitnessedLog.objects.count()}")
    mine = WitnessedLog.objects.filter(pk=witness.watch_log(vkey=str(make_vkey(log.origin, ADA.public))).pk)
    cosigned: dict[int, tuple[bytes, ...]] = {}
    for old, size, history, fork_at, again in steps:
        for at in (old, mine.get().size) if again else (old,):
            if at > size:
                continue
            answer = ask(log.request(at, size, history, fork_at))
            assert answer.status_code in (200, 409, 422)
            if answer.status_code == 200:
                require_cosigned(answer, log.note(size, history, fork_at))
                leaves = tuple(log.leaves(size, history, fork_at))
                assert cosigned.setdefault(size, leaves) == leaves, "two roots of one size"
    for before, after in itertools.pairwise(cosigned[size] for size in sorted(cosigned)):
        assert after[: len(before)] == before, "two histories"
    assert mine.get().size == max(cosigned, default=0)


@THREADS
def test_of_two_forks_at_once_one_is_cosigned(ada: Log) -> None:
    bodies = {name: ada.request(0, 5, name) for name in ("a", "b")}
    told: dict[str, int] = {}

    def send(name: str) -> Any:
        def go() -> None:
            try:
                told[name] = ask(bodies[name]).status_code
            finally:
                connection.close()

        return go

    at_once(send("a"), send("b"))
    assert sorted(told.values()) == [200, 409]
    assert WitnessedCheckpoint.objects.count() == 1


@THREADS
def test_what_was_cosigned_is_committed_before_the_cosignature_is_made(
    ada: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the house between the commit and the answer: asked again, it goes on, and to no other history."""

    class Killed(BaseException):
        """The process is gone."""

    def killed(*_: Any, **__: Any) -> None:
        assert not connection.in_atomic_block, "the state must be committed before a key is touched"
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(witness, "cosign", killed)
        with pytest.raises(Killed):
            witness.add_checkpoint(ada.request(0, 5))
    connection.close()
    assert ask(ada.request(0, 5, "fork")).status_code == 409
    answer = ask(ada.request(0, 5))
    assert (answer.status_code, answer.content) == (409, b"5\n")
    require_cosigned(ask(ada.request(5, 5)), ada.note(5))


def test_the_database_itself_never_goes_back(ada: Log) -> None:
    require_cosigned(ask(ada.request(0, 7)), ada.note(7))
    assert ask(ada.request(7, 7, "fork")).status_code == 409
    for statement in (
        "UPDATE receipts_witnessedlog SET size = 6",
        "UPDATE receipts_witnessedlog SET root = '\\x00'",
        "DELETE FROM receipts_witnessedlog",
        "UPDATE receipts_witnessedcheckpoint SET note = ''",
        "DELETE FROM receipts_misbehaviour",
        "INSERT INTO receipts_witnessedcheckpoint (log_id, size, root, note, cosigned_at)"
        " SELECT log_id, size, '\\x00', '', now() FROM receipts_witnessedcheckpoint",
    ):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


# --- what comes in ----------------------------------------------------------------------------------------

GOOD = Log().request(3, 7)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"old 0\n\n",
        GOOD.replace(b"old 3", b"old 03"),
        GOOD.replace(b"old 3", b"old -3"),
        GOOD.replace(b"old 3", b"old  3"),
        GOOD.replace(b"old 3", b"new 3"),
        GOOD.replace(b"old 3", b"old 8"),
        GOOD.replace(b"old 3", "old ३".encode()),
        GOOD.replace(b"\n\n", b"\n", 1),
        GOOD.replace(b"=\n", b"\n", 1),
        GOOD.replace(b"=\n", b"= \n", 1),
        GOOD.replace(b"=\n", b"=\r\n", 1),
        GOOD[:-1],
        GOOD + b"\xff",
        write_request(3, [b"\0" * 31], Log().note(7)),
        write_request(3, [b"\0" * 32] * (MAX_PROOF + 1), Log().note(7)),
        GOOD + b"\xe2\x80\x94 x AAAAAAAA\n" * 6_000,
    ],
)
def test_what_is_no_request_is_malformed(ada: Log, body: bytes) -> None:
    with pytest.raises(RequestMalformed):
        read_request(body)
    answer = ask(body)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_a_body_without_end_is_not_read() -> None:
    assert ask(b"old 0\n" + b"A" * MAX_BYTES).status_code == 400
    assert Client().get(URL).status_code == 405


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
@how(max_examples=20_000 if FULL else 200)
def test_reading_any_bytes_gives_a_request_or_says_why_not(body: bytes) -> None:
    try:
        told = read_request(body)
    except RequestMalformed as error:
        assert str(error).isprintable()
        return
    assert write_request(told.old, told.proof, told.text) == body


@given(at=st.integers(0, len(GOOD) - 1), to=st.integers(0, 255))
@how(max_examples=20_000 if FULL else 200)
def test_one_changed_byte_is_malformed_or_read_as_it_stands(at: int, to: int) -> None:
    body = GOOD[:at] + bytes([to]) + GOOD[at + 1 :]
    try:
        told = read_request(body)
    except RequestMalformed:
        return
    assert write_request(told.old, told.proof, told.text) == body


@pytest.mark.parametrize("body", [b"", b"7", b"07\n", b"7\n\n", b"-1\n", b"seven\n", b"9" * 20 + b"\n"])
def test_a_size_is_digits_and_a_newline(body: bytes) -> None:
    with pytest.raises(RequestMalformed):
        read_size(body)
    assert read_size(b"12\n") == 12


# --- the command ------------------------------------------------------------------------------------------


def run(*words: str) -> str:
    out = StringIO()
    call_command("witness", *words, stdout=out)
    return out.getvalue()


def test_the_command_shows_the_key_and_names_the_logs() -> None:
    assert run("vkey").strip() == str(witness.witness_vkey())
    assert run("vkey").startswith("log.example/bo/witness+")
    assert "watched from 0 leaves" in run("add-log", "--vkey", str(VKEY), "--url", "https://ada.example")
    require_cosigned(ask(Log().request(0, 7)), Log().note(7))
    assert run("list") == "log.example/ada: watched, cosigned at 7 leaves, 0 misbehaviours\n1 logs\n"
    assert '"size": 7' in run("list", "--json")
    run("remove", ORIGIN)
    assert "not watched any more" in run("list")
    with pytest.raises(CommandError, match="is not watched"):
        run("remove", ORIGIN)


@pytest.mark.parametrize("vkey", ["", "log.example/ada", str(VKEY)[:-4], str(VKEY).replace("+", "+0", 1)])
def test_a_key_that_is_none_is_refused(vkey: str) -> None:
    with pytest.raises(CommandError):
        run("add-log", "--vkey", vkey)
    assert not WitnessedLog.objects.exists()


def test_a_witness_without_its_key_promises_nothing(settings: Any) -> None:
    (settings.KEYS_DIR / "witness.key").unlink()
    for words in (("vkey",), ("add-log", "--vkey", str(VKEY))):
        with pytest.raises(CommandError, match=r"witness\.key"):
            run(*words)
    assert not WitnessedLog.objects.exists()


def test_a_witnesss_key_is_no_logs() -> None:
    with pytest.raises(NoteBroken, match="a witness's"):
        witness.watch_log(vkey=str(witness.witness_vkey()))
