"""Whatever becomes of a house's keys, house and verifier count exactly the same ones for each leaf, and a plain
model of adding, rotating and revoking says which."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.client.trust import Trust, add_own, trust_of
from receipts.canonical import b64url
from receipts.keyring import KeyRefused, add_key, alg_of, counting, revoke_key, rotate_key
from receipts.keys import Ed25519Signer, Secp256k1Signer, load_signer
from receipts.log import leaf_index, log_head, sequence
from receipts.models import Pending, PublicKey, Receipt
from receipts.wellknown import document
from tests.receipts.test_keyring import founded, told_something

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
EXAMPLES = 400 if FULL else 5
ROLES = ("root", "log", "hub", "attester", "sender", "provider", "client")
ONE = ("root", "log")
BEYOND = 30

roles = st.sampled_from(ROLES)
act = st.one_of(
    st.tuples(st.just("receipts"), st.integers(1, 4)),
    st.tuples(st.just("sequence")),
    st.tuples(st.just("add"), roles),
    st.tuples(st.just("rotate"), roles, st.integers(0, 9), st.sampled_from([0, 0, 1, 7])),
    st.tuples(st.just("revoke"), roles, st.integers(0, 9), st.integers(-3, 40)),
)


@dataclass
class Span:
    """A key of the model."""

    signer: Ed25519Signer | Secp256k1Signer
    since: int
    until: int | None = None

    def counts(self, leaf: int) -> bool:
        return leaf >= self.since and (self.until is None or leaf < self.until)


@dataclass
class Model:
    """What the keys of a house are, told as plainly as can be."""

    folder: Path
    keys: dict[str, list[Span]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    made: int = 0

    def next_leaf(self) -> int:
        return log_head().size + Pending.objects.count()

    def fresh(self, role: str) -> Ed25519Signer | Secp256k1Signer:
        self.made += 1
        secret = self.made.to_bytes(32)
        return Secp256k1Signer(secret) if role in ("attester", "sender") else Ed25519Signer(secret)

    def pick(self, role: str, which: int) -> Span | None:
        spans = self.keys.get(role, [])
        return spans[which % len(spans)] if spans else None

    def receipts(self, count: int) -> None:
        told_something(count)

    def sequence(self) -> None:
        sequence()

    def add(self, role: str) -> None:
        signer = self.fresh(role)
        allowed = role not in ONE or all(span.until is not None for span in self.keys[role])
        since = log_head().size
        if self.may(allowed, lambda: add_key(role=role, alg=alg_of(signer.key_id), key_id=signer.key_id)):
            self.keys.setdefault(role, []).append(Span(signer, since))

    def rotate(self, role: str, which: int, overlap: int) -> None:
        span, signer = self.pick(role, which), self.fresh(role)
        if span is None:
            return
        leaf = self.next_leaf()
        allowed = span.until is None and not (role in ONE and overlap)
        old = span.signer
        if self.may(
            allowed,
            lambda: rotate_key(role=role, old=old.key_id, new=signer, stepping_down=old, overlap=overlap),
        ):
            span.until = leaf + overlap
            self.keys[role].append(Span(signer, leaf))
            if role == "root":
                self.roots.append(str(signer.key_id))
                (self.folder / "root.key").write_text(f"ed25519:{b64url(self.made.to_bytes(32))}\n")

    def revoke(self, role: str, which: int, leaf: int) -> None:
        span = self.pick(role, which)
        if span is None:
            return
        allowed = span.since <= leaf <= self.next_leaf() and (span.until is None or leaf < span.until)
        allowed = allowed and (role != "root" or span.until is not None)
        key_id = span.signer.key_id
        if self.may(allowed, lambda: revoke_key(role=role, key_id=key_id, from_leaf=leaf, reason="lost")):
            span.until = leaf

    def may(self, allowed: bool, deed: Callable[[], Any]) -> bool:
        """Do what the model allows; what it does not, the house refuses too."""
        if allowed:
            deed()
            return True
        with pytest.raises(KeyRefused):
            deed()
        return False


@pytest.mark.django_db
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(history=st.lists(act, max_size=24))
def test_for_each_role_and_leaf_house_verifier_and_model_count_the_same_keys(
    history: list[tuple[Any, ...]], settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with transaction.atomic():
        folder = founded(settings, tmp_path_factory.mktemp("house"))
        model = Model(folder)
        for role in ("root", "log", "hub", "attester", "sender"):
            model.keys[role] = [Span(load_signer(role, folder), 0)]
        model.roots = [str(load_signer("root", folder).key_id)]
        for name, *arguments in history:
            getattr(model, name)(*arguments)
        while sequence():
            pass
        compare(model)
        transaction.set_rollback(True)


def compare(model: Model) -> None:
    """Hold the house's rows, the verifier's reading of its document, and the log's own leaves against the model."""
    if not any(span.until is None for span in model.keys["log"]):
        return  # a house whose log has no key publishes nothing until it has one
    trust = believed()
    assert list(trust.roots) == model.roots
    for role in ROLES:
        for leaf in range(log_head().size + BEYOND):
            due = {str(span.signer.key_id) for span in model.keys.get(role, []) if span.counts(leaf)}
            assert set(counting(role, leaf).values_list("key_id", flat=True)) == due, (role, leaf)
            assert {key.key_id for key in trust.holding(role) if key.counts_at(leaf)} == due, (role, leaf)
    for role in ONE:
        for leaf in range(log_head().size):
            assert counting(role, leaf).count() <= 1
    for rotated in PublicKey.objects.exclude(since_leaf=0):
        first = Receipt.objects.filter(subject=f"key:{rotated.key_id}").order_by("id")[0]
        at = leaf_index(first.pk)
        assert at is not None and at >= rotated.since_leaf, "no key counts before its own act is in the log"


def believed() -> Trust:
    """The trust file of somebody who believes each client of the house, as its console does."""
    clients = PublicKey.objects.filter(role="client").order_by("id")
    spans = [
        {"key_id": key.key_id, "since_leaf": key.since_leaf}
        | ({"until_leaf": key.until_leaf} if key.until_leaf is not None else {})
        for key in clients
    ]
    return trust_of(add_own(document(), clients=[key.key_id for key in clients], client_keys=spans))
