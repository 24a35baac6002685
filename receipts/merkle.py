"""Grow, prove and check the Merkle tree of receipts. Pure.

Source: RFC 6962 §2.1 (hashes, inclusion and consistency proofs), checked as RFC 9162 §2.1.3-2.1.4 says.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Hash: TypeAlias = bytes
ReadHash: TypeAlias = Callable[[int, int], Hash]  # (level, index) -> hash of the full subtree of 2^level leaves


class ProofBroken(ValueError):
    """A Merkle proof does not lead to the root it was given for: `rule` says where it fails."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def leaf_hash(entry: bytes) -> Hash:
    """Hash one log entry: SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: Hash, right: Hash) -> Hash:
    """Hash two subtrees: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: the roots of its full subtrees, largest first. Appending is amortised O(1)."""

    def __init__(self, size: int = 0, hashes: Sequence[Hash] = ()) -> None:
        if size.bit_count() != len(hashes):
            raise ProofBroken(f"a tree of {size} leaves has {size.bit_count()} full subtrees, not {len(hashes)}")
        self.size = size
        self.hashes = list(hashes)

    @classmethod
    def read(cls, size: int, data: bytes) -> "Frontier":
        """Take up a frontier whose hashes were kept side by side."""
        return cls(size, [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])

    def append(self, leaf: Hash) -> None:
        """Add one leaf hash at index `size`."""
        carried, size = leaf, self.size
        while size & 1:
            carried = node_hash(self.hashes.pop(), carried)
            size >>= 1
        self.hashes.append(carried)
        self.size += 1

    def root(self) -> Hash:
        """Give the tree head of all leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        carried = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            carried = node_hash(left, carried)
        return carried


def root_of(leaves: Iterable[Hash]) -> Hash:
    """Give the tree head of these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def subtree_root(read: ReadHash, start: int, end: int) -> Hash:
    """Give MTH(D[start:end]) from stored full subtrees; `start` is a multiple of the largest power inside."""
    if start == end:
        return EMPTY_ROOT
    peaks: list[Hash] = []
    at = start
    while at < end:
        level = (end - at).bit_length() - 1
        peaks.append(read(level, at >> level))
        at += 1 << level
    carried = peaks[-1]
    for left in reversed(peaks[:-1]):
        carried = node_hash(left, carried)
    return carried


def inclusion_proof(read: ReadHash, index: int, size: int) -> list[Hash]:
    """Prove that leaf `index` is in the tree of `size` leaves: the audit path, nearest first.

    Raises: ProofBroken, when there is no such leaf. Source: RFC 6962 §2.1.1.
    """
    if not 0 <= index < size:
        raise ProofBroken(f"leaf {index} is not in a tree of {size} leaves")
    path: list[Hash] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(subtree_root(read, split, end))
            end = split
        else:
            path.append(subtree_root(read, start, split))
            start = split
    return path[::-1]


def root_from_inclusion(leaf: Hash, index: int, size: int, proof: Sequence[Hash]) -> Hash:
    """Compute the root that an inclusion proof leads to.

    Raises: ProofBroken, when index, size and proof length can't belong together. Source: RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofBroken(f"leaf {index} is not in a tree of {size} leaves")
    # Below the node where the ways to this leaf and to the last one part, siblings stand on either side; above it,
    # all stand on the left, one for each full subtree before it. That is §2.1.3.2's walk, counted beforehand.
    below = (index ^ (size - 1)).bit_length()
    due = below + (index >> below).bit_count()
    for sibling in proof:
        if len(sibling) != HASH_SIZE:
            raise ProofBroken(f"a proof hash has {len(sibling)} bytes, not {HASH_SIZE}")
    if len(proof) > due:
        raise ProofBroken("the proof is longer than the tree is high")
    if len(proof) < due:
        raise ProofBroken("the proof is shorter than the tree is high")
    carried, sha256 = leaf, hashlib.sha256
    for sibling in proof[:below]:
        both = sibling + carried if index & 1 else carried + sibling
        carried = sha256(b"\x01" + both).digest()
        index >>= 1
    for sibling in proof[below:]:
        carried = sha256(b"\x01" + sibling + carried).digest()
    return carried


def check_inclusion(leaf: Hash, index: int, size: int, proof: Sequence[Hash], root: Hash) -> None:
    """Check that `leaf` is at `index` in the tree with `root`.

    Raises: ProofBroken.
    """
    computed = root_from_inclusion(leaf, index, size, proof)
    if computed != root:
        raise ProofBroken(f"the proof leads to root {computed.hex()}, not {root.hex()}")


def consistency_proof(read: ReadHash, old: int, new: int) -> list[Hash]:
    """Prove that the tree of `new` leaves begins with the tree of `old` leaves.

    Raises: ProofBroken, unless 0 <= old <= new. Source: RFC 6962 §2.1.2.
    """
    if not 0 <= old <= new:
        raise ProofBroken(f"no consistency proof leads from {old} to {new} leaves")
    if old in (0, new):
        return []
    path: list[Hash] = []
    start, end, whole = 0, new, True
    while old != end:
        split = start + _split(end - start)
        if old <= split:
            path.append(subtree_root(read, split, end))
            end = split
        else:
            path.append(subtree_root(read, start, split))
            start, whole = split, False
    if not whole:
        path.append(subtree_root(read, start, end))
    return path[::-1]


def check_consistency(old: int, old_root: Hash, new: int, new_root: Hash, proof: Sequence[Hash]) -> None:
    """Check that the newer tree only appended to the older.

    Raises: ProofBroken. Source: RFC 9162 §2.1.4.2.
    """
    if not 0 <= old <= new:
        raise ProofBroken(f"no consistency proof leads from {old} to {new} leaves")
    if old in (0, new):
        if proof:
            raise ProofBroken("a proof where none is due")
        if old == new and old_root != new_root:
            raise ProofBroken(f"two roots for one size {new}: {old_root.hex()} and {new_root.hex()}")
        if old == 0 and old_root != EMPTY_ROOT:
            raise ProofBroken("the older tree is empty, its root is not")
        return
    if any(len(item) != HASH_SIZE for item in proof):
        raise ProofBroken(f"a proof hash does not have {HASH_SIZE} bytes")
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    if not path:
        raise ProofBroken("the proof is empty")
    first = second = path[0]
    for item in path[1:]:
        if last == 0:
            raise ProofBroken("the proof is longer than the tree is high")
        if node & 1 or node == last:
            first = node_hash(item, first)
            second = node_hash(item, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, item)
        node >>= 1
        last >>= 1
    if last:
        raise ProofBroken("the proof is shorter than the tree is high")
    if first != old_root:
        raise ProofBroken(f"the proof leads to the older root {first.hex()}, not {old_root.hex()}")
    if second != new_root:
        raise ProofBroken(f"the proof leads to the newer root {second.hex()}, not {new_root.hex()}")


def _split(width: int) -> int:
    """The largest power of two below `width` (RFC 6962's k)."""
    return 1 << ((width - 1).bit_length() - 1)
