"""Name each rule that an artifact, the store or the house's certificates can break. Pure."""

from pathlib import Path


class ProvenanceError(Exception):
    """The root of this app's errors. `may_retry` says whether the same call can succeed later, unchanged."""

    may_retry = False


class NotADigest(ProvenanceError):
    """A blob is named by the SHA-256 of its bytes: 64 lower-case hex digits, nothing else."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{str(value)[:70]!r} is no SHA-256: 64 lower-case hex digits are due")
        self.value = value


class TooLarge(ProvenanceError):
    """More bytes came than the limit allows; nothing of them was kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than the limit of {limit} bytes")
        self.limit = limit


class StoreFull(ProvenanceError):
    """The disk under the store took no more; nothing of the blob was kept. Free space, then try again."""

    may_retry = True

    def __init__(self, root: Path, free: int) -> None:
        super().__init__(f"the disk under the store {root} can't take it: {free} bytes are free")
        self.root = root
        self.free = free


class BlobMissing(ProvenanceError):
    """The store holds no blob of this digest."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the store holds no blob {sha256}")
        self.sha256 = sha256


class BlobCorrupt(ProvenanceError):
    """The file kept under a digest has other bytes: the disk or somebody changed it."""

    def __init__(self, sha256: str, found: str) -> None:
        super().__init__(f"the blob {sha256} now has the digest {found}")
        self.sha256 = sha256
        self.found = found


class AuthorityMissing(ProvenanceError):
    """No certificate authority was made in this folder yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds no C2PA authority; the first start makes one")
        self.folder = folder


class AuthorityBroken(ProvenanceError):
    """The authority's files don't fit together, and what is missing can't be made from what is there."""

    def __init__(self, folder: Path, rule: str) -> None:
        super().__init__(f"the C2PA authority in {folder} can't be used: {rule}")
        self.folder = folder
        self.rule = rule


class NotSignable(ProvenanceError):
    """This file gets no credential as it is: `rule` says why."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"not signed: {rule}")
        self.rule = rule


class SigningFailed(ProvenanceError):
    """The signer gave no credential that reads back as trusted; nothing was kept. A remote signer may be down."""

    may_retry = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"signing failed: {reason}")
        self.reason = reason


class NameTaken(ProvenanceError):
    """An artifact's name stands for other bytes already; names are given once."""

    def __init__(self, name: str, sha256: str) -> None:
        super().__init__(f"{name} is the blob {sha256} already")
        self.name = name
        self.sha256 = sha256
