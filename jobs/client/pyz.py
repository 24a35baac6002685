"""`tallystick-verify.pyz`: the verifier as one file that any Python runs. No network but an audit's own, no compiler.

It is this very package, zipped with the two libraries in pure Python that it needs; nothing is written anew for it,
so that it gives the verdicts that `tallystick verify` gives. What it can't do: Content Credentials (`credential` is
`unknown`, as its library is compiled), asking a node (`--rpc`), and asking a house for work.
"""

import argparse
import ast
import hashlib
import io
import sys
import zipfile
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from jobs.client import cli

SEEDS: Final = ("jobs.client.pyz",)
# Doors that this file does not open: they need libraries that are compiled, or a house to talk to.
LEFT_OUT: Final = (
    "jobs.client.http",
    "jobs.client.onchain",
    "jobs.client.promises",
    "jobs.runners",
    "receipts.chain.client",
)
LIBRARIES: Final = ("ecdsa", "rfc8785", "six")
_OURS: Final = frozenset({"jobs", "minting", "provenance", "receipts"})
_ROOT: Final = Path(__file__).resolve().parents[2]
_MOMENT: Final = (2026, 1, 1, 0, 0, 0)  # one time for all files: the same sources give the same bytes
_MAIN: Final = b"""\
import sys

if sys.version_info < (3, 11):
    sys.stderr.write("tallystick-verify: Python 3.11 or newer is due, this is %d.%d\\n" % sys.version_info[:2])
    sys.exit(2)

from jobs.client.pyz import main

sys.exit(main())
"""


def main() -> int:
    """Run one command of the verifier and give its exit code."""
    cli.parser = parser  # the doors that are in this file, and no others
    return cli.main()


def parser() -> argparse.ArgumentParser:
    """Describe the commands that need nothing but this file."""
    shared = cli._Parser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    words = "Check what a house says, with this one file. It is made of the house's own verifier."
    top = cli._Parser(prog="tallystick-verify", description=words, parents=[shared])
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=cli._Parser)

    verify = commands.add_parser("verify", parents=[shared], help="check a tally, claim by claim")
    verify.add_argument("file", metavar="FILE", type=Path, help="the tally")
    verify.add_argument("--trust", metavar="T", type=Path, required=True, help="the trust file: whose keys count")
    verify.add_argument("--artifact", metavar="A", type=Path, help="the file that the job made")
    verify.set_defaults(run=cli._verify, rpc=None)

    audit = commands.add_parser("audit", parents=[shared], help="check a whole log, and the receipts at hand")
    audit.add_argument("place", metavar="DIR|URL", help="an export, a folder with a log, or its address")
    audit.add_argument("--trust", metavar="T", type=Path, required=True, help="the trust file: whose keys count")
    audit.add_argument("--receipts", metavar="FILE", type=Path, help="exported receipts (an export brings its own)")
    audit.add_argument("--resume", metavar="STATE", type=Path, help="keep here how far it came, and go on from there")
    audit.set_defaults(run=cli._audit)

    show = commands.add_parser("trust", parents=[shared], help="show what a trust file believes")
    show.add_argument("file", metavar="FILE", type=Path)
    show.set_defaults(run=cli._trust_show)
    return top


# --- building it -----------------------------------------------------------------------------------


def build() -> bytes:
    """Make the file: a zip behind a line that finds Python."""
    files = {"__main__.py": _MAIN, **_our_modules(), **_library_files()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return b"#!/usr/bin/env python3\n" + packed.getvalue()


def _our_modules() -> dict[str, bytes]:
    """Follow the imports from the verifier's door to every module of ours that it may load."""
    found: dict[str, bytes] = {}
    left = list(SEEDS)
    while left:
        name = left.pop()
        path = _path_of(name)
        if path is None or str(path.relative_to(_ROOT)) in found or name.startswith(LEFT_OUT):
            continue
        source = path.read_bytes()
        found[str(path.relative_to(_ROOT))] = source
        if "." in name:
            left.append(name.rpartition(".")[0])
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _path_of(name: str) -> Path | None:
    if name.partition(".")[0] not in _OURS:
        return None
    place = _ROOT / name.replace(".", "/")
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _library_files() -> dict[str, bytes]:
    """Take the libraries' sources and licences as they are installed here."""
    found: dict[str, bytes] = {}
    for library in LIBRARIES:
        spec = find_spec(library)
        assert spec is not None and spec.origin is not None
        origin = Path(spec.origin)
        if not spec.submodule_search_locations:  # a single file; once it is loaded, `six` calls itself an empty package
            found[origin.name] = origin.read_bytes()
        else:
            for path in sorted(origin.parent.glob("*.py")):
                if not path.name.startswith("test_"):
                    found[f"{library}/{path.name}"] = path.read_bytes()
        for item in distribution(library).files or ():
            if "LICENSE" in item.name.upper():
                found[f"licences/{library}.txt"] = Path(str(item.locate())).read_bytes()
    found["licences/tallystick.txt"] = (_ROOT / "LICENSE").read_bytes()
    return found


def digest(data: bytes) -> str:
    """Name a built file for whoever compares it."""
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
