"""Writes the tables of docs/reliability.md from what schedules left behind.

python -m tests.faults.table RECORDS            # prints both: of clear rounds, of masked ones
python -m tests.faults.table RECORDS --write    # puts them into docs/reliability.md
"""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.faults.schedule import CLEAR_SEEDS

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_KINDS: Final = ("clear", "masked")


def _around(*calls: str) -> tuple[str, ...]:
    return tuple(f"{when} {call}" for call in calls for when in ("before", "after"))


PHASES: Final = {
    "open": ("before openRound", "after openRound", "opened", "before fixSeed", "after fixSeed"),
    "train": ("fetching model", "trained"),
    "commit": (*_around("commit", "commitMasked"), "committed"),
    "reveal": ("pinned", *_around("reveal", "revealMasked"), "revealed"),
    "screen": ("screening", "accepted", "averaging"),
    "seal": (*_around("sealSet", "fixSketch"), "sealed", "sketches drawn"),
    "unmask": (
        *_around("unmask", "assist"),
        "asking to unmask",
        "unmasked",
        "assisted",
        "recovered",
    ),
    "propose": (*_around("propose"), "proposed"),
    "settle": (*_around("finalize", "voidRound"), "finalized", "voided"),
    "any time": (None,),
}
_PHASE_OF: Final = {point: phase for phase, points in PHASES.items() for point in points}

KINDS: Final = {
    "kill": "SIGKILL: {target}",
    "stop": "SIGTERM: {target}",
    "away": "away past a deadline: {target}",
    "cut": "network cut: {target}",
    "full": "disk full: {target}",
    "lie": "IPFS answers wrongly ({detail})",
    "rpc": "RPC: {detail}",
    "omit": "RPC {detail}",
    "drip": "a byte every 50 ms ({detail})",
    "reorg": "reorganisation drops {detail}",
    "undo": "secrets opened, then {detail} dropped",
    "withhold": "its bytes are gone: {target}",
}
_LIES: Final = {
    "flip": "wrong bytes",
    "truncate": "truncated",
    "break_off": "broken off",
    "endless": "endless",
    "drip": "too slow",
    "stall": "silent",
    "lose": "not found",
    "stale": "goes back in time",
    "rpc drips": "RPC",
    "rpc drips headers": "RPC, headers",
    "ipfs drips": "IPFS",
    "ipfs drips headers": "IPFS, headers",
}
_NO_PHASE_OF: Final[dict[str, tuple[str, ...]]] = {"clear": ("seal", "unmask"), "masked": ()}
_SERVICES: Final = {"ipfs": "IPFS daemon", "chain": "chain", "standby": "aggregator"}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return what was recorded of each seed last; [] when there is no file."""
    if not path.exists():
        return []
    records = map(json.loads, path.read_text().splitlines())
    return list({record["seed"]: record for record in records}.values())


def survived(records: Iterable[dict[str, Any]]) -> set[int]:
    """Return the seeds of the schedules after which everything held."""
    return {record["seed"] for record in records if not record["outcome"]["broken"]}


def split_records(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return those of clear rounds, and those of masked ones."""
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for record in records:
        kinds["masked" if record["seed"] >= CLEAR_SEEDS else "clear"].append(record)
    return kinds


def make_table(records: Iterable[dict[str, Any]], kind: str = "clear") -> str:
    """Return the table in Markdown, and a line that sums up."""
    records, phases = list(records), [each for each in PHASES if each not in _NO_PHASE_OF[kind]]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        rows = [(_row(fault), _PHASE_OF[fault["point"]]) for fault in record["struck"]]
        for row, phase in rows:
            counts[row].update([phase, "all"])
            counts[row]["survived"] += not record["outcome"]["broken"]
        for row in {row for row, _ in rows}:
            ends = Counter(record["outcome"]["rounds"])
            counts[row]["abandoned"] += ends["abandoned"] + ends["voided"]
    columns = [*phases, "all", "survived", "abandoned"]
    lines = [
        f"| fault | {' | '.join(columns)} |",
        f"|---|{'--:|' * len(columns)}",
        *(
            f"| {row} | {' | '.join(_shown(column, counts[row]) for column in columns)} |"
            for row in sorted(counts, key=_place)
        ),
    ]
    return "\n".join([_summary(records), "", *lines]) + "\n"


def _row(fault: dict[str, Any]) -> str:
    target = _SERVICES.get(fault["target"], fault["target"])
    target = target if target in _SERVICES.values() else "participant"
    detail = _LIES.get(fault["detail"], fault["detail"])
    return KINDS[fault["kind"]].format(target=target, detail=detail)


def _place(row: str) -> tuple[int, str]:
    starts = [form.split("{")[0] for form in KINDS.values()]
    return next(place for place, start in enumerate(starts) if row.startswith(start)), row


def _shown(column: str, count: Counter[str]) -> str:
    return str(count[column] or ("" if column in PHASES else 0))


def _summary(records: list[dict[str, Any]]) -> str:
    struck = sum(len(record["struck"]) for record in records)
    survived = sum(not record["outcome"]["broken"] for record in records)
    rounds = Counter(status for record in records for status in record["outcome"]["rounds"])
    minutes = sum(record["seconds"] for record in records) / 60
    voided = f", {rounds['voided']} voided" if rounds["voided"] else ""
    return (
        f"{len(records)} schedules, {struck} faults that struck, {survived} schedules survived. "
        f"{rounds['finalized']} rounds were finalized, {rounds['abandoned']} abandoned{voided}. "
        f"Played one after the other they would have taken {minutes:.0f} minutes."
    )


def main() -> None:
    path, *options = sys.argv[1:]
    text = DOCUMENT.read_text()
    for kind, records in split_records(read_records(Path(path))).items():
        if not records:
            continue
        table = make_table(records, kind)
        if "--write" not in options:
            print(table)
        between = rf"(<!-- {kind} -->\n).*(<!-- end of {kind} -->)"
        text, found = re.subn(between, rf"\g<1>{table}\g<2>", text, flags=re.DOTALL)
        assert found == 1, f"{DOCUMENT} has no place for the table of {kind} rounds"
    if "--write" in options:
        DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
