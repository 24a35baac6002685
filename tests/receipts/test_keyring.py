"""Keys come, follow one another and go: each act is logged, signed by who may say so, and counts from a leaf."""

import json
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from config.founding import found, make_keys, register_keys
from receipts import keyring
from receipts.canonical import decode_canonical, encode, unb64url
from receipts.checkpoint import make_vkey, open_checkpoint
from receipts.keyacts import KeyAct, KeyActRefused, check_act, read_act, sign_act
from receipts.keyring import KeyRefused, MustBeSigned, add_key, counting, revoke_key, rotate_file, rotate_key, settle
from receipts.keys import (
    Ed25519Signer,
    KeyUnusable,
    Role,
    Secp256k1Signer,
    ed25519_signer,
    load_signer,
    make_key_file,
    read_key_file,
    secp256k1_signer,
    settle_key_file,
    staged_path,
)
from receipts.log import (
    LogForked,
    LogKeyEnded,
    current_vkey,
    found_log,
    leaf_index,
    log_head,
    publish,
    require_one_history,
    sequence,
    turn,
)
from receipts.models import Checkpoint, Pending, PublicKey, Receipt, Tenant
from receipts.wellknown import document
from tests.receipts.test_record import write

ORIGIN = "tests.invalid/keys"
ROLES: tuple[Role, ...] = ("root", "log", "hub", "attester", "sender")
MALLORY = Ed25519Signer(bytes(range(1, 33)))


@pytest.fixture
def keys(settings: Any, tmp_path: Path, db: None) -> Path:
    """A founded house with its own keys, all receipts in the log."""
    return founded(settings, tmp_path)


def founded(settings: Any, folder: Path) -> Path:
    settings.DATA_DIR, settings.KEYS_DIR, settings.TLOG_DIR = folder, folder / "keys", folder / "tlog"
    settings.LOG_ORIGIN, settings.CHAIN_RPC_URL, settings.CHECKPOINT_SECONDS = ORIGIN, "", 0
    make_keys(lambda _line: None)
    found_log(ORIGIN)
    register_keys()
    turn()
    return folder / "keys"


def following(folder: Path, role: str) -> Path:
    """Make the key that is to follow a role's."""
    path = folder.parent / f"new-{role}.key"
    make_key_file(path, "secp256k1" if role in ("attester", "sender") else "ed25519")
    return path


def told_of(key_id: str) -> dict[str, Any]:
    """What the newest receipt about a key says."""
    body = decode_canonical(bytes(Receipt.objects.filter(subject=f"key:{key_id}").order_by("-id")[0].body))
    data: dict[str, Any] = body["data"]
    return data


def told_something(count: int = 1) -> None:
    for _ in range(count):
        write("ReputationChanged", subject="provider-bo", tenant_id=None, attempt=0, n=Receipt.objects.count() + 1)


def leaf_of(key_id: str) -> int | None:
    return leaf_index(Receipt.objects.filter(subject=f"key:{key_id}").order_by("-id")[0].pk)


# --- rotation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_ends_where_the_next_begins_and_both_sign_it(role: Role, keys: Path) -> None:
    old, new = load_signer(role, keys).key_id, following(keys, role)
    told_something(3)  # recorded before the act, and without a leaf yet
    act = rotate_file(role=role, new=new)
    turn()
    rows = {row.key_id: row for row in PublicKey.objects.filter(role=role)}
    following_id = read_key_file(new).key_id
    assert rows[old].until_leaf == rows[following_id].since_leaf == act.from_leaf
    assert leaf_of(following_id) == act.from_leaf, "the act's own receipt is the first under the new key"
    told = told_of(following_id)
    assert (told["act"], told["replaces"], told["role"]) == ("rotated", old, role)
    assert check_act(told["claim"], told["signatures"], roots=[]) if role != "root" else True
    signers = {item["key_id"] for item in told["signatures"]}
    assert signers >= {old, following_id}
    assert load_signer(role, keys).key_id == following_id
    assert not staged_path(keys / f"{role}.key").exists()


def test_what_was_recorded_before_a_rotation_has_a_leaf_before_it(keys: Path) -> None:
    told_something(5)
    waiting = list(Pending.objects.values_list("receipt_id", flat=True))
    act = rotate_file(role="hub", new=following(keys, "hub"))
    told_something(2)
    turn()
    assert all((leaf_index(one) or 0) < act.from_leaf for one in waiting)
    assert leaf_index(Receipt.objects.order_by("-id")[0].pk) == act.from_leaf + 2


