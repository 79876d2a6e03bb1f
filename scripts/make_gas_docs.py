"""Put the figures of contracts/snapshots/Gas.json into docs/gas.md (`make docs`).

Each table stands between `<!-- name -->` and `<!-- end -->`; all else on the page is kept.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TARGET: Final = ROOT / "docs" / "gas.md"
SNAPSHOT: Final = ROOT / "contracts" / "snapshots" / "Gas.json"
SIZES: Final = (4, 16, 64)
ROUND: Final = (
    "openRound",
    "fixSeed",
    "commit",
    "reveal",
    "propose",
    "finalize, first credit",
    "finalize",
)
# What is called, and by whom. Each is named in the snapshot as in the table.
SINGLE: Final = {
    "create": "the sponsor, once",
    "announce (120 bytes)": "whoever can be reached somewhere else, once a day at most",
    "challengeAverage (4)": "the challenger, who earns half of the bond",
    "challengeAverage (16)": "the challenger",
    "challengeAverage (64)": "the challenger",
    "challengeMove": "the challenger",
    "challengeVerdict (64)": "the challenger",
    "challengeOriginal (64)": "the challenger",
    "requestModelLeaf": "who misses a leaf, with a deposit",
    "requestUpdateLeaf (64)": "who misses a leaf, with a deposit",
    "postLeaves (a model's and an update's)": "anybody who has them, and is credited the deposits",
    "settleRequest": "anybody, when nobody posted the leaf in time",
}
MASKED: Final = ("commitMasked", "revealMasked", "sealSet", "unmask", "challengeSum")
# Participants, and how many of them revealed nothing.
MASKED_SIZES: Final = ((4, 0), (4, 1), (16, 0), (16, 5), (32, 0), (32, 10))
# From .gas-snapshot of github.com/gensyn-ai/rl-swarm-contracts at 0263a9a.
GENSYN: Final = (
    ("register a peer", 89_204, "test_Anyone_CanAddPeer_Successfully"),
    (
        "submit the winners of a round, registrations included",
        450_328,
        "test_Anyone_CanSubmitWinners_Successfully",
    ),
    ("register and vote once", 269_712, "test_UniqueVoters_IncrementsForNewVoter"),
)
Gas = dict[str, int]


def filled(page: str) -> str:
    """Return the page with every table as the snapshot has it now."""
    gas = {name: int(used) for name, used in json.loads(SNAPSHOT.read_text()).items()}
    tables = {
        "round": _round(gas),
        "share": _share(gas),
        "single": _single(gas),
        "masked": _masked(gas),
        "streams": _streams(gas),
        "comparison": _comparison(gas),
    }
    return re.sub(
        r"<!-- (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- {match[1]} -->\n{tables[match[1]]}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def _round(gas: Gas) -> str:
    rows = [[str(size), *(f"{gas[f'{step} ({size})']:,}" for step in ROUND)] for size in SIZES]
    return _table(["participants", *ROUND], rows)


def _share(gas: Gas) -> str:
    own = gas["commit (16)"] + gas["reveal (16)"]
    shared = sum(gas[f"{step} (16)"] for step in ("openRound", "fixSeed", "propose", "finalize"))
    return (
        f"In a round of 16, a participant pays {own:,} gas itself, and others spend about "
        f"{round(shared / 16, -3):,.0f} more on it."
    )


def _single(gas: Gas) -> str:
    rows = [[f"`{name}`", who, f"{gas[name]:,}"] for name, who in SINGLE.items()]
    return _table(["call", "who pays", "gas"], rows)


def _masked(gas: Gas) -> str:
    rows = []
    for size, gone in MASKED_SIZES:
        suffix = f" ({size}, {gone} gone)" if gone else f" ({size})"
        rows.append([str(size), str(gone), *(f"{gas[step + suffix]:,}" for step in MASKED)])
    return _table(["participants", "gone", *MASKED], rows)


def _streams(gas: Gas) -> str:
    rows = [
        ["`fixSketch`", "anybody, once a round", f"{gas['fixSketch (16)']:,}"],
        [
            "`challengeSum`, 272 streams",
            "the challenger",
            f"{gas['challengeSum, most streams']:,}",
        ],
    ]
    return _table(["call", "who pays", "gas"], rows)


def _comparison(gas: Gas) -> str:
    own = gas["commit (16)"] + gas["reveal (16)"]
    rows = [["Commonweight", "commit and reveal one update", f"{own:,}", "snapshots/Gas.json"]]
    rows += [["Gensyn RL Swarm", what, f"{used:,}", f"`{test}`"] for what, used, test in GENSYN]
    return _table(["project", "operation", "gas", "source"], rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(filled(target.read_text()))
