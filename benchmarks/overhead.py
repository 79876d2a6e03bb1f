"""What being on the chain costs: a round with everything against plain Flower FedAvg, in one run.

    python -m benchmarks.overhead                   (`make bench-overhead`; QUICK=1)

configs/demo.toml, with more steps a round and the grid that a trial finds for them, is played twice
on the same machine, one after the other: by `commonweight demo`, and by benchmarks/plain_flower.py,
which trains the same model with the same seeds and rows and evaluates it alike. A round lasts from
the end of the one before until its model is evaluated; the first is left out, as it loads the
model. To ours comes the audit, divided by the rounds. Ours sends differences of one byte a value,
over IPFS; plain Flower sends whole adapters as float32, in its own messages: the bytes of both are
told beside the seconds. Where ours goes: seconds from each line of the aggregator to its next, and
within them what a participant does, from its profile.

Results go to benchmarks/results/overhead.json and overhead.png.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from benchmarks.common import add_options, write_results
from benchmarks.medical import own_home, show, without_trial
from protocol.encoding import decode_values
from protocol.errors import CommonweightError, Unavailable
from runtime.events import Audited, Auditing, Evaluated
from runtime.progress import Line
from sponsor.config import Config

ROOT: Final = Path(__file__).parents[1]
APP: Final = Path(__file__).parent / "plain-flower"
TARGET: Final = 1.05


def main() -> None:
    """Measure, write the results and the plot; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.set_defaults(seeds=[0])  # time is measured here, which no seed changes
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "demo.toml")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[20, 60], help="of each participant in a round"
    )
    parser.add_argument("--rounds", type=int, default=2, help="the first is not measured")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds is {options.rounds}, expected 2 or more: the first is left out")
    try:
        run(options)
    except CommonweightError as error:
        sys.exit(f"error: {error}")


def run(options: argparse.Namespace) -> None:
    """Play both, for each number of steps and seed, and write what came of it so far."""
    name = "overhead-quick" if options.quick else "overhead"
    seeds, rounds, lengths = options.seeds, options.rounds, options.steps
    if options.quick:
        seeds, rounds, lengths = seeds[:1], 2, [2]
    base = Config.load(options.config)
    started, runs = time.time(), []
    for steps in lengths:
        config = longer(base, steps, rounds)
        for seed in seeds:
            runs.append({"steps": steps, "seed": seed, **compare(config, seed)})
            facts = {"rounds": rounds, "target": TARGET, "seconds": round(time.time() - started)}
            print(write_results(options.out, name, {**facts, "runs": runs}), flush=True)
    plot(runs, options.out / f"{name}.png")


def longer(base: Config, steps: int, rounds: int) -> Config:
    """Return the configuration with so many steps a round, and rounds."""
    return base.model_copy(
        update={
            "training": base.training.model_copy(update={"steps": steps}),
            "seats": base.seats.model_copy(update={"rounds": rounds}),
            # Longer rounds move values further than the grid of the file can hold.
            "encoding": base.encoding.model_copy(update={"grid_bits": None}),
            "screening": base.screening.model_copy(update={"min_norm": None}),
        }
    )


def compare(config: Config, seed: int) -> dict[str, Any]:
    """Return the seconds of a round of both, and where ours goes."""
    from commonweight.demo import results
    from commonweight.demo.run import Options, run_demo
    from profiling.summary import describe_profile

    rounds = range(2, config.seats.rounds + 1)
    with own_home():
        federated = run_demo(config, Options(seed=seed), show)
        folder = Path(federated["folder"])
        lines = list(results.progress(folder))
        phases = participant_phases(describe_profile(folder), rounds)
        plain = play_plain(config, seed, folder)
    parts = where_it_goes(lines, rounds)
    ends = {type(line.event): line.time for line in lines if line.who == "demo"}
    audit = (ends[Audited] - ends[Auditing]) / len(federated["rounds"])
    ours, theirs = sum(parts.values()) + audit, plain_seconds(plain, rounds)
    return {
        "ours": ours,
        "plain_flower": theirs,
        "ratio": ours / theirs,
        "bytes": plain["our_bytes"],  # of one update and one model
        "plain_bytes": plain["plain_bytes"],
        "parts": {**parts, "audit": audit},
        "participant": phases,
        "plain_train": float(np.mean([plain["train"][str(number)] for number in rounds])),
        "losses": [row["loss"] for row in federated["rounds"]],
        "plain_losses": list(plain["losses"].values()),
    }