@pytest.mark.django_db(transaction=True)
def test_a_receipt_that_is_being_recorded_comes_before_the_rotation(settings: Any, tmp_path: Path) -> None:
    keys = founded(settings, tmp_path)
    recorded, may_commit, done = threading.Event(), threading.Event(), []

    def record_slowly() -> None:
        with transaction.atomic():
            told_something()
            recorded.set()
            may_commit.wait(10)
        connection.close()

    def rotate() -> None:
        done.append(rotate_file(role="hub", new=following(keys, "hub")))
        connection.close()

    slow, act = threading.Thread(target=record_slowly), threading.Thread(target=rotate)
    slow.start()
    assert recorded.wait(10)
    act.start()
    until_it_waits()
    may_commit.set()
    slow.join(20)
    act.join(20)
    turn()
    [slow_receipt] = Receipt.objects.filter(event_type="ReputationChanged")
    assert (leaf_index(slow_receipt.pk) or 0) == done[0].from_leaf - 1


def until_it_waits() -> None:
    """Wait until somebody in our database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(2_000):
        with connection.cursor() as cursor:
            cursor.execute(waiting + " AND pg_sleep(0.005) IS NOT NULL")
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")


def test_two_keys_may_overlap_but_never_two_logs(keys: Path) -> None:
    old = load_signer("hub", keys).key_id
    act = rotate_file(role="hub", new=following(keys, "hub"), overlap=100)
    assert PublicKey.objects.get(key_id=old).until_leaf == act.from_leaf + 100
    at = set(counting("hub", act.from_leaf + 99).values_list("key_id", flat=True))
    assert at == {old, act.key_id}
    with pytest.raises(KeyRefused, match="overlap is 1: 0 is due for a log key"):
        rotate_file(role="log", new=following(keys, "log"), overlap=1)


def test_a_key_that_ended_comes_back_in_no_way(keys: Path) -> None:
    old = load_signer("hub", keys)
    rotate_file(role="hub", new=following(keys, "hub"))
    with pytest.raises(KeyRefused, match="does not come back"):
        add_key(role="hub", alg="Ed25519", key_id=old.key_id)
    with pytest.raises(KeyRefused, match="can't be rotated again"):
        rotate_key(role="hub", old=old.key_id, new=MALLORY, stepping_down=old)
    now = load_signer("hub", keys)
    with pytest.raises(KeyRefused, match="is a key of this house already"):
        rotate_key(role="hub", old=now.key_id, new=old, stepping_down=now)


def test_a_key_has_one_role_and_one_owner(keys: Path) -> None:
    ada, bo = (Tenant.objects.get_or_create(id=name, defaults={"name": name})[0] for name in ("ada", "bo"))
    with pytest.raises(KeyRefused, match="a key has one role"):
        add_key(role="client", alg="Ed25519", key_id=load_signer("hub", keys).key_id, tenant=ada)
    add_key(role="client", alg="Ed25519", key_id=MALLORY.key_id, tenant=ada)
    add_key(role="client", alg="Ed25519", key_id=MALLORY.key_id, tenant=ada)
    with pytest.raises(KeyRefused, match="another tenant's"):
        add_key(role="client", alg="Ed25519", key_id=MALLORY.key_id, tenant=bo)
    for role in ("root", "log"):
        with pytest.raises(KeyRefused, match="a house has one"):
            add_key(role=role, alg="Ed25519", key_id=Ed25519Signer(bytes(32)).key_id)


# --- the log's own key -------------------------------------------------------------------------------------


def test_rotating_the_log_s_key_is_no_fork(keys: Path, settings: Any) -> None:
    first, nid = current_vkey(), log_head().nid
    told_something(2)
    act = rotate_file(role="log", new=following(keys, "log"))
    assert publish() is None, "the new key waits for its own receipt's leaf"
    newest = require_one_history()
    assert newest is not None
    assert open_checkpoint(newest.note, first).size == newest.size
    turn()
    second = current_vkey()
    assert second != first
    note = (settings.TLOG_DIR / "checkpoint").read_text()
    assert open_checkpoint(note, second).size == act.from_leaf + 1
    told_something()
    turn()
    assert log_head().nid == nid
    assert document()["log"]["vkey"] == str(second)


def test_every_checkpoint_of_a_history_with_rotations_counts_under_one_key(keys: Path) -> None:
    for _ in range(3):
        told_something(2)
        turn()
        rotate_file(role="log", new=following(keys, "log"))
        following(keys, "log").unlink()
        turn()
    rows = PublicKey.objects.filter(role="log")
    assert len(rows) == 4
    for checkpoint in Checkpoint.objects.all():
        signed = [row for row in rows if opens(checkpoint.note, row.key_id)]
        assert [row.key_id for row in counting("log", checkpoint.size - 1)] == [row.key_id for row in signed]


def opens(note: str, key_id: str) -> bool:
    from receipts.checkpoint import NoteBroken

    try:
        open_checkpoint(note, make_vkey(ORIGIN, unb64url(key_id)))
    except NoteBroken:
        return False
    return True


def test_an_ended_log_key_signs_nothing_more(keys: Path) -> None:
    old_file = (keys / "log.key").read_bytes()
    rotate_file(role="log", new=following(keys, "log"))
    (keys / "log.key").write_bytes(old_file)
    sequence()
    with pytest.raises(LogKeyEnded, match="ended at leaf"):
        publish()
    (keys / "log.key").unlink()
    make_key_file(keys / "log.key", "ed25519")
    with pytest.raises(LogKeyEnded, match="is none of the log's"):
        publish()


def test_a_checkpoint_by_an_ended_key_beyond_its_end_is_a_fork(keys: Path, settings: Any) -> None:
    from receipts.checkpoint import Checkpoint as SignedSize
    from receipts.checkpoint import sign_note

    old = ed25519_signer("log", keys)
    rotate_file(role="log", new=following(keys, "log"))
    turn()
    newest = Checkpoint.objects.order_by("-size")[0]
    stolen = sign_note(SignedSize(ORIGIN, newest.size, bytes(newest.root)).text(), ORIGIN, old, old.public)
    (settings.TLOG_DIR / "checkpoint").write_text(stolen)
    with pytest.raises(LogForked, match="ended at"):
        require_one_history()


def test_a_log_whose_key_was_revoked_goes_on_under_another(keys: Path) -> None:
    """Its newest checkpoint lies beyond the revoked key's end; it is the one that was committed, so it is no fork."""
    told_something(3)
    turn()
    old = load_signer("log", keys).key_id
    revoke_key(role="log", key_id=old, from_leaf=log_head().size - 2, reason="compromised")
    with pytest.raises(LogKeyEnded):
        turn()
    (keys / "log.key").unlink()
    make_key_file(keys / "log.key", "ed25519")
    add_key(role="log", alg="Ed25519", key_id=load_signer("log", keys).key_id)
    turn()
    assert open_checkpoint(Checkpoint.objects.order_by("-size")[0].note, current_vkey())


