"""Is every receipt in the log, does the log stand by it, and has it said so in public? Pure but for asking a node."""

import base64
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from jobs.client.case import Case, Gone, Read
from jobs.client.trust import YOUNGER
from jobs.client.verdicts import Broken, Faults, Newer, NotClaimed, Unknown, reading, require_equal
from receipts.canonical import b64url, decode_canonical, encode, nid
from receipts.checkpoint import (
    Checkpoint,
    NoteBroken,
    NoteSignature,
    SignedNote,
    Vkey,
    check_cosignature,
    check_note,
    parse_checkpoint,
    parse_note,
)
from receipts.committers.erc7053 import (
    NotCalldata,
    NotRlp,
    RawTransaction,
    commit_topics,
    decode_commit,
    decode_commit_data,
    decode_raw_transaction,
)
from receipts.merkle import ProofBroken, check_inclusion, leaf_hash

_COMMIT_FIELDS: Final = {"checkpoint", "log", "root", "size"}
PRIVATE: Final = "; the chain is the house's own, so its operator is the hub itself"


def inclusion(case: Case) -> str:
    """Follow each receipt's path to the checkpoint's root, from the hash of its own bytes."""
    stated = _checkpoint(case)
    faults = Faults()
    stand = [("receipts", *pair) for pair in zip(case.attempted, case.tally.receipts, strict=True)]
    stand += [("erasures", *pair) for pair in zip(case.erasures, case.tally.erasures, strict=True)]
    for list_, item, logged in stand:
        with faults.gathered():
            if isinstance(item, Newer):
                raise item
            if isinstance(item, Broken):
                where = item.fault.field.split(" ")[0].removesuffix(".bytes")
                raise Broken(f"{where}.bytes", "the log can't hold what is no receipt")
            if logged.leaf is None or logged.proof is None:
                raise Unknown(f"{list_}[{item.index}] {item.type} is not in this checkpoint yet")
            with reading(f"{list_}[{item.index}].{'erased' if isinstance(item, Gone) else 'bytes'}", ProofBroken):
                check_inclusion(leaf_hash(leaf_entry(item)), logged.leaf, stated.size, logged.proof, stated.root)
    with faults.gathered():
        _require_leaves_in_order(case)
    faults.settle()
    leaves = [logged.leaf for logged in case.tally.receipts if logged.leaf is not None]
    return f"{len(leaves)} receipts at leaves {min(leaves)} to {max(leaves)} of a log of {stated.size}"


def leaf_entry(receipt: Read | Gone) -> bytes:
    """Write the log's entry for a receipt, from its bytes; from what is left where they were erased."""
    return encode({"eventType": receipt.type, "nid": receipt.nid, "v": 1})


def checkpoint(case: Case) -> str:
    """Check the log's own signature under its size and root."""
    note, stated = _note(case), _checkpoint(case)
    require_equal("checkpoint", stated.origin, case.trust.origin, "is of another log")
    mine = [item for item in note.signatures if item.name == case.trust.origin]
    known = {vkey.key_hash: vkey for vkey in case.trust.log_vkeys}
    if not mine:
        raise Broken("checkpoint", "the log did not sign it", expected=f"a signature of {case.trust.origin}")
    for item in mine:
        if item.key_hash not in known:
            raise Broken(
                "checkpoint",
                f"signed in the log's name by a key that the trust file does not name: {YOUNGER}",
                expected=" or ".join(sorted(vkey.key_hash.hex() for vkey in known.values())),
                found=item.key_hash.hex(),
            )
        vkey = known[item.key_hash]
        with reading("checkpoint", NoteBroken):
            check_note(note, vkey)
        case.require_key("checkpoint", "log", _key_id(vkey), max(0, stated.size - 1))
    return f"{stated.size} leaves, root {stated.root.hex()[:16]}…, signed by {case.trust.origin}"


def witnesses(case: Case) -> str:
    """Check the cosignatures of the trust file's witnesses, and that there are as many as it asks for.

    Lines of others are passed over, as C2SP wants it, and told: who vouches is the checker's choice.
    """
    note = _note(case)
    known = {(vkey.name, vkey.key_hash): vkey for vkey in case.trust.witnesses}
    others = [item for item in note.signatures if item.name != case.trust.origin]
    strangers = sorted({item.name for item in others if (item.name, item.key_hash) not in known})
    besides = f"; besides by {', '.join(strangers)[:200]}, whom the trust file does not name" if strangers else ""
    if not known:
        raise NotClaimed(f"the trust file names no witness: nobody else vouches that all are shown one log{besides}")
    _refuse_misnamed(note, known)
    times: dict[str, int] = {}
    for vkey in known.values():
        if any((item.name, item.key_hash) == (vkey.name, vkey.key_hash) for item in others):
            with reading("checkpoint", NoteBroken):
                times[str(vkey)] = check_cosignature(note, vkey)
    missing = sorted(vkey.name for vkey in known.values() if str(vkey) not in times)
    quorum = case.trust.witness_quorum
    if len(times) < quorum:
        due = "" if quorum == len(known) else f": {len(times)} of {len(known)} did, {quorum} are due"
        raise Unknown(f"not cosigned by {', '.join(missing)}{due}{besides}")
    absent = f"; not by {', '.join(missing)}" if missing else ""
    told = ", ".join(f"{vkey.name} at {_moment(times[str(vkey)])}" for vkey in known.values() if str(vkey) in times)
    return f"cosigned by {told}{absent}{besides}"


