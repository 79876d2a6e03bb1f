"""Writes the table of docs/reliability.md from what schedules left behind.

python -m tests.faults.table RECORDS            # prints it
python -m tests.faults.table RECORDS --write    # puts it between the marks in docs/reliability.md
"""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_BETWEEN: Final = re.compile(r"(<!-- table -->\n).*(<!-- end of table -->)", re.DOTALL)

PHASES: Final = {
    "open": ("before openRound", "after openRound", "opened", "before fixSeed", "after fixSeed"),
    "train": ("fetching model", "trained"),
    "commit": ("before commit", "after commit", "committed"),
    "reveal": ("pinned", "before reveal", "after reveal", "revealed"),
    "screen": ("screening", "accepted", "averaging"),
    "propose": ("before propose", "after propose", "proposed"),
    "settle": ("before finalize", "after finalize", "finalized"),
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


def make_table(records: Iterable[dict[str, Any]]) -> str:
    """Return the table in Markdown, and a line that sums up."""
    records = list(records)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        rows = [(_row(fault), _PHASE_OF[fault["point"]]) for fault in record["struck"]]
        for row, phase in rows:
            counts[row].update([phase, "all"])
            counts[row]["survived"] += not record["outcome"]["broken"]
        for row in {row for row, _ in rows}:
            counts[row]["abandoned"] += record["outcome"]["rounds"].count("abandoned")
    columns = [*PHASES, "all", "survived", "abandoned"]
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
    target = target if target in ("IPFS daemon", "chain", "aggregator") else "participant"
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
    return (
        f"{len(records)} schedules, {struck} faults that struck, {survived} schedules "
        f"survived. {rounds['finalized']} rounds were finalized, {rounds['abandoned']} abandoned. "
        f"Played one after the other they would have taken {minutes:.0f} minutes."
    )


def main() -> None:
    path, *options = sys.argv[1:]
    table = make_table(read_records(Path(path)))
    if "--write" not in options:
        print(table, end="")
        return
    text, found = _BETWEEN.subn(lambda match: match[1] + table + match[2], DOCUMENT.read_text())
    assert found == 1, f"{DOCUMENT} has no place for the table"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
