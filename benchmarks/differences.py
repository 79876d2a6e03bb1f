"""What one byte a value costs: a federation with rounded differences beside FedAvg in float32.

    python -m benchmarks.differences --data FOLDER    (`make bench-differences`; QUICK=1)

FOLDER holds stories260k/. Four participants, one speciality of the flashcards each, train its model
for ten rounds with a rate that falls to a fiftieth by half a cosine. Both sides have the same
model, data, order, steps and weights; one averages float32, the other what docs/protocol.md §2 and
§7 make of it, with the grid that a trial chooses and one bit finer every so many rounds. No chain
takes part: the model is what it would be with one.

Told for each round: the held-out loss of both, and of the updates the share of zeros, the share
that was clipped, and the relative error. Results: benchmarks/results/differences.json.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import add_options, data_file, spread, write_results
from benchmarks.stories import MODEL_FILE, convert_stories
from protocol.average import move_model
from protocol.differences import choose_grid
from protocol.encoding import encode_values
from protocol.errors import CommonweightError
from protocol.spec import (
    Adapter,
    Encoding,
    Layer,
    Quantization,
    RoundSchedule,
    Screening,
    Spec,
    Training,
)
from training.adapter import Arrays
from training.examples import Example, read_examples
from training.session import Session, open_session
from training.update import Carried, IntegerLayers, Update, exact_difference

FLASHCARDS: Final = Path(__file__).parents[1] / "configs" / "flashcards"
PARTICIPANTS: Final = ("cardiology", "neurology", "pharmacology", "microbiology")
EVERY: Final = (0, 3, 4)
"""Rounds after which the grid gets finer by a bit; 0: never."""
RATE: Final = 0.01


@dataclass(frozen=True)
class Data:
    """The rows of each participant, and the held-out rows."""

    shares: Sequence[Sequence[Example]]
    held_out: Sequence[Example]


def main() -> None:
    """Measure and write the results; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    try:
        run(data_file(options.data, f"stories260k/{MODEL_FILE}").parent, options)
    except CommonweightError as error:
        sys.exit(f"error: {error}")


def run(model: Path, options: argparse.Namespace) -> None:
    """Play every seed with every interval, and write what came of it so far."""
    seeds, every = (options.seeds[:1], EVERY[2:3]) if options.quick else (options.seeds, EVERY)
    started, runs = time.time(), []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model"
        convert_stories(model, source)
        for seed in seeds:
            spec = make_spec(source, seed)
            session, data = open_session(spec, str(source), Path(folder)), read_data()
            exact = play_exactly(session, data)
            grid = trial_grid(session, data)
            for interval in every:
                rounds = play(with_grid(session, grid, interval), data)
                runs.append({"seed": seed, "grid_every": interval, **compared(exact, rounds)})
                seconds, summary = round(time.time() - started), summarise(runs)
                results = {"seconds": seconds, "summary": summary, "runs": runs}
                name = "differences-quick" if options.quick else "differences"
                print(write_results(options.out, name, results), summary, flush=True)


def make_spec(source: Path, seed: int, *, rounds: int = 10, template: str = "alpaca") -> Spec:
    """Return the spec of the comparison for the model in `source`; its grid is chosen later."""
    from training.export import describe_layers
    from training.sources import describe_source, resolve_source

    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    adapter = Adapter(rank=8, alpha=16, dropout=0.0, targets=targets, mode="fedit")
    base = resolve_source(str(source), source.parent)
    schedule = RoundSchedule(scheduler="cosine", rounds=rounds, final_learning_rate=RATE / 50)
    training = Training(
        learning_rate=RATE,
        batch_size=4,
        steps=5,
        sequence_length=192,
        scheduler="constant",
        warmup_steps=0,
        seed=seed,
        over_rounds=schedule,
    )
    layers = describe_layers(base.folder, adapter)
    return Spec.model_validate(
        {
            "base_model": describe_source(base, needs_chat=template == "chat"),
            "quantization": Quantization(
                kind="none", double_quantization=False, compute_dtype="float32"
            ),
            "adapter": adapter,
            "encoding": Encoding(grid_bits=0, grid_every=0),
            "layers": tuple(Layer(name=name, shape=shape) for name, shape in layers),
            "training": training,
            "evaluation_digest": "0" * 64,
            "screening": Screening(min_norm=1),
            "libraries": {},
            "template": template,
        }
    )


def read_data() -> Data:
    """Return the flashcards of the demo."""
    shares = [read_examples(FLASHCARDS / f"{name}.jsonl") for name in PARTICIPANTS]
    return Data(shares, read_examples(FLASHCARDS / "held_out.jsonl"))


