"""Show verdicts to people and to programs. Pure."""

from typing import Any, Final

from jobs.client.trust import Trust, fingerprint
from jobs.client.verdicts import Fault, Verdict, Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, EXIT_NEWER, Report
from jobs.client.words import one_line

_MARKS: Final = {Word.HOLDS: "✓", Word.BROKEN: "✗", Word.UNKNOWN: "?", Word.NOT_CLAIMED: "–"}
_PLAIN_MARKS: Final = {Word.HOLDS: "+", Word.BROKEN: "X", Word.UNKNOWN: "?", Word.NOT_CLAIMED: "-"}
_COLOURS: Final = {Word.HOLDS: "32", Word.BROKEN: "31;1", Word.UNKNOWN: "33", Word.NOT_CLAIMED: "2"}
_WIDTH: Final = 18


def lines(report: Report, trust: Trust, *, colour: bool = False, plain: bool = False) -> list[str]:
    """Write one line a claim, then what the house can't claim, then the sum."""
    marks = _PLAIN_MARKS if plain else _MARKS
    told = [_line(item, item.claim in trust.require, marks, colour) for item in report.verdicts]
    if report.simulated:
        told.append(_painted("SIMULATED: a mock GPU ran this job; nothing was computed.", "33;1", colour))
    if trust.embedded:
        told.append(
            "An embedded house: its chain is its own, so whoever runs it could rewrite it."
            if trust.witnesses
            else "An embedded house: no witness vouches for its log and its chain is its own, "
            "so whoever runs it could show others another history."
        )
    told.append(_painted(summary(report, trust), "31;1" if report.exit_code == EXIT_BROKEN else "1", colour))
    return told


def summary(report: Report, trust: Trust) -> str:
    """Sum up in one line."""
    counts = {word: sum(item.verdict is word for item in report.verdicts) for word in Word}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    subject = report.job_id or "this tally"
    if report.exit_code == EXIT_HOLDS:
        return f"{subject}: all {len(trust.require)} required claims hold ({told})."
    if report.exit_code == EXIT_BROKEN:
        names = ", ".join(item.claim for item in report.verdicts if item.verdict is Word.BROKEN)
        return f"{subject}: BROKEN: {names} ({told})."
    if report.exit_code == EXIT_NEWER:
        return f"{subject}: made by a newer house than this verifier can judge ({told})."
    open_ = [item.claim for item in report.verdicts if item.claim in trust.require and item.verdict is not Word.HOLDS]
    return f"{subject}: not all that is required could be checked: {', '.join(open_)} ({told})."


def as_json(report: Report, trust: Trust) -> dict[str, Any]:
    """Give the report as one JSON object."""
    return {
        "job_id": report.job_id,
        "job_nid": report.job_nid,
        "log": trust.origin,
        "root": fingerprint(trust.root),
        "exit": report.exit_code,
        "summary": summary(report, trust),
        "simulated": report.simulated,
        "verdicts": [
            {
                "claim": item.claim,
                "verdict": str(item.verdict),
                "required": item.claim in trust.require,
                "detail": item.detail,
                "field": item.field,
                "expected": item.expected,
                "found": item.found,
                "also": [_fault(fault) for fault in item.also],
                "false_only_if": item.false_only_if,
            }
            for item in report.verdicts
        ],
    }


def _line(item: Verdict, required: bool, marks: dict[Word, str], colour: bool) -> str:
    detail = item.detail
    if item.expected is not None or item.found is not None:
        detail += f" [expected {item.expected or 'nothing'}, found {item.found or 'nothing'}]"
    mark = _painted(marks[item.verdict], _COLOURS[item.verdict], colour)
    word = _painted(f"{item.verdict:<11}", _COLOURS[item.verdict], colour)
    detail = one_line(detail)
    name = f"{item.claim:<{_WIDTH}}"
    note = "" if required else " (not required)" if item.verdict is Word.UNKNOWN else ""
    believed = item.verdict in (Word.HOLDS, Word.UNKNOWN)
    tail = _painted(f" — false only if {item.false_only_if}", "2", colour) if believed else ""
    return f"{mark} {name} {word} {detail}{note}{tail}"


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _fault(fault: Fault) -> dict[str, str | None]:
    return {"field": fault.field, "rule": fault.rule, "expected": fault.expected, "found": fault.found}
