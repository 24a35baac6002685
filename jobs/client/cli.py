"""`tallystick`: check a tally, keep a trust file, ask a house for work. No Django, started in a moment.

Exit codes: 0 done, or all required claims hold; 1 a claim is broken, or the house said no; 2 bad usage, or
no tally or trust file; 3 a required claim stays unknown; 4 made by a newer house; 69 the house can't be
reached; 70 a fault of this program.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jobs.client.words import one_line

if TYPE_CHECKING:
    from jobs.client.http import Submitted, TallystickClient
    from jobs.client.trust import Trust

EXIT_DONE: Final = 0
EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_OPEN: Final = 3
EXIT_UNREACHABLE: Final = 69
EXIT_OUR_FAULT: Final = 70
EXIT_INTERRUPTED: Final = 130
DEFAULT_URL: Final = "http://127.0.0.1:8000"
_ARTIFACT_LIMIT: Final = 256 * 1024 * 1024


class BadUsage(Exception):
    """What was typed can't be done; the message says what is due instead."""


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{message} (see {self.prog} --help)")


Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. Whatever happens, nobody sees a traceback."""
    given = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in given
    try:
        options = parser().parse_args(given)
        return int(options.run(options))
    except BadUsage as error:
        return _say_no(str(error), EXIT_USAGE, as_json)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`); what is left unwritten must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Exception as error:
        return _explain(error, as_json)


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object instead of lines"
    )
    words = "Check what a house says, keep whom you trust, ask for work."
    top = _Parser(prog="tallystick", description=words, parents=[shared])
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    verify = commands.add_parser("verify", parents=[shared], help="check a tally offline, claim by claim")
    verify.add_argument("file", metavar="FILE", type=Path, help="the tally")
    verify.add_argument("--trust", metavar="T", type=Path, required=True, help="the trust file: whose keys count")
    verify.add_argument("--artifact", metavar="A", type=Path, help="the file that the job made")
    verify.add_argument("--rpc", metavar="URL", help="a node of the chain, to ask what became of anchor and mint")
    verify.set_defaults(run=_verify)

    audit = commands.add_parser("audit", parents=[shared], help="check a whole log, and the receipts at hand")
    audit.add_argument("place", metavar="DIR|URL", help="an export, a folder with a log, or its address")
    audit.add_argument("--trust", metavar="T", type=Path, required=True, help="the trust file: whose keys count")
    audit.add_argument("--receipts", metavar="FILE", type=Path, help="exported receipts (an export brings its own)")
    audit.add_argument("--resume", metavar="STATE", type=Path, help="keep here how far it came, and go on from there")
    audit.set_defaults(run=_audit)

    trust = commands.add_parser("trust", parents=[shared], help="keep and show whom you trust")
    acts = trust.add_subparsers(metavar="ACT", required=True, parser_class=_Parser)
    add = acts.add_parser("add", parents=[shared], help="fetch a house's keys, if its root key is the one you know")
    add.add_argument("url", metavar="URL", help="the house's address")
    add.add_argument("--root", metavar="FINGERPRINT", required=True, help="SHA-256 of its root key, got another way")
    add.add_argument("--client-key", metavar="K", action="append", default=[], help="a client's key id to believe")
    add.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("tallystick.trust.json"))
    add.set_defaults(run=_trust_add)
    show = acts.add_parser("show", parents=[shared], help="show what a trust file believes")
    show.add_argument("file", metavar="FILE", type=Path)
    show.set_defaults(run=_trust_show)

    promises = commands.add_parser("promises", parents=[shared], help="see whether the hub kept its promises")
    promises.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="where `submit` kept them")
    promises.add_argument("--trust", metavar="T", type=Path, required=True, help="the trust file: whose keys count")
    promises.add_argument("--url", metavar="URL", help="the log's address, if not the trust file's")
    promises.add_argument("--check", metavar="FILE", type=Path, help="judge the evidence of a broken one, offline")
    promises.set_defaults(run=_promises)

    house = _Parser(add_help=False)
    house.add_argument("--url", default=os.environ.get("TALLYSTICK_URL", DEFAULT_URL), help="TALLYSTICK_URL")
    house.add_argument("--timeout", type=float, default=600.0, metavar="S", help="longest wait, in seconds")
    _add_job_commands(commands, [shared, house])
    return top


def _add_job_commands(commands: Any, parents: list[_Parser]) -> None:
    epilog = "The API key comes from TALLYSTICK_API_KEY, or from the file that TALLYSTICK_API_KEY_FILE names."
    submit = commands.add_parser("submit", parents=parents, epilog=epilog, help="ask for a job")
    submit.add_argument("prompt", nargs="?", help="what a picture should show; the same as -i prompt=…")
    submit.add_argument("-i", "--input", metavar="NAME=VALUE", action="append", default=[], help="any other input")
    submit.add_argument("--kind", default="text-to-image")
    submit.add_argument("--model", default="tiny-shapes")
    submit.add_argument("--max-price", type=int, metavar="N", help="smallest token units for each unit served")
    submit.add_argument("--key", type=Path, metavar="FILE", help="sign the request with this client key")
    submit.add_argument("--idempotency-key", metavar="K", help="repeat it to be told the first answer again")
    submit.add_argument("--promises", metavar="DIR", type=Path, help="keep the hub's promise there")
    submit.add_argument("--wait", action="store_true", help="stay until the job and its evidence are complete")
    submit.set_defaults(run=_submit)
    listing = commands.add_parser("list", parents=parents, epilog=epilog, help="list the newest jobs")
    listing.add_argument("--state")
    listing.add_argument("--limit", type=int, default=20)
    listing.set_defaults(run=_list)
    for name, run, words in (
        ("get", _get, "show one job"),
        ("watch", _watch, "follow a job until its evidence is complete"),
        ("cancel", _cancel, "call a job off"),
    ):
        command = commands.add_parser(name, parents=parents, epilog=epilog, help=words)
        command.add_argument("job", metavar="JOB")
        command.set_defaults(run=run)
    download = commands.add_parser("download", parents=parents, epilog=epilog, help="take tally and output away")
    download.add_argument("job", metavar="JOB")
    download.add_argument("-o", "--output", metavar="FOLDER", type=Path, default=Path())
    download.add_argument("--disclose", metavar="INPUT", action="append", default=[], help="an input the tally shows")
    download.set_defaults(run=_download)


# --- verify and trust ----------------------------------------------------------------------------


def _verify(options: argparse.Namespace) -> int:
    from jobs.client import report as shown
    from jobs.client.tally_format import MAX_TALLY_BYTES
    from jobs.client.verify import verify_tally

    trust = _read_trust(options.trust)
    tally = _read_file(options.file, MAX_TALLY_BYTES)
    artifact = _read_file(options.artifact, _ARTIFACT_LIMIT) if options.artifact else None
    report = verify_tally(tally, trust, artifact=artifact, rpc=options.rpc)
    if _json(options):
        _print_json(shown.as_json(report, trust))
    else:
        for line in shown.lines(report, trust, colour=_colours(), plain=_plain()):
            _print(line)
    return report.exit_code


def _audit(options: argparse.Namespace) -> int:
    from jobs.client import report as shown
    from jobs.client.audit import audit, audit_part, bar, quiet
    from jobs.client.auditing.receipts import NotAnExport
    from jobs.client.auditing.source import NoLogThere, source_at
    from jobs.client.auditing.state import NotAState
    from receipts.exported import PROOFS, RECEIPTS

    trust, folder = _read_trust(options.trust), Path(options.place)
    receipts = options.receipts
    if receipts is None and (folder / RECEIPTS).is_file():
        receipts = folder / RECEIPTS
    progress = bar if sys.stderr.isatty() and not _json(options) else quiet
    try:
        if (folder / PROOFS).is_file():
            done = audit_part(folder, trust, progress=progress)
        else:
            log = source_at(options.place)
            done = audit(log, trust, receipts=receipts, state_path=options.resume, progress=progress)
    except (NoLogThere, NotAnExport, NotAState) as error:
        raise BadUsage(str(error)) from None
    except OSError as error:
        raise BadUsage(f"{error.filename} can't be read or written: {error.strerror}") from None
    if _json(options):
        _print_json({**shown.as_json(done.report, done.trust), "counts": done.counts})
    else:
        for line in shown.lines(done.report, done.trust, colour=_colours(), plain=_plain()):
            _print(line)
    return done.report.exit_code


def _plain() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"


def _trust_add(options: argparse.Namespace) -> int:
    from jobs.client.http import TallystickClient
    from jobs.client.trust import WELL_KNOWN, NotATrustFile, add_own, fingerprint, read_trust, require_root, trust_of

    with TallystickClient(options.url.removesuffix(WELL_KNOWN)) as client:
        document = client.well_known()
    try:
        trust = trust_of(document)
        require_root(trust, options.root)
        before = read_trust(_read_file(options.output, 1024 * 1024)) if options.output.exists() else None
        if before is not None and before.root not in trust.roots:
            raise BadUsage(f"{options.output} trusts another root key, {fingerprint(before.root)}: name another file")
        clients = {*options.client_key, *(before.clients if before else ())}
        own_before = before.document.get("own", {}) if before else {}
        kept = add_own(
            document,
            clients=clients,
            require=own_before.get("require", []),
            client_keys=own_before.get("client_keys", []),
        )
        trust_of(kept)
    except NotATrustFile as error:
        raise BadUsage(f"not kept: {error}") from None
    _write_file(options.output, (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode())
    told = {
        "file": str(options.output),
        "log": trust.origin,
        "root": fingerprint(trust.root),
        "clients": sorted(clients),
    }
    if _json(options):
        _print_json(told)
    else:
        _print(f"{options.output}: the house of {trust.origin}, root {told['root']}, {len(clients)} clients believed")
    return EXIT_DONE


def _trust_show(options: argparse.Namespace) -> int:
    from jobs.client.trust import fingerprint

    trust = _read_trust(options.file)
    told: dict[str, Any] = {
        "log": trust.origin,
        "root": fingerprint(trust.root),
        "keys": {key.role: [other.key_id for other in trust.holding(key.role)] for key in trust.keys},
        "clients": sorted(trust.clients),
        "chain_id": trust.chain.chain_id if trust.chain else None,
        "witnesses": [str(vkey) for vkey in trust.witnesses],
        "require": list(trust.require),
        "embedded": trust.embedded,
    }
    if _json(options):
        _print_json(told)
    else:
        for name, value in told.items():
            _print(f"{name:<10} {one_line(value)}")
    return EXIT_DONE


# --- promises ------------------------------------------------------------------------------------


def _promises(options: argparse.Namespace) -> int:
    import datetime as dt

    from jobs.client.auditing.source import NoLogThere, source_at
    from jobs.client.promises import (
        BROKEN_AS,
        KEPT_AS,
        MAX_PROMISE_BYTES,
        Judged,
        NotAPromise,
        State,
        judge,
        look,
        read_promise,
    )
    from jobs.client.verdicts import Unknown

    trust = _read_trust(options.trust)
    if options.check is not None:
        return _check_evidence(options, trust)
    folder = options.folder or _promises_folder()
    files = sorted(folder.glob(f"*{KEPT_AS}"))
    if options.folder and not folder.is_dir():
        raise BadUsage(f"{folder} is no folder")
    try:
        promised = [read_promise(_read_file(path, MAX_PROMISE_BYTES)) for path in files]
    except NotAPromise as error:
        raise BadUsage(f"not a promise: {error}") from None
    try:
        seen = look(source_at(options.url or trust.log_url), trust, now=dt.datetime.now(dt.UTC)) if files else None
        judged = [judge(item, trust, seen) for item in promised if seen]
    except (Unknown, NoLogThere) as error:
        judged = [Judged(item.nid, State.UNKNOWN, str(error)) for item in promised]
    for item in judged:
        if item.evidence is not None:
            _write_file(folder / f"{item.nid}{BROKEN_AS}", item.evidence)
    if _json(options):
        _print_json([{"nid": item.nid, "state": item.state, "detail": item.words} for item in judged])
    else:
        for item in judged:
            _print(f"{item.state:<8} {item.nid}  {one_line(item.words)}")
        counts = ", ".join(f"{sum(item.state is one for item in judged)} {one}" for one in State)
        _print(f"{len(judged)} promises: {counts}")
    return _exit_of({item.state for item in judged})


def _check_evidence(options: argparse.Namespace, trust: "Trust") -> int:
    from jobs.client.promises import MAX_EVIDENCE_BYTES, NotAPromise, check_evidence

    try:
        state, lines = check_evidence(_read_file(options.check, MAX_EVIDENCE_BYTES), trust)
    except NotAPromise as error:
        raise BadUsage(f"{options.check}: {error}") from None
    if _json(options):
        _print_json({"state": state, "lines": lines})
    else:
        for line in lines:
            _print(one_line(line))
        _print(f"{options.check.name}: {state}")
    return _exit_of({state})


def _exit_of(states: set[Any]) -> int:
    """Give 0 where all are kept, 1 where one is broken, 3 where one is open."""
    if "broken" in states:
        return EXIT_REFUSED
    return EXIT_OPEN if states & {"pending", "unknown"} else EXIT_DONE


def _promises_folder() -> Path:
    home = os.environ.get("TALLYSTICK_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share" / "tallystick") / "promises"


def _keep_promise(options: argparse.Namespace, done: "Submitted") -> None:
    """Keep the promise of an answer. The job is submitted by now: what goes wrong here is told, and no more."""
    from jobs.client.promises import NotAPromise, keep_promise

    folder = options.promises or _promises_folder()
    try:
        keep_promise(folder, done.promise, nid=done.nid, job_id=done.job_id, url=options.url)
    except (NotAPromise, OSError) as error:
        print(f"tallystick: the hub's promise is not kept: {one_line(str(error))}", file=sys.stderr)


# --- jobs ----------------------------------------------------------------------------------------


def _submit(options: argparse.Namespace) -> int:
    from receipts.keys import Ed25519Signer, KeyUnusable, read_key_file

    signer: Ed25519Signer | None = None
    if options.key is not None:
        try:
            key = read_key_file(options.key)
        except KeyUnusable as error:
            raise BadUsage(str(error)) from None
        if not isinstance(key, Ed25519Signer):
            raise BadUsage(f"{options.key} is no Ed25519 key: requests are signed with one")
        signer = key
    with _house(options) as client:
        done = client.submit(
            options.kind,
            _inputs(options),
            model=options.model,
            signer=signer,
            idempotency_key=options.idempotency_key,
            max_price=options.max_price,
        )
        _keep_promise(options, done)
        if not _json(options):
            _print(f"{done.job_id}  {'submitted' if done.created else 'submitted before'}  {done.nid}")
        elif not options.wait:
            _print_json(done.answer)
        return _follow(client, done.job_id, options) if options.wait else EXIT_DONE


def _list(options: argparse.Namespace) -> int:
    with _house(options) as client:
        jobs = client.list_jobs(state=options.state, limit=options.limit)
    if _json(options):
        _print_json(jobs)
        return EXIT_DONE
    for job in jobs:
        _print(_job_line(job))
    _print(f"{len(jobs)} jobs")
    return EXIT_DONE


def _get(options: argparse.Namespace) -> int:
    with _house(options) as client:
        return _show_job(client.get(options.job), options)


def _watch(options: argparse.Namespace) -> int:
    with _house(options) as client:
        return _follow(client, options.job, options)


def _cancel(options: argparse.Namespace) -> int:
    with _house(options) as client:
        return _show_job(client.cancel(options.job), options)


def _download(options: argparse.Namespace) -> int:
    with _house(options) as client:
        kept = client.download(options.job, options.output, disclose=tuple(options.disclose))
    if _json(options):
        _print_json({"files": [str(path) for path in kept]})
        return EXIT_DONE
    for path in kept:
        _print(str(path))
    return EXIT_DONE


def _follow(client: "TallystickClient", job_id: str, options: argparse.Namespace) -> int:
    job: Mapping[str, Any] = {}
    for job in client.watch(job_id, timeout_seconds=options.timeout):
        if not _json(options):
            _print(_job_line(job))
    if _json(options):
        _print_json(job)
    return EXIT_DONE if job.get("state") == "completed" else EXIT_REFUSED


def _house(options: argparse.Namespace) -> "TallystickClient":
    from jobs.client.http import TallystickClient

    return TallystickClient(options.url, _api_key())


def _api_key() -> str:
    """Read the API key from the environment; an argument would stand in everybody's process list."""
    if named := os.environ.get("TALLYSTICK_API_KEY_FILE"):
        return _read_file(Path(named), 4096).decode("ascii", "replace").strip()
    key = os.environ.get("TALLYSTICK_API_KEY", "")
    if not key:
        raise BadUsage("no API key: set TALLYSTICK_API_KEY, or TALLYSTICK_API_KEY_FILE to a file that holds it")
    return key


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    """Read inputs as the kind's schema types them: whole numbers as numbers, all else as text."""
    from jobs.runners import runner_for
    from jobs.runners.base import BadInput

    try:
        fields = {field.name: field for field in runner_for(options.kind).schema.fields}
    except BadInput as error:
        raise BadUsage(f"--{error.field} {error.rule}") from None
    inputs: dict[str, Any] = {} if options.prompt is None else {"prompt": options.prompt}
    for pair in options.input:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise BadUsage(f"an input reads NAME=VALUE, not {pair[:60]!r}")
        if name in inputs:
            raise BadUsage(f"the input {name} is given twice")
        whole = name in fields and fields[name].type == "integer" and text.removeprefix("-").isdecimal()
        inputs[name] = int(text) if whole and len(text) <= 17 else text
    return inputs


