"""What the training benchmarks share: their data, the spread over seeds, where results go."""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured

RESULTS: Final = Path(__file__).parent / "results"
DATA_VARIABLE: Final = "COMMONWEIGHT_DATA"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all of them have."""
    parser.add_argument(
        "--data", type=Path, help=f"folder with the data sets (default: ${DATA_VARIABLE})"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="minutes, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def data_file(folder: Path | None, pattern: str) -> Path:
    """Return the one file that `pattern` finds in the data folder; Misconfigured without it."""
    given = folder or os.environ.get(DATA_VARIABLE)
    if not given:
        raise Misconfigured(
            f"no data: give --data FOLDER or set {DATA_VARIABLE}, with {pattern} in it"
        )
    found = sorted(Path(given).glob(pattern))
    if len(found) != 1:
        raise Misconfigured(f"{given}: expected one file {pattern}, found {len(found)}")
    return found[0]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, and sample standard deviation over the seeds (0 for one)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation}


def write_results(folder: Path, name: str, results: dict[str, Any]) -> Path:
    """Write `results`, with what machine they are of, to `folder`/`name`.json; return the path."""
    machine = {"cores": os.cpu_count(), "cpu": _processor(), "python": platform.python_version()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