def with_grid(session: Session, grid: int, every: int) -> Session:
    """Return the session with this grid in its spec; the model in memory is shared."""
    encoding = Encoding(grid_bits=grid, grid_every=every)
    return session.with_spec(session.spec.model_copy(update={"encoding": encoding}))


def first_model(session: Session) -> IntegerLayers:
    """Return the initial adapter of the session's spec."""
    from training.adapter import initial_array

    spec = session.spec
    return [
        encode_values(initial_array(layer.name, layer.shape, spec.training.seed))
        for layer in spec.layers
    ]


def trial_grid(session: Session, data: Data) -> int:
    """Return the grid that one round on the held-out rows chooses, as `federation create` does."""
    before = first_model(session)
    trained, _ = session.train_arrays(session.decode(before), data.held_out, 0)
    layers = zip(session.spec.layers, before, strict=True)
    return choose_grid([exact_difference(old, trained[layer.name]) for layer, old in layers])


def play_exactly(session: Session, data: Data) -> list[float]:
    """Return the held-out loss after each round of FedAvg in float32; first that of the start."""
    arrays = session.decode(first_model(session))
    losses = [_loss(session, arrays, data)]
    for number in _rounds(session):
        trained = [
            session.train_arrays(arrays, rows, _seed(session, number, index), round_id=number)
            for index, rows in enumerate(data.shares)
        ]
        weights = [report.examples for _, report in trained]
        arrays = {name: _mean([each[name] for each, _ in trained], weights) for name in arrays}
        losses.append(_loss(session, arrays, data))
    return losses


def play(session: Session, data: Data) -> list[dict[str, Any]]:
    """Return the figures of each round with differences; every participant carries its rounding."""
    model = first_model(session)
    carried: list[Carried | None] = [None] * len(data.shares)
    rounds = []
    for number in _rounds(session):
        updates: list[Update] = []
        weights = []
        for index, rows in enumerate(data.shares):
            seed = _seed(session, number, index)
            update, report = session.train(
                model, rows, seed, round_id=number, carried=carried[index]
            )
            carried[index] = update.carried
            updates.append(update)
            weights.append(report.examples)
        grid = updates[0].grid
        model = [
            move_model(old, [each.steps[layer] for each in updates], weights, grid)
            for layer, old in enumerate(model)
        ]
        loss = session.evaluate(model, data.held_out).loss
        rounds.append({"round": number, "loss": loss, "grid": grid, **_figures(updates)})
    return rounds


def compared(exact: Sequence[float], rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return both courses and how far the last loss is from FedAvg's, relative to it."""
    last = rounds[-1]
    return {
        "loss_before": exact[0],
        "exact": list(exact[1:]),
        "rounds": list(rounds),
        "over_exact": last["loss"] / exact[-1] - 1,
        "last_zeros": last["zeros"],
    }


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, by interval, the last losses and figures as mean and deviation over seeds."""
    summary = {}
    for every in dict.fromkeys(each["grid_every"] for each in runs):
        found = [each for each in runs if each["grid_every"] == every]
        summary[str(every)] = {
            "exact": spread([each["exact"][-1] for each in found]),
            "differences": spread([each["rounds"][-1]["loss"] for each in found]),
            "over_exact": spread([each["over_exact"] for each in found]),
            "last_zeros": spread([each["last_zeros"] for each in found]),
            "most_clipped": max(each["clipped"] for run in found for each in run["rounds"]),
        }
    return summary


def _figures(updates: Sequence[Update]) -> dict[str, float]:
    zeros = [np.mean([np.mean(layer == 0) for layer in each.steps]) for each in updates]
    return {
        "zeros": float(np.mean(zeros)),
        "clipped": max(each.clipped_share for each in updates),
        "relative_error": max(each.relative_error for each in updates),
        "norm": min(each.norm() for each in updates),
    }


def _rounds(session: Session) -> range:
    schedule = session.spec.training.over_rounds
    return range(1, (schedule.rounds if schedule else 1) + 1)


def _seed(session: Session, number: int, index: int) -> int:
    return 10_000 * session.spec.training.seed + 100 * number + index


def _mean(arrays: Sequence[NDArray[np.float32]], weights: Sequence[int]) -> NDArray[np.float32]:
    mean: NDArray[np.float64] = np.average(np.stack(arrays).astype(np.float64), 0, weights)
    return mean.astype(np.float32)


def _loss(session: Session, arrays: Arrays, data: Data) -> float:
    # By way of the encoding, which takes half a quantum of 2^-24: nothing beside float32's own.
    layers = [encode_values(arrays[layer.name]) for layer in session.spec.layers]
    return session.evaluate(layers, data.held_out).loss


if __name__ == "__main__":
    main()