def participant_phases(profile: dict[str, Any], rounds: range) -> dict[str, float]:
    """Return the mean seconds of a participant in each phase of a round."""
    participants = list(profile["roles"].values()).count("participant")
    phases: dict[str, float] = defaultdict(float)
    for each in profile["by_round"]:
        for row in each["phases"]:
            if each["round"] in rounds and row["role"] == "participant":
                phases[row["phase"]] += row["seconds"] / participants / len(rounds)
    return dict(phases)


def where_it_goes(lines: Sequence[Line], rounds: range) -> dict[str, float]:
    """Return the mean seconds of a round by the aggregator's phase, from its lines of progress."""
    told = [line for line in lines if line.who == "aggregator"]
    parts: dict[str, float] = defaultdict(float)
    for line, following in pairwise(told):
        # What follows the end of a round is the opening of the next.
        is_over = isinstance(line.event, Evaluated)
        number = getattr(line.event, "round", -2) + is_over
        if number in rounds:
            phase = "opening" if is_over else line.event.phase
            parts[phase] += (following.time - line.time) / len(rounds)
    return dict(parts)


def plain_seconds(plain: dict[str, Any], rounds: range) -> float:
    """Return the mean seconds of Flower's rounds; `ends` has the end of round r at r."""
    ends = plain["ends"]
    return float(np.mean([ends[number] - ends[number - 1] for number in rounds]))


def play_plain(config: Config, seed: int, run: Path) -> dict[str, Any]:
    """Play the same under Flower's FedAvg; Unavailable when it ends without a result."""
    from commonweight.demo.shards import prepare_data
    from runtime.flower import Simulation
    from runtime.home import cache_folder
    from sponsor.found import plan

    folder = run / "plain"
    folder.mkdir()
    prepared = prepare_data(config, run / "data", seed)
    planned = plan(without_trial(prepared), seed, cache_folder(), folder / "start")
    spec = planned.spec
    (folder / "spec.json").write_bytes(spec.to_bytes())
    layers = zip(spec.layers, planned.model.folder.read(spec), strict=True)
    save_file({each.name: decode_values(v) for each, v in layers}, folder / "initial.safetensors")
    settings = {
        "spec": str(folder / "spec.json"),
        "source": config.model.source,
        "cache": str(cache_folder()),
        "rounds": config.seats.rounds,
        "data": [str(file) for file in prepared.data.participants.values()],
        "held_out": str(prepared.data.held_out),
        "initial": str(folder / "initial.safetensors"),
        "times": str(folder / "times.json"),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    participants, processes = len(prepared.data.participants), config.simulation.processes
    # The benchmarks are not installed: Flower's processes find them in the checkout.
    found = {"PYTHONPATH": str(ROOT)}
    with Simulation(folder / "flower", config.simulation.threads, found) as simulation:
        flwr = simulation.start(
            APP,
            f"settings='{folder / 'settings.json'}'",
            participants=participants,
            processes=processes,
        )
        wait_for(folder / "times.json", flwr, folder / "flower" / "run.log")
    plain: dict[str, Any] = json.loads((folder / "times.json").read_text())
    sent = {"update": spec.total_bytes("update"), "model": spec.total_bytes("model")}
    values = sum(spec.layer_values(index) for index in range(len(spec.layers)))
    return {**plain, "our_bytes": sent, "plain_bytes": {"update": 4 * values, "model": 4 * values}}


def wait_for(file: Path, flwr: Any, log: Path) -> None:
    """Wait until Flower's run has written its times; Unavailable, with its log's end, otherwise."""
    while not file.exists():
        if flwr.poll() is not None and not file.exists():
            end = "\n".join(log.read_text().splitlines()[-20:])  # the folder will be gone
            raise Unavailable(f"Flower's run ended without a result:\n{end}")
        time.sleep(0.2)


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a round of the longest training of both as bars: ours by phase."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    runs = [each for each in runs if each["steps"] == max(each["steps"] for each in runs)]
    figure, axes = pyplot.subplots(figsize=(7, 2.6))
    names = list(dict.fromkeys(name for each in runs for name in each["parts"]))
    left = 0.0
    for name in names:
        seconds = float(np.mean([each["parts"].get(name, 0.0) for each in runs]))
        axes.barh("commonweight", seconds, left=left, label=f"{name} {seconds:.1f} s")
        left += seconds
    axes.barh("plain Flower", float(np.mean([e["plain_flower"] for e in runs])), color="#a9ccd6")
    axes.set_xlabel(f"seconds a round of {runs[0]['steps']} steps")
    axes.legend(frameon=False, fontsize=7, ncols=2, bbox_to_anchor=(1, 1), loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
