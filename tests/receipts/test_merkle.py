"""The Merkle tree: published vectors, laws over every small tree, another implementation, and forged proofs."""

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.merkle import (
    EMPTY_ROOT,
    Frontier,
    Hash,
    ProofBroken,
    ReadHash,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    root_of,
    subtree_root,
)
from tests.vectors import vectors

MERKLE = vectors("merkle")
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in MERKLE["leaves"]]
ROOTS = [bytes.fromhex(root) for root in MERKLE["roots"]]
NODES = [[bytes.fromhex(node) for node in level] for level in MERKLE["nodes"]]


def plain_root(leaves: Sequence[Hash]) -> Hash:
    """MTH as RFC 6962 §2.1 writes it: the definition, recursive, with nothing clever."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:k]) + plain_root(leaves[k:])).digest()


def reading(leaves: Sequence[Hash]) -> ReadHash:
    """Give full subtrees of these leaves, and nothing that is not full."""

    def read(level: int, index: int) -> Hash:
        row = leaves[index << level : (index + 1) << level]
        assert len(row) == 1 << level, f"subtree ({level}, {index}) is not full"
        return plain_root(row)

    return read


def made(count: int) -> list[Hash]:
    return [leaf_hash(b"entry %d" % index) for index in range(count)]


# --- published vectors ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(9))
def test_every_published_tree_head_is_met(size: int) -> None:
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(leaf)
    assert frontier.root() == root_of(LEAVES[:size]) == ROOTS[size]


def test_the_empty_tree_has_the_published_head() -> None:
    assert EMPTY_ROOT == ROOTS[0] == Frontier().root()


def test_every_published_inner_node_is_met() -> None:
    assert NODES[0] == LEAVES
    for level, row in enumerate(NODES[1:], start=1):
        for index, node in enumerate(row):
            assert node_hash(NODES[level - 1][2 * index], NODES[level - 1][2 * index + 1]) == node


def test_the_published_audit_path_of_leaf_5_in_8_is_met() -> None:
    # The path of leaf d5 in the eight-leaf tree, nearest first: its sibling d4, then the nodes of level 1 and 2.
    path = [NODES[0][4], NODES[1][3], NODES[2][0]]
    assert inclusion_proof(reading(LEAVES), 5, 8) == path
    check_inclusion(LEAVES[5], 5, 8, path, ROOTS[8])


def test_the_rfc_s_own_examples_of_paths_hold() -> None:
    """RFC 6962 §2.1.3: the seven-leaf tree with nodes a..l, its audit paths and consistency proofs."""
    a, b, c, d, e, f, j = LEAVES[:7]
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, last = node_hash(g, h), node_hash(i, j)
    read = reading(LEAVES[:7])
    assert inclusion_proof(read, 0, 7) == [b, h, last]
    assert inclusion_proof(read, 3, 7) == [c, g, last]
    assert inclusion_proof(read, 4, 7) == [f, j, k]
    assert inclusion_proof(read, 6, 7) == [i, k]
    assert consistency_proof(read, 3, 7) == [c, d, g, last]
    assert consistency_proof(read, 4, 7) == [last]
    assert consistency_proof(read, 6, 7) == [i, j, k]


# --- laws over every small tree -----------------------------------------------------------------------


@pytest.mark.parametrize("size", range(71))
def test_the_frontier_agrees_with_the_definition(size: int) -> None:
    frontier = Frontier()
    for leaf in made(size):
        frontier.append(leaf)
    assert frontier.root() == plain_root(made(size))
    assert frontier.size == size
    again = Frontier(size, frontier.hashes)
    again.append(leaf_hash(b"one more"))
    assert again.root() == plain_root([*made(size), leaf_hash(b"one more")])


def test_every_leaf_of_every_tree_up_to_33_leaves_is_proven() -> None:
    leaves = made(33)
    read = reading(leaves)
    for size in range(1, 34):
        root = plain_root(leaves[:size])
        for index in range(size):
            proof = inclusion_proof(read, index, size)
            assert len(proof) <= (size - 1).bit_length()
            check_inclusion(leaves[index], index, size, proof, root)


def test_every_pair_of_trees_up_to_33_leaves_is_proven_consistent() -> None:
    leaves = made(33)
    read = reading(leaves)
    for old in range(34):
        for new in range(old, 34):
            proof = consistency_proof(read, old, new)
            check_consistency(old, plain_root(leaves[:old]), new, plain_root(leaves[:new]), proof)


@given(st.integers(0, 300), st.integers(0, 300))
def test_any_aligned_stretch_is_the_subtree_of_its_leaves(start: int, width: int) -> None:
    leaves = made(600)
    biggest = 1 << max(width.bit_length() - 1, 0)
    aligned = start // biggest * biggest
    assert subtree_root(reading(leaves), aligned, aligned + width) == plain_root(leaves[aligned : aligned + width])


# --- another implementation --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 100, 255, 256, 257])
def test_pymerkle_gives_the_same_roots_and_proofs(size: int) -> None:
    pymerkle: Any = pytest.importorskip("pymerkle")
    entries = [b"entry %d" % index for index in range(size)]
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for entry in entries:
            tree.append_entry(entry)
    leaves = made(size)
    read = reading(leaves)
    root = root_of(leaves)
    assert tree.get_root() == root
    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        # Theirs counts leaves from one and carries the leaf itself as the first of its path.
        theirs = tree.prove_inclusion(index + 1, size)
        ours = inclusion_proof(read, index, size)
        check_inclusion(leaves[index], index, size, ours, root)
        assert set(ours) == set(theirs.path) - {leaves[index]} or size == 1
        pymerkle.verify_inclusion(leaves[index], root, theirs)
        check_inclusion(leaves[index], index, size, [h for h in theirs.path if h != leaves[index]], root)
    for old in {1, size // 2, size - 1, size} & set(range(1, size + 1)):
        assert tree.get_root(old) == root_of(leaves[:old])


# --- forged proofs -----------------------------------------------------------------------------------


@given(st.integers(1, 40), st.data())
def test_a_proof_holds_for_no_other_leaf_index_size_or_root(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    root = plain_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(reading(leaves), index, size)
    with pytest.raises(ProofBroken):
        check_inclusion(leaf_hash(b"another"), index, size, proof, root)
    with pytest.raises(ProofBroken):
        check_inclusion(leaves[index], index, size, proof, leaf_hash(b"another root"))
    other = data.draw(st.integers(0, 80).filter(lambda value: value != index))
    with pytest.raises(ProofBroken):
        check_inclusion(leaves[index], other, size, proof, root)


@given(st.integers(2, 40), st.data())
def test_a_proof_with_a_hash_too_many_too_few_or_changed_is_broken(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    root = plain_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(reading(leaves), index, size)
    at = data.draw(st.integers(0, len(proof) - 1))
    forged = [
        proof[:at] + proof[at + 1 :],
        [*proof[:at], proof[at], *proof[at:]],
        [*proof, bytes(32)],
        [bytes(32), *proof],
        [*proof[:at], bytes(32), *proof[at + 1 :]],
        [*proof[:at], proof[at][:31], *proof[at + 1 :]],
        [*proof[:at], proof[at] + b"\x00", *proof[at + 1 :]],
        [],
    ]
    for attempt in forged:
        with pytest.raises(ProofBroken):
            check_inclusion(leaves[index], index, size, attempt, root)


def test_a_proof_leads_to_no_root_at_all_when_it_is_too_long_or_too_short() -> None:
    """The length is judged before any root is compared: index and size alone decide it."""
    leaves = made(11)
    for index in range(11):
        proof = inclusion_proof(reading(leaves), index, 11)
        with pytest.raises(ProofBroken, match="longer than the tree is high"):
            root_from_inclusion(leaves[index], index, 11, [*proof, bytes(32)])
        with pytest.raises(ProofBroken, match="shorter than the tree is high"):
            root_from_inclusion(leaves[index], index, 11, proof[:-1])
    longer = [*consistency_proof(reading(leaves), 6, 11), bytes(32)]
    with pytest.raises(ProofBroken, match="longer than the tree is high"):
        check_consistency(6, root_of(leaves[:6]), 11, root_of(leaves), longer)
    with pytest.raises(ProofBroken, match="shorter than the tree is high"):
        check_consistency(6, root_of(leaves[:6]), 11, root_of(leaves), longer[:-2])


def test_an_inner_node_can_not_pass_for_a_leaf() -> None:
    """The second-preimage attack that the two prefixes of RFC 6962 prevent."""
    inner = NODES[1][0]
    with pytest.raises(ProofBroken):
        check_inclusion(leaf_hash(LEAVES[0] + LEAVES[1]), 0, 4, [NODES[1][1]], ROOTS[8])
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != inner


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 5), (5, 5), (8, 3)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofBroken):
        inclusion_proof(reading(LEAVES), index, size)
    with pytest.raises(ProofBroken):
        root_from_inclusion(LEAVES[0], index, size, [])


def test_a_rewritten_history_is_never_consistent() -> None:
    leaves = made(20)
    rewritten = [*leaves[:7], leaf_hash(b"rewritten"), *leaves[8:]]
    for old, new in combinations(range(8, 21), 2):
        for proof in (
            consistency_proof(reading(leaves), old, new),
            consistency_proof(reading(rewritten), old, new),
        ):
            with pytest.raises(ProofBroken):
                check_consistency(old, plain_root(leaves[:old]), new, plain_root(rewritten[:new]), proof)


def test_one_size_has_one_root() -> None:
    with pytest.raises(ProofBroken, match="two roots for one size"):
        check_consistency(5, plain_root(made(5)), 5, leaf_hash(b"another"), [])


Forge = Callable[[list[Hash]], list[Hash]]
FORGERIES: dict[str, Forge] = {
    "empty": lambda proof: [],
    "one hash too few": lambda proof: proof[:-1],
    "one hash too many": lambda proof: [*proof, bytes(32)],
    "one hash before": lambda proof: [bytes(32), *proof],
    "a changed hash": lambda proof: [bytes(32), *proof[1:]],
    "a short hash": lambda proof: [proof[0][:31], *proof[1:]],
    "turned round": lambda proof: proof[::-1],
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_consistency_proof_is_broken(forge: Forge) -> None:
    leaves = made(23)
    for old, new in [(3, 7), (6, 23), (4, 9), (16, 23), (22, 23)]:
        proof = consistency_proof(reading(leaves), old, new)
        forged = forge(proof)
        if forged == proof:
            continue
        with pytest.raises(ProofBroken):
            check_consistency(old, plain_root(leaves[:old]), new, plain_root(leaves[:new]), forged)


@pytest.mark.parametrize(("old", "new"), [(3, 2), (-1, 4), (5, -1)])
def test_no_consistency_proof_leads_backwards(old: int, new: int) -> None:
    with pytest.raises(ProofBroken):
        consistency_proof(reading(made(8)), old, new)
    with pytest.raises(ProofBroken):
        check_consistency(old, bytes(32), new, bytes(32), [])


def test_an_empty_tree_leads_to_every_tree_without_a_proof() -> None:
    check_consistency(0, EMPTY_ROOT, 8, ROOTS[8], [])
    with pytest.raises(ProofBroken):
        check_consistency(0, ROOTS[1], 8, ROOTS[8], [])
    with pytest.raises(ProofBroken):
        check_consistency(0, EMPTY_ROOT, 8, ROOTS[8], [ROOTS[1]])


@given(
    st.integers(-2, 40),
    st.integers(-2, 40),
    st.lists(st.binary(min_size=30, max_size=33), max_size=8),
)
def test_no_proof_from_outside_ends_in_anything_but_a_verdict(first: int, second: int, proof: list[bytes]) -> None:
    with contextlib.suppress(ProofBroken):
        check_inclusion(bytes(32), first, second, proof, bytes(32))
    with contextlib.suppress(ProofBroken):
        check_consistency(first, bytes(32), second, bytes(32), proof)


@pytest.mark.parametrize(("size", "hashes"), [(0, 1), (1, 0), (2, 2), (3, 1), (255, 7)])
def test_a_frontier_has_a_hash_for_each_full_subtree(size: int, hashes: int) -> None:
    with pytest.raises(ProofBroken):
        Frontier(size, [bytes(32)] * hashes)