def _show_job(job: Mapping[str, Any], options: argparse.Namespace) -> int:
    if _json(options):
        _print_json(job)
        return EXIT_DONE
    for name, value in job.items():
        if value not in (None, "", [], {}):
            _print(f"{name:<16} {one_line(value)}")
    return EXIT_DONE


def _job_line(job: Mapping[str, Any]) -> str:
    progress = job.get("progress") or {}
    steps = f" {progress['step']}/{progress['steps']}" if progress.get("steps") else ""
    evidence = "" if job.get("evidence") in (None, "none") else f"  evidence: {job['evidence']}"
    reason = f" ({job['evidence_reason']})" if job.get("evidence_reason") else ""
    failure = f"  {job['failure_class']}" if job.get("failure_class") else ""
    return one_line(f"{job.get('job_id')}  {job.get('kind')}  {job.get('state')}{steps}{evidence}{reason}{failure}")


# --- files, words, ends --------------------------------------------------------------------------


def _read_trust(path: Path) -> "Trust":
    from jobs.client.trust import MAX_TRUST_BYTES, NotATrustFile, read_trust

    try:
        return read_trust(_read_file(path, MAX_TRUST_BYTES))
    except NotATrustFile as error:
        raise BadUsage(f"{path}: {error}") from None


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise BadUsage(f"{path} can't be read: {error.strerror}") from None
    if len(data) > limit:
        raise BadUsage(f"{path} is larger than the {limit} bytes that are read")
    return data


