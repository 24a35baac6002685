"""A promise is kept by the client, looked up in the public log, and a broken one is proven by one file."""

import base64
import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.claims import PROMISE, claim_text
from jobs.client import cli
from jobs.client.auditing.source import Folder
from jobs.client.promises import (
    NotAPromise,
    Promised,
    State,
    check_evidence,
    judge,
    keep_promise,
    look,
    read_promise,
)
from jobs.client.trust import Trust, add_own
from jobs.client.verdicts import Unknown
from receipts.canonical import encode, nid
from receipts.checkpoint import COSIGNATURE_V1, Checkpoint, cosign, make_vkey, sign_note
from receipts.keys import Ed25519Signer, sign_text
from receipts.merkle import leaf_hash, root_of
from receipts.tiles import WIDTH, Tile
from tests.jobs.client.house import ORIGIN, House, Keys, seed
from tests.jobs.client.test_http import Scripted, server, typed

__all__ = ["server", "typed"]
NID = nid(b"the receipt that was promised")
AT = dt.datetime(2026, 11, 21, 7, tzinfo=dt.UTC)
BY = dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC)
LATER = BY + dt.timedelta(minutes=5)
CY = Ed25519Signer(seed("a witness"))
VKEY = make_vkey("cy.example/witness", CY.public, COSIGNATURE_V1)
Write = Callable[..., Path]


@pytest.fixture
def watched(house: House) -> Trust:
    """Ada's trust file, which names a witness."""
    return house.trust(witnesses=[str(VKEY)])


def promise(house: House, *, keys: Keys | None = None, **changes: str) -> dict[str, Any]:
    """Give what comes with an answer."""
    fields = {"log": ORIGIN, "nid": NID, "at": "2026-11-21T07:00:00.000Z", "by": "2026-11-21T08:00:00.000Z"}
    claim = claim_text(PROMISE, **(fields | changes))
    return {"claim": claim, "sig": dict(sign_text((keys or house.keys).hub, claim))}