# --- revocation --------------------------------------------------------------------------------------------


def test_a_revoked_key_counts_up_to_a_leaf_that_is_given_already(keys: Path) -> None:
    hub = load_signer("hub", keys).key_id
    told_something(4)
    turn()
    size = log_head().size
    with pytest.raises(KeyRefused, match=f"from_leaf is {size + 1}, which lies in the future: at most {size} is due"):
        revoke_key(role="hub", key_id=hub, from_leaf=size + 1, reason="compromised")
    revoke_key(role="hub", key_id=hub, from_leaf=size - 2, reason="compromised")
    assert not counting("hub", size - 2).exists()
    assert counting("hub", size - 3).get().key_id == hub
    assert told_of(hub)["reason"] == "compromised"
    with pytest.raises(KeyRefused, match="already"):
        revoke_key(role="hub", key_id=hub, from_leaf=size - 1, reason="compromised")
    revoke_key(role="hub", key_id=hub, from_leaf=size - 3, reason="compromised")
    assert PublicKey.objects.get(key_id=hub).until_leaf == size - 3
    with pytest.raises(KeyRefused, match="counts from leaf 0 on"):
        revoke_key(role="hub", key_id=hub, from_leaf=-1, reason="compromised")


def test_the_house_s_root_is_rotated_never_revoked(keys: Path) -> None:
    with pytest.raises(KeyRefused, match="rotate it"):
        revoke_key(role="root", key_id=load_signer("root", keys).key_id, reason="lost")


