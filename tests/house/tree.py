"""The repository as the rules see it: its files, its modules, its syntax trees."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("config", "jobs", "minting", "provenance", "receipts")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root: what git keeps, or would keep once added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        return tuple(
            sorted(Path(name) for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists())
        )
    # An unpacked archive has no git: everything but what .gitignore names.
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line}
    return tuple(
        sorted(
            path.relative_to(ROOT)
            for path in ROOT.rglob("*")
            if path.is_file() and not ignored & set(path.relative_to(ROOT).parts) and path.suffix != ".pyc"
        )
    )


def texts(*suffixes: str) -> Iterator[tuple[Path, str]]:
    """Every text file of the repository with one of these suffixes (all, when none is named)."""
    for path in tracked():
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            yield path, (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def modules(*apps: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every Python module of the apps, without migrations."""
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] in (apps or APPS) and "migrations" not in path.parts:
            yield path, _parsed(path)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def dotted(path: Path) -> str:
    """The name by which a module is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