@pytest.fixture
def publish(house: House, tmp_path: Path) -> Write:
    """Publish a log: strangers' leaves, and the promised one if `leaf` says where."""

    def write(size: int = 300, leaf: int | None = None, cosigned_at: dt.datetime | None = None) -> Path:
        entries = [encode({"eventType": "JobSubmitted", "nid": nid(str(n).encode()), "v": 1}) for n in range(size)]
        if leaf is not None:
            entries[leaf] = encode({"eventType": "JobSubmitted", "nid": NID, "v": 1})
        leaves = [leaf_hash(entry) for entry in entries]
        folder = tmp_path / f"log-{size}-{leaf}-{cosigned_at}"
        for first in range(0, size, WIDTH):
            path = folder / Tile(0, first // WIDTH, min(WIDTH, size - first)).path()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(leaves[first : first + WIDTH]))
        text = Checkpoint(ORIGIN, size, root_of(leaves)).text()
        note = sign_note(text, ORIGIN, house.keys.log, house.keys.log.public)
        if cosigned_at:
            note += str(cosign(text, VKEY.name, CY, CY.public, time_s=int(cosigned_at.timestamp())))
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint").write_text(note)
        return folder

    return write


def given(house: House, folder: Path, **changes: Any) -> Promised:
    """Keep a promise and read it back."""
    told = promise(house, **changes)
    kept = keep_promise(folder, told, nid=changes.get("nid", NID), job_id="job_1", url="http://house.example")
    assert kept.stat().st_mode & 0o777 == 0o600
    return read_promise(kept.read_bytes())


def seen(folder: Path, trust: Trust, now: dt.datetime = LATER) -> Any:
    return look(Folder(folder), trust, now=now)


# --- kept, pending, broken --------------------------------------------------------------------------------


def test_a_leaf_that_a_witness_saw_in_time_is_kept(
    house: House, watched: Trust, publish: Write, tmp_path: Path
) -> None:
    early = BY - dt.timedelta(minutes=1)
    told = judge(given(house, tmp_path), watched, seen(publish(leaf=270, cosigned_at=early), watched))
    assert told.state is State.KEPT and told.evidence is None
    assert told.words == (
        "leaf 270 of 300, cy.example/witness cosigned it at 2026-11-21T07:59:00.000Z,"
        " promised by 2026-11-21T08:00:00.000Z"
    )


def test_what_shows_the_time_is_said(house: House, watched: Trust, publish: Write, tmp_path: Path) -> None:
    promised = given(house, tmp_path)
    assert judge(promised, watched, seen(publish(leaf=0), watched, now=AT)).words.endswith("as promised")
    assert judge(promised, watched, seen(publish(leaf=0), watched)).words.endswith("is not shown")
    late = seen(publish(leaf=0, cosigned_at=LATER), watched)
    assert judge(promised, watched, late).words.endswith("is not shown")


def test_until_its_time_a_promise_is_pending(house: House, watched: Trust, publish: Write, tmp_path: Path) -> None:
    told = judge(given(house, tmp_path), watched, seen(publish(), watched, now=BY))
    assert (told.state, told.evidence) == (State.PENDING, None)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_a_receipt_that_was_left_out_is_proven_by_one_file(
    house: House, watched: Trust, publish: Write, tmp_path: Path, size: int
) -> None:
    told = judge(given(house, tmp_path), watched, seen(publish(size, cosigned_at=LATER), watched))
    assert told.state is State.BROKEN and told.evidence is not None
    state, lines = check_evidence(told.evidence, watched)
    assert state is State.BROKEN
    assert "false only if SHA-256 is broken" in lines[2]
    assert lines[3].startswith("after        cosigned by cy.example/witness at 2026-11-21T08:05:00.000Z")


def test_without_a_witness_the_time_is_the_finders_word(
    house: House, trust: Trust, watched: Trust, publish: Write, tmp_path: Path
) -> None:
    for believed, log in (
        (watched, publish()),
        (trust, publish(cosigned_at=LATER)),
        (watched, publish(cosigned_at=AT)),
    ):
        evidence = judge(given(house, tmp_path), believed, seen(log, believed)).evidence
        assert evidence is not None
        state, lines = check_evidence(evidence, believed)
        assert state is State.UNKNOWN
        assert "no trusted witness signed then" in lines[-1]


def test_a_false_accusation_clears_the_hub(house: House, watched: Trust, publish: Write, tmp_path: Path) -> None:
    evidence = judge(given(house, tmp_path), watched, seen(publish(cosigned_at=LATER), watched)).evidence
    assert evidence is not None
    honest = json.loads(evidence)
    full = seen(publish(leaf=7, cosigned_at=LATER), watched)
    honest |= {"checkpoint": full.note, "leaves": base64.b64encode(b"".join(full.leaves)).decode()}
    state, lines = check_evidence(encode(honest), watched)
    assert (state, lines[-1]) == (State.KEPT, "left out     no: it is leaf 7")


def test_whatever_value_of_the_evidence_is_changed_it_shows_nothing_or_less(
    house: House, watched: Trust, publish: Write, tmp_path: Path
) -> None:
    evidence = judge(given(house, tmp_path), watched, seen(publish(40, cosigned_at=LATER), watched)).evidence
    assert evidence is not None
    dice, count = random.Random(11), 0
    text = evidence.decode()
    # Where and when it was fetched is nobody's signature: it is told as the finder's word, and proves nothing.
    spare = range(text.index('"asked"'), text.index('"checkpoint"'))
    for place in dice.sample(range(len(text)), 400):
        changed = text[:place] + chr((ord(text[place]) + dice.randint(1, 40)) % 94 + 33) + text[place + 1 :]
        if place in spare or changed == text:
            continue
        count += 1
        try:
            state, _ = check_evidence(changed.encode(), watched)
        except NotAPromise:
            continue
        assert state is not State.BROKEN, place
    print(f"{count} places changed")


# --- what is no promise -----------------------------------------------------------------------------------


def test_a_promise_by_no_hub_key_or_about_another_log_is_unknown(
    house: House, watched: Trust, publish: Write, tmp_path: Path
) -> None:
    log = seen(publish(), watched)
    for changes in ({"keys": Keys("mallory")}, {"log": "elsewhere.test/log"}):
        told = judge(given(house, tmp_path, **changes), watched, log)
        assert (told.state, told.evidence) == (State.UNKNOWN, None)


def test_a_promise_about_another_receipt_is_not_kept(house: House, tmp_path: Path) -> None:
    with pytest.raises(NotAPromise, match="another receipt"):
        keep_promise(tmp_path, promise(house), nid=nid(b"mine"), job_id="job_1", url="")
    for told in ({}, {"claim": "", "sig": {}}, {**promise(house), "more": 1}, {**promise(house), "sig": 7}):
        with pytest.raises(NotAPromise):
            keep_promise(tmp_path, told, nid=NID, job_id="job_1", url="")
    assert not list(tmp_path.glob("*.promise.json"))


@pytest.mark.parametrize("spoilt", ["signature", "stranger", "leaves", "tile", "none"])
def test_a_log_that_does_not_hold_together_says_nothing(
    house: House, watched: Trust, publish: Write, spoilt: str
) -> None:
    folder = publish(leaf=3)
    checkpoint, tile = folder / "checkpoint", folder / "tile/0/000"
    if spoilt == "signature":
        checkpoint.write_text(checkpoint.read_text().replace("\n300\n", "\n301\n"))
    elif spoilt == "stranger":
        text = checkpoint.read_text().partition("\n\n")[0] + "\n"
        mallory = Keys("mallory").log
        checkpoint.write_text(sign_note(text, ORIGIN, mallory, mallory.public))
    elif spoilt == "leaves":
        tile.write_bytes(tile.read_bytes()[:-1] + b"\0")
    elif spoilt == "tile":
        tile.unlink()
    else:
        checkpoint.unlink()
    with pytest.raises(Unknown):
        seen(folder, watched)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def trust_file(house: House, tmp_path: Path) -> str:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(add_own(house.document(witnesses=[str(VKEY)]), clients=[])))
    return str(path)