def test_a_reason_is_a_word_of_our_own(keys: Path) -> None:
    from receipts.record import NotAReceipt

    with pytest.raises(NotAReceipt, match=r"data\.reason"):
        revoke_key(role="hub", key_id=load_signer("hub", keys).key_id, reason="Mallory took it!")
    assert counting("hub").exists(), "the act and its receipt are one transaction"


# --- crashes -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("when", ["staged", "logged", "kept", "placed"])
def test_a_rotation_that_is_cut_short_is_finished_at_the_next_start(
    role: Role, when: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = load_signer(role, keys).key_id, following(keys, role)
    following_id = read_key_file(new).key_id

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    def kept_alone(path: Path) -> None:
        monkeypatch.setattr(Path, "replace", killed)
        settle_key_file(path)

    def placed(path: Path) -> None:
        staged_path(path).replace(path)
        raise Killed

    places: dict[str, tuple[str, Callable[..., None]]] = {
        "staged": ("rotate_key", killed),
        "logged": ("settle_key_file", killed),
        "kept": ("settle_key_file", kept_alone),
        "placed": ("settle_key_file", placed),
    }
    monkeypatch.setattr(keyring, *places[when])
    with pytest.raises(Killed):
        rotate_file(role=role, new=new)
    monkeypatch.undo()

    register_keys()  # the next start
    if when == "staged":
        assert (load_signer(role, keys).key_id, counting(role).get().key_id) == (old, old)
        rotate_file(role=role, new=new)
    assert (load_signer(role, keys).key_id, counting(role).get().key_id) == (following_id, following_id)
    assert settle(role) is None


def test_a_client_s_revoked_key_keeps_no_house_from_starting(keys: Path, settings: Any) -> None:
    found(lambda _line: None)
    client = load_signer("client", keys).key_id
    revoke_key(role="client", key_id=client, reason="compromised")
    found(lambda _line: None)
    assert not counting("client").exists()


def test_a_house_whose_root_lives_elsewhere_starts_without_making_another(keys: Path) -> None:
    (keys / "root.key").rename(keys / "elsewhere")
    make_keys(lambda _line: None)
    register_keys()
    assert not (keys / "root.key").exists()
    assert counting("root").count() == 1


def test_a_key_at_hand_that_ended_with_none_to_follow_is_refused_in_one_line(keys: Path) -> None:
    old = (keys / "hub.key").read_bytes()
    rotate_file(role="hub", new=following(keys, "hub"))
    (keys / "hub.key").write_bytes(old)
    with pytest.raises(KeyRefused, match="put the key that follows it in its place") as error:
        register_keys()
    assert "\n" not in str(error.value)


def test_a_staged_key_that_nobody_logged_never_takes_the_place(keys: Path) -> None:
    rotate_file(role="hub", new=following(keys, "hub"))
    make_key_file(staged_path(keys / "hub.key"), "ed25519")
    assert settle("hub") is None
    with pytest.raises(KeyUnusable, match="another key"):
        rotate_file(role="hub", new=following(keys, "log"))


def test_a_refused_rotation_leaves_nothing_behind(keys: Path) -> None:
    with pytest.raises(KeyRefused, match="no Ed25519 key"):
        rotate_file(role="hub", new=following(keys, "sender"))
    assert not staged_path(keys / "hub.key").exists()


# --- the root elsewhere --------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("keys", *arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str) -> tuple[str, int, str]:
    """Run a command that ends badly: what it printed, its exit status, its one line."""
    out = StringIO()
    with pytest.raises(CommandError) as error:
        call_command("keys", *arguments, stdout=out)
    assert "\n" not in str(error.value)
    return out.getvalue(), error.value.returncode, str(error.value)


@pytest.fixture
def vault(keys: Path, tmp_path: Path) -> Path:
    """Where the root key lives, off the server."""
    (tmp_path / "vault").mkdir()
    (keys / "root.key").rename(tmp_path / "vault" / "root.key")
    return tmp_path / "vault"


def signed_in(vault: Path, claim: str, *, key: str = "root.key") -> Path:
    (vault / "claim.txt").write_text(claim)
    (vault / "signed.json").write_text(run("sign-claim", str(vault / "claim.txt"), "--key", str(vault / key)))
    return vault / "signed.json"


def test_an_act_waits_for_the_root_s_signature_from_elsewhere(keys: Path, vault: Path) -> None:
    hub = load_signer("hub", keys).key_id
    asked = ("revoke", "hub", hub, "--from-leaf", "2", "--reason", "compromised")
    claim, status, told = refused(*asked)
    assert (status, counting("hub").get().key_id) == (3, hub)
    assert "sign-claim" in told
    assert read_act(claim.strip()).from_leaf == 2
    signed = signed_in(vault, claim)
    told_something(2)
    turn()  # the log goes on while the claim travels
    run(*asked, "--signature", str(signed))
    assert PublicKey.objects.get(key_id=hub).until_leaf == 2
    assert told_of(hub)["claim"] == claim.strip(), "what is logged is what was signed"


def test_a_signed_act_is_good_for_what_it_says_alone(keys: Path, vault: Path) -> None:
    hub, attester = (load_signer(role, keys).key_id for role in ("hub", "attester"))
    claim, _, _ = refused("revoke", "hub", hub, "--from-leaf", "2", "--reason", "compromised")
    signed = str(signed_in(vault, claim))
    for other in (
        ("revoke", "hub", hub, "--from-leaf", "1", "--reason", "compromised"),
        ("revoke", "hub", hub, "--from-leaf", "2", "--reason", "lost"),
        ("revoke", "attester", attester, "--from-leaf", "2", "--reason", "compromised"),
    ):
        assert refused(*other, "--signature", signed)[1] == 2, other
    forged = {"claim": claim.strip(), "signatures": [sign_act(MALLORY, claim.strip())]}
    (vault / "forged.json").write_text(json.dumps(forged))
    again = ("revoke", "hub", hub, "--from-leaf", "2", "--reason", "compromised", "--signature")
    assert "a root key must sign" in refused(*again, str(vault / "forged.json"))[2]
    (vault / "no.json").write_text("{}")
    assert "claim and signatures" in refused(*again, str(vault / "no.json"))[2]
    assert "can't be read" in refused(*again, str(vault / "none.json"))[2]
    assert counting("hub").get().key_id == hub


def test_both_keys_suffice_to_rotate_without_the_root(keys: Path, vault: Path) -> None:
    new = following(keys, "attester")
    run("rotate", "attester", "--new", str(new))
    told = told_of(read_key_file(new).key_id)
    assert {item["alg"] for item in told["signatures"]} == {"EIP-191"}
    assert secp256k1_signer("attester", keys).key_id == read_key_file(new).key_id


def test_a_root_key_elsewhere_is_rotated_by_both_root_keys(keys: Path, vault: Path) -> None:
    old = read_key_file(vault / "root.key").key_id
    make_key_file(vault / "next.key", "ed25519")
    new = read_key_file(vault / "next.key").key_id
    asked = ("rotate", "root", "--new-key-id", new)
    claim, status, _ = refused(*asked)
    assert status == 3
    half = signed_in(vault, claim)
    assert "both root keys" in refused(*asked, "--signature", str(half))[2]
    (vault / "whole.json").write_text(run("sign-claim", str(half), "--key", str(vault / "next.key")))
    run(*asked, "--signature", str(vault / "whole.json"))
    assert counting("root").get().key_id == new
    assert told_of(new)["replaces"] == old


def test_what_no_root_signed_is_no_key(keys: Path, vault: Path) -> None:
    with pytest.raises(MustBeSigned, match="the root key is not on this machine"):
        add_key(role="client", alg="Ed25519", key_id=MALLORY.key_id)
    make_key_file(keys / "root.key", "ed25519")  # Mallory's own
    with pytest.raises(MustBeSigned, match="the root key on this machine is"):
        add_key(role="client", alg="Ed25519", key_id=MALLORY.key_id)
    assert not PublicKey.objects.filter(key_id=MALLORY.key_id).exists()


# --- the command ---------------------------------------------------------------------------------------------


def test_keys_are_listed_for_people_and_for_programs(keys: Path) -> None:
    rotate_file(role="hub", new=following(keys, "hub"))
    lines = run("list").splitlines()
    assert lines[-1] == "6 keys, 5 count, 1 ended"
    assert sum("at hand" in line for line in lines) == 5
    listed = json.loads(run("list", "--json"))
    hubs = [key for key in listed if key["role"] == "hub"]
    assert [key["at_hand"] for key in hubs] == [False, True]
    assert hubs[0]["until_leaf"] == hubs[1]["since_leaf"]


def test_a_key_is_made_for_its_owner_alone_and_never_over_another(keys: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.key"
    told = run("make", "hub", "--output", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).key_id in told
    assert "fingerprint sha256:" in told
    before = path.read_bytes()
    assert "never overwritten" in refused("make", "hub", "--output", str(path))[2]
    assert path.read_bytes() == before
    assert "secret" not in told and before.decode().split(":")[1].strip() not in told


def test_a_key_of_the_wrong_kind_is_refused_by_name(keys: Path) -> None:
    for role, key_id in (
        ("hub", "0x" + "a" * 40),
        ("attester", "A" * 43),
        ("hub", "short"),
        ("sender", "0x" + "A" * 40),
    ):
        assert "key id" in refused("add", role, "--key-id", key_id)[2]
    assert "no such tenant" in refused("add", "client", "--key-id", MALLORY.key_id, "--tenant", "nobody")[2]
    assert "no reporter key counts" in refused("rotate", "reporter", "--new-key-id", MALLORY.key_id)[2]


def test_a_further_key_counts_beside_the_first_and_is_named_when_one_ends(keys: Path) -> None:
    run("add", "hub", "--key-id", MALLORY.key_id, "--label", "the second web host")
    assert counting("hub").count() == 2
    assert "--old-key-id" in refused("rotate", "hub", "--new", str(following(keys, "hub")))[2]
    run("rotate", "hub", "--new", str(following(keys, "hub")), "--old-key-id", load_signer("hub", keys).key_id)
    assert counting("hub").count() == 2
    assert run("settle") == "0 rotations finished\n"


# --- the act's text --------------------------------------------------------------------------------------------

ACT = KeyAct(act="rotated", role="hub", key_id="A" * 43, from_leaf=7, at="2026-11-21T07:00:00.000Z", replaces="B" * 43)
NO_ACTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a field more": lambda body: body | {"note": "x"},
    "a field less": lambda body: {name: value for name, value in body.items() if name != "at"},
    "another type": lambda body: body | {"type": "JobRequest"},
    "a later version": lambda body: body | {"v": 2},
    "a leaf as text": lambda body: body | {"from_leaf": "7"},
    "a leaf as a flag": lambda body: body | {"from_leaf": True},
    "a negative leaf": lambda body: body | {"from_leaf": -1},
    "no such role": lambda body: body | {"role": "king"},
    "no such act": lambda body: body | {"act": "lent"},
    "no such time": lambda body: body | {"at": "yesterday"},
    "replacing itself": lambda body: body | {"replaces": body["key_id"]},
    "replacing nothing": lambda body: {name: value for name, value in body.items() if name != "replaces"},
    "ending before it begins": lambda body: body | {"until_leaf": 6},
    "adding what replaces": lambda body: body | {"act": "added"},
    "a list": lambda body: [body],
}


@pytest.mark.parametrize("what", NO_ACTS)
def test_what_is_no_key_act_is_refused(what: str) -> None:
    assert read_act(ACT.text()) == ACT
    with pytest.raises(KeyActRefused):
        read_act(encode(NO_ACTS[what](decode_canonical(ACT.text().encode()))).decode())


def test_a_wallet_s_signature_is_what_other_wallets_make() -> None:
    """Source: the documentation of web3.js, `eth.accounts.sign("Some data", …)`."""
    wallet = Secp256k1Signer(bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"))
    signature = sign_act(wallet, "Some data")
    assert wallet.address == "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"
    assert unb64url(signature["sig"]).hex() == (
        "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
        "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029"
        "1c"
    )


def test_each_signature_under_an_act_must_hold_and_none_stands_twice(keys: Path) -> None:
    root = ed25519_signer("root", keys)
    text = ACT.text()
    good, attester = sign_act(root, text), secp256k1_signer("attester", keys)
    assert check_act(text, [good, sign_act(attester, text)], roots=[root.key_id]) == ACT
    refused_lists: tuple[list[Any], ...] = (
        [],
        [good, good],
        [good] * 4,
        [good, sign_act(attester, text + " ")],
        [good, sign_act(attester, text) | {"key_id": "0x" + "a" * 40}],
        [good, sign_act(attester, text) | {"sig": "AA"}],
        [{"alg": "EIP-191"}],
        [{}],
        [sign_act(MALLORY, text)],
    )
    for bad in refused_lists:
        with pytest.raises(KeyActRefused):
            check_act(text, bad, roots=[root.key_id])
