"""The gas figures of contracts/README.md are those that forge measured last."""

import json
import re

from contracts.compiler import CONTRACTS_DIR

COLUMNS = ("openRound", "commit", "reveal", "propose", "finalize, first credit", "finalize")


def test_gas_table_repeats_the_snapshot() -> None:
    snapshot = json.loads((CONTRACTS_DIR / "snapshots" / "Gas.json").read_text())
    readme = (CONTRACTS_DIR / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d,]+ \| [\d,| ]+) \|$", readme, re.MULTILINE)
    assert [int(participants) for participants, _ in rows] == [4, 16, 64, 128]
    for participants, figures in rows:
        shown = [figure.replace(",", "") for figure in figures.split(" | ")]
        assert shown == [snapshot[f"{column} ({participants})"] for column in COLUMNS]


def test_table_of_challenges_repeats_the_snapshot() -> None:
    snapshot = json.loads((CONTRACTS_DIR / "snapshots" / "Gas.json").read_text())
    readme = (CONTRACTS_DIR / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \|$", readme, re.MULTILINE)
    assert [int(updates) for updates, _ in rows] == [2, 4, 16, 64]
    for updates, figure in rows:
        assert figure.replace(",", "") == snapshot[f"challengeAverage ({updates})"]
    assert int(snapshot["challengeAverage (16)"]) <= 1_200_000