def test_the_command_says_how_each_stands_and_writes_the_evidence(
    house: House, publish: Write, tmp_path: Path, trust_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, far = tmp_path / "promises", "2096-11-21T08:00:00.000Z"
    other = nid(b"another")
    given(house, kept)
    given(house, kept, nid=other, by=far)
    log = publish(leaf=9, cosigned_at=AT)
    base = ["promises", str(kept), "--trust", trust_file]
    assert cli.main([*base, "--url", str(log)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[:2]) == ["kept", "pending"]
    assert lines[-1] == "2 promises: 1 kept, 1 pending, 0 broken, 0 unknown"

    assert cli.main([*base, "--url", str(publish(cosigned_at=dt.datetime.now(dt.UTC)))]) == 1
    capsys.readouterr()
    evidence = kept / f"{NID}.broken-promise.json"
    assert [path.name for path in kept.glob("*.broken-promise.json")] == [evidence.name]
    assert cli.main(["promises", "--check", str(evidence), "--trust", trust_file]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"{evidence.name}: broken"

    assert cli.main([*base, "--url", str(tmp_path)]) == 3
    assert "unknown" in capsys.readouterr().out
    assert cli.main(["promises", str(tmp_path / "none"), "--trust", trust_file]) == 2
    assert cli.main(["promises", "--check", trust_file, "--trust", trust_file]) == 2
    (kept / "x.promise.json").write_text("{}")
    assert cli.main(base) == 2


def test_all_kept_is_0_and_json_is_one_list(
    house: House, publish: Write, tmp_path: Path, trust_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given(house, tmp_path / "promises")
    base = ["promises", str(tmp_path / "promises"), "--trust", trust_file, "--url", str(publish(leaf=9))]
    assert cli.main([*base, "--json"]) == 0
    assert [item["state"] for item in json.loads(capsys.readouterr().out)] == ["kept"]


def test_submit_keeps_the_promise_where_it_is_told_or_at_home(
    house: House, typed: Any, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"job_id": "job_1", "nid": NID, "promise": promise(house)}
    server.answers = [(201, answer)]
    assert typed("submit", "a red circle", "--promises", str(tmp_path / "there"))[0] == 0
    assert read_promise((tmp_path / "there" / f"{NID}.promise.json").read_bytes()).job_id == "job_1"
    monkeypatch.setenv("TALLYSTICK_HOME", str(tmp_path / "home"))
    assert typed("submit", "a red circle")[0] == 0
    assert (tmp_path / "home" / "promises" / f"{NID}.promise.json").exists()


def test_a_promise_that_can_not_be_kept_is_told_and_the_job_stays_submitted(
    house: House, typed: Any, server: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for told, where in (({}, tmp_path), (promise(house), tmp_path / "file")):
        server.answers = [(201, {"job_id": "job_1", "nid": NID, "promise": told})]
        code, out, err = typed("submit", "a red circle", "--promises", str(where))
        assert code == 0 and out.startswith("job_1  submitted")
        assert err.startswith("tallystick: the hub's promise is not kept: ") and err.count("\n") == 1
