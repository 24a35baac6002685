"""Run the C2PA library's reader, here or in a process made for it.

Five kilobytes of manifest can make the library fill any amount of memory: it makes room for a CBOR
string of the length that the file claims. So bytes from elsewhere are read by a child of bounded memory
and time, which may die of them; only what we signed ourselves is read in this process.

This file is also the child's program and runs by its path, isolated: it imports nothing of ours.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypedDict

BASE_MEMORY_BYTES: Final = 1024 * 1024 * 1024  # Python, the library and a manifest; the asset comes four times on top
CPU_SECONDS: Final = 20
WALL_SECONDS: Final = 60
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class Answer(TypedDict, total=False):
    """Either `content` and `embedded`, or `reason` and `absent`."""

    content: dict[str, Any]
    embedded: bool
    reason: str
    absent: bool


def read_here(*, settings: Mapping[str, Any], mime: str, asset: bytes, manifest: bytes | None) -> Answer:
    """Read in this process. A context is made for each call: none survives a fork, and it costs little."""
    try:
        import c2pa
    except ImportError:
        return {"reason": "the C2PA library (c2pa-python) is not installed here", "absent": False}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(mime, BytesIO(asset), manifest, context=context) as reader,
        ):
            embedded = manifest is None and bool(reader.is_embedded())
            return {"content": json.loads(reader.json()), "embedded": embedded}
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return {"reason": "carries no credential", "absent": True}
    except (c2pa.C2paError, ValueError, TypeError, MemoryError) as error:
        return {"reason": " ".join(str(error).split())[:200] or type(error).__name__, "absent": False}


def read_contained(*, settings: Mapping[str, Any], mime: str, asset: bytes, manifest: bytes | None) -> Answer:
    """Read in a child of bounded memory and time. It costs about 0.15 s, nearly all of it loading the library."""
    header = {"settings": settings, "mime": mime, "asset": len(asset), "manifest": manifest and len(manifest)}
    # Isolated (-I): neither the environment nor the current folder choose what the child imports; and
    # it inherits no environment, because keys may stand there and this child reads hostile bytes.
    program = [sys.executable, "-I", __file__]
    try:
        child = subprocess.run(
            program,
            input=b"%s\n%s%s" % (json.dumps(header).encode(), asset, manifest or b""),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WALL_SECONDS,
            cwd=Path(__file__).parent,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"not read within {WALL_SECONDS} s", "absent": False}
    if child.returncode != 0:
        return {"reason": f"the C2PA library died of it (exit {child.returncode})", "absent": False}
    answer: Answer = json.loads(child.stdout)
    return answer


def main() -> None:
    """Be the child: bound yourself, read one asset from stdin, answer on stdout."""
    header = json.loads(sys.stdin.buffer.readline())
    asset = sys.stdin.buffer.read(header["asset"])
    manifest = None if header["manifest"] is None else sys.stdin.buffer.read(header["manifest"])
    memory = BASE_MEMORY_BYTES + 4 * len(asset)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = json.dumps(read_here(settings=header["settings"], mime=header["mime"], asset=asset, manifest=manifest))
    if len(answer) > MAX_ANSWER_BYTES:
        answer = json.dumps({"reason": f"its manifest has more than {MAX_ANSWER_BYTES} bytes", "absent": False})
    sys.stdout.write(answer)


if __name__ == "__main__":
    main()