def _refuse_misnamed(note: SignedNote, known: Mapping[tuple[str, bytes], Vkey]) -> None:
    """A line that a trusted key made, under another name or key hash, was changed by somebody. Raises: Broken."""
    for item in note.signatures:
        if (item.name, item.key_hash) in known:
            continue
        for vkey in known.values():
            renamed = SignedNote(note.text, (NoteSignature(vkey.name, vkey.key_hash, item.signature),))
            if (vkey.name == item.name or vkey.key_hash == item.key_hash) and cosigned(renamed, vkey):
                found = f"{item.name} {item.key_hash.hex()}"
                raise Broken("checkpoint", f"the cosignature of {vkey.name} stands there as that of {found}")


def cosigned(note: SignedNote, vkey: Vkey) -> bool:
    """Tell whether a witness's one cosignature under a note holds."""
    try:
        check_cosignature(note, vkey)
    except NoteBroken:
        return False
    return True


def _moment(time_s: int) -> str:
    """Write a witness's time; one beyond the calendar is told as its number."""
    try:
        return f"{dt.datetime.fromtimestamp(time_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return f"second {time_s}"


def anchor(case: Case) -> str:
    """Read the signed transaction that commits this checkpoint: by whom, where, on what, saying what."""
    raw = _anchor(case)
    chain = case.trust.chain
    assert chain is not None
    _require_committer(case, raw.sender, chain.committer)
    require_equal("anchor.raw chain_id", raw.chain_id, chain.chain_id, "is for another chain")
    require_equal("anchor.raw to", raw.to, chain.register, "is not the register")
    require_equal("anchor.raw value", raw.value, 0, "an anchor moves no funds")
    with reading("anchor.raw data", NotCalldata):
        commit = decode_commit(raw.data)
    require_equal("anchor.raw assetCid", commit.asset_cid, case.trust.log_nid, "is not the log")
    _require_commit_data(case, commit.commit_data)
    return f"{raw.sender} commits the checkpoint in {raw.hash}{PRIVATE if case.trust.embedded else ''}"


def _require_committer(case: Case, sender: str, committer: str) -> None:
    """Insist on a sender of the house that still counted for the newest leaf of the checkpoint that it commits.

    An anchor follows its checkpoint, so who follows as sender may commit one from before its own first leaf.
    """
    known = {key.key_id: key for key in case.trust.holding("sender")}
    if sender not in known:
        require_equal("anchor.raw sender", sender, committer, f"is not the house's committer: {YOUNGER}")
        return
    size, key = _checkpoint(case).size, known[sender]
    if key.until_leaf is not None and size > key.until_leaf:
        case.require_key("anchor.raw sender", "sender", sender, max(0, size - 1))


def anchor_on_chain(case: Case) -> str:
    """Ask a node whether the anchor is mined, says what it says, and is deep enough."""
    if case.trust.chain is None:
        raise NotClaimed("the trust file names no chain")
    raw, url = _anchor(case), case.node_url
    from jobs.client.onchain import Node, find_log  # brings requests, which nobody offline needs

    node = Node.at(url, case.trust.chain)
    mined = node.mined("anchor.raw", raw)
    topics = commit_topics(asset_cid=case.trust.log_nid, recorder=raw.sender)
    data = find_log(mined, raw.to, topics)
    if data is None:
        raise Broken("anchor.raw", "its transaction left no Commit of this log by this sender")
    with reading("anchor.raw", NotCalldata):
        _require_commit_data(case, decode_commit_data(data))
    return f"in block {mined.block_number}, {node.confirmed(mined)}{PRIVATE if case.trust.embedded else ''}"


def _anchor(case: Case) -> RawTransaction:
    if case.trust.chain is None:
        if case.tally.anchor is None:
            raise NotClaimed("the trust file names no chain: this house commits nothing")
        raise Unknown("the trust file names no chain to hold the anchor against")
    if case.tally.anchor is None:
        raise Unknown("no anchor yet: the checkpoint is on no chain")
    with reading("anchor.raw", NotRlp):
        return decode_raw_transaction(case.tally.anchor)


def _require_commit_data(case: Case, text: str) -> None:
    stated, note = _checkpoint(case), _note(case)
    with reading("anchor.raw commitData"):
        told: Any = decode_canonical(text.encode())
    if not isinstance(told, dict) or set(told) != _COMMIT_FIELDS:
        raise Broken("anchor.raw commitData", f"has the fields {', '.join(sorted(_COMMIT_FIELDS))}", found=text)
    due = {
        "size": stated.size,
        "root": base64.b64encode(stated.root).decode(),
        "checkpoint": str(nid(note.text.encode())),
        "log": case.trust.log_nid,
    }
    for name, value in due.items():
        require_equal(f"anchor.raw commitData.{name}", told[name], value, "is not that of the tally's checkpoint")


def _note(case: Case) -> SignedNote:
    if case.tally.checkpoint is None:
        raise Unknown("no checkpoint covers the job's receipts yet")
    with reading("checkpoint", NoteBroken):
        return parse_note(case.tally.checkpoint)


def _checkpoint(case: Case) -> Checkpoint:
    with reading("checkpoint", NoteBroken):
        return parse_checkpoint(_note(case).text)


def _require_leaves_in_order(case: Case) -> None:
    """A chain's receipts get their leaves in the order in which they were written."""
    newest: dict[str, Read] = {}
    for receipt in case.readable:
        thread = receipt.body.get("jobId") or receipt.body["subject"]
        before = newest.get(thread)
        if before and before.leaf is not None and receipt.leaf is not None and receipt.leaf <= before.leaf:
            raise Broken(
                f"receipts[{receipt.index}].leaf",
                "is not behind the receipt that it follows",
                expected=f"more than {before.leaf}",
                found=receipt.leaf,
            )
        newest[thread] = receipt


def _key_id(vkey: Vkey) -> str:
    return b64url(vkey.public)
