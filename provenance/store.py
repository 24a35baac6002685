"""Keep bytes under their own digest, whole or not at all. No Django models, no c2pa.

A blob lies at `<root>/ab/abcdef…`, its name is the SHA-256 of its bytes, so a second `put` of the
same bytes changes nothing and a changed file betrays itself. The order of writes is the promise:

    1. bytes into `<root>/.incoming/<random>`   a crash leaves a temporary file; sweep() removes it
    2. fsync the file, make it read-only        a crash leaves the same
    3. rename it to its digest                  atomic: readers see no file or the whole file
    4. fsync the folder, then the root          put() returns only when a power cut can't undo it

Two writers of the same bytes rename the same content onto the same name: either order is right.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from provenance.digests import Digested, RunningDigest, Sha256, as_sha256, digest_stream
from provenance.errors import BlobCorrupt, BlobMissing, StoreFull
from receipts.durable import fsync_folder

Stored = Digested

INCOMING: Final = ".incoming"
_BLOB_MODE: Final = 0o440  # read-only, and never the world's: an artifact is its owner's alone
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Store:
    """A content-addressed folder. Holds no state of its own: any number of processes may share one."""

    root: Path

    def put(self, source: BinaryIO | Path, *, max_bytes: int | None = None) -> Stored:
        """Keep the bytes of `source` durably and give their name and size.

        Raises: TooLarge, StoreFull. After either nothing of the blob is visible.
        """
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return self.put(stream, max_bytes=max_bytes)
        with self._noticing_full(), self.draft() as draft:
            tally = RunningDigest(max_bytes=max_bytes)
            with draft.open("wb") as out:
                for chunk in tally.over(source):
                    out.write(chunk)
                out.flush()
                os.fchmod(out.fileno(), _BLOB_MODE)
                os.fsync(out.fileno())
            stored = tally.result()
            self._make_visible(draft, stored.sha256)
            return stored

    def _make_visible(self, draft: Path, sha256: Sha256) -> None:
        final = self.path_of(sha256)
        final.parent.mkdir(mode=0o750, exist_ok=True)
        draft.replace(final)
        fsync_folder(final.parent)
        # Also when another process made the shard a moment ago: its entry may not be on disk yet.
        fsync_folder(self.root)

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Lend an empty private file inside the store's file system, gone at the end unless it was renamed away."""
        incoming = self.root / INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = incoming / secrets.token_hex(16)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def draft_folder(self) -> Iterator[Path]:
        """Lend an empty private folder inside the store's file system, for programs that write files by themselves."""
        incoming = self.root / INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = incoming / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def _noticing_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            free = shutil.disk_usage(self.root).free if self.root.exists() else 0
            raise StoreFull(self.root, free) from error

    def path_of(self, sha256: str) -> Path:
        """Say where a blob lies or would lie. Raises: NotADigest, for anything that could lead elsewhere."""
        name = as_sha256(sha256)
        return self.root / name[:2] / name

    def exists(self, sha256: str) -> bool:
        """Say whether a whole blob of this name is here. Raises: NotADigest."""
        try:
            return stat.S_ISREG(self.path_of(sha256).lstat().st_mode)
        except FileNotFoundError:
            return False

    def open_blob(self, sha256: str) -> BinaryIO:
        """Open a blob for reading; its bytes are not checked again here, verify() does. Raises: BlobMissing."""
        try:
            # A symbolic link is nothing that put() makes: never follow one out of the store.
            handle = os.open(self.path_of(sha256), os.O_RDONLY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(sha256) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BlobMissing(sha256) from None
            raise
        return os.fdopen(handle, "rb")

    def remove(self, sha256: str) -> bool:
        """Remove a blob for good, where that was decided and recorded; false when it was gone. Raises: NotADigest."""
        path = self.path_of(sha256)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        fsync_folder(path.parent)
        return True

    def verify(self, sha256: str) -> Stored:
        """Read a blob again and insist that it still has its name. Raises: BlobMissing, BlobCorrupt."""
        with self.open_blob(sha256) as stream:
            found = digest_stream(stream)
        if found.sha256 != sha256:
            raise BlobCorrupt(sha256, found.sha256)
        return found

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what crashed writes left behind and say how many drafts that were.

        Age is the time since the last write, so a slow upload that is still going on is never taken.
        """
        try:
            drafts = list((self.root / INCOMING).iterdir())
        except FileNotFoundError:
            return 0
        return sum(_remove_if_older(draft, time.time() - older_than_s) for draft in drafts)


def _remove_if_older(draft: Path, before: float) -> bool:
    try:
        if draft.lstat().st_mtime >= before:
            return False
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft)
        else:
            draft.unlink()
    except FileNotFoundError:
        return False  # its writer finished or gave up while we looked
    return True


def house_store() -> Store:
    """Give the store that the settings name."""
    from django.conf import settings

    return Store(Path(settings.STORE_DIR))