def _write_file(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        raise BadUsage(f"{path} can't be written: {error.strerror}") from None


def _explain(error: Exception, as_json: bool) -> int:
    """Say in one line what went wrong, and whether trying again may help."""
    from jobs.client.tally_format import NotATally

    if isinstance(error, NotATally):
        return _say_no(f"not a tally: {error}", EXIT_USAGE, as_json)
    if error.__class__.__module__ == "jobs.client.http":
        from jobs.client.http import Unreachable

        hint = " (try again later)" if getattr(error, "may_retry", False) else ""
        code = EXIT_UNREACHABLE if isinstance(error, Unreachable) else EXIT_REFUSED
        return _say_no(f"{error}{hint}", code, as_json)
    if error.__class__.__module__ == "jobs.runners.base":
        return _say_no(str(getattr(error, "detail", error)), EXIT_USAGE, as_json)
    if os.environ.get("TALLYSTICK_DEBUG"):
        raise error
    where = type(error).__name__
    return _say_no(
        f"a fault of this program ({where}: {one_line(str(error))[:160]}); set TALLYSTICK_DEBUG=1 to see where",
        EXIT_OUR_FAULT,
        as_json,
    )


def _say_no(message: str, code: int, as_json: bool) -> int:
    line = one_line(message)
    print(f"tallystick: {line}", file=sys.stderr)
    if as_json:
        _print_json({"error": line, "exit": code})
    return code


def _json(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "json", False))


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _print(line: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "replace").decode(encoding), flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    sys.exit(main())
