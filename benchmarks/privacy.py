"""What updates and models say of the data: clear, averaged, masked, and with differential privacy.

    python -m benchmarks.privacy --data FOLDER        (`make bench-privacy`; QUICK=1)

FOLDER holds medquad/*.jsonl. SmolLM2-135M with an NF4 base and the demo's adapter. One participant
has 500 rows, 88 of them canaries that were drawn at random (2 of them 16 times, 4 four times, 40
once), and trains for 32 steps of 16 rows: without protection, and by DP-SGD at ε 8 and 2. And 16
participants with 48 rows each, of which half of the first one's are canaries in like manner, train
for 6 steps of 8 rows: the first alone, the mean of 4, and the mean of all 16.

An outsider who knows the model before ranks each planted canary among 23 that were not planted, and
tells rows that were trained on from rows of the same collection that were not, by how much the loss
fell. Of a masked update it has a sketch of 128 numbers, and scores each row by how far the sketch
of its gradient points the other way.

Trainings and losses are kept, so that an interrupted run goes on where it was; `--most N` stops
after so many new ones. Results: benchmarks/results/privacy.json.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, data_file, write_results
from node.leakage import losses_of, sketch_scores, sketch_update
from protocol.average import move_model
from protocol.errors import CommonweightError
from protocol.spec import Spec
from runtime.home import cache_folder
from sponsor import found
from sponsor.config import Config
from storage.files import read_json, write_json
from storage.layers import LayerFolder
from training import seeded
from training.accountant import Mechanism, noise_for, signal_to_noise
from training.examples import Example, load
from training.leakage import chance_exposure, compare, exposure, make_canaries
from training.private import Protection
from training.session import Session, open_session

CONFIG: Final = Path(__file__).parents[1] / "configs" / "demo.toml"
_DELTA: Final = 1e-5
_CLIP: Final = 1.0
_GRID: Final = 11  # a step is 2^-11: 32 steps at a rate of 0.001 do not reach the 127th


@dataclass(frozen=True)
class Size:
    """How much is trained and measured; `planted` are (canaries, times) in the data of the first.

    `rows` are those of the participant that trains alone, `few` those of each of the many.
    """

    rows: int
    batch: int
    steps: int
    few: int
    few_batch: int
    few_steps: int
    planted: tuple[tuple[int, int], ...]
    few_planted: tuple[tuple[int, int], ...]
    members: int
    controls: int
    held_out: int
    epsilons: tuple[float, ...]
    length: int


FULL: Final = Size(
    rows=500,
    batch=16,
    steps=32,
    few=48,
    few_batch=8,
    few_steps=6,
    planted=((2, 16), (4, 4), (40, 1)),
    few_planted=((1, 16), (1, 4), (4, 1)),
    members=80,
    controls=80,
    held_out=48,
    epsilons=(8.0, 2.0),
    length=64,
)
QUICK: Final = replace(
    FULL,
    rows=40,
    batch=8,
    steps=4,
    few=8,
    few_batch=4,
    few_steps=2,
    planted=((1, 4), (4, 1)),
    few_planted=((1, 2), (2, 1)),
    members=8,
    controls=8,
    held_out=8,
    epsilons=(8.0,),
)
_SPARE: Final = 23
_MANY: Final = 16


def main() -> None:
    """Measure and write results; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data set")
    parser.add_argument("--quick", action="store_true", help="minutes, to see that it works")
    parser.add_argument("--source", help="another base model, such as tiny-llama")
    parser.add_argument("--most", type=int, help="stop after so many new trainings and evaluations")
    parser.add_argument("--memory", type=Path, help="where trainings and losses are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    try:
        run(options)
    except CommonweightError as error:
        sys.exit(f"error: {error}")
    except Enough:
        sys.exit(4)


def run(options: argparse.Namespace) -> None:
    """Measure everything that is not kept yet, and write what came of it."""
    size, name = (QUICK, "privacy-quick") if options.quick else (FULL, "privacy")
    memory = options.memory or cache_folder() / name
    data = data_file(options.data, "medquad/*.jsonl")
    config = Config.load(CONFIG)
    if options.source:
        model = config.model.model_copy(update={"source": options.source})
        config = config.model_copy(update={"model": model})
    stage = Stage(config, size, Kept(memory, options.most), list(load(data).examples))
    rows = stage.measure()
    results = {"size": vars(size), "base": stage.held_out("base"), "rows": rows}
    print(write_results(options.out, name, results))
    for row in rows:
        print(line_of(row))


class Enough(Exception):
    """As many new results as were asked for are there."""


class Kept:
    """What was computed before, in a folder; `most` bounds what is computed anew."""

    def __init__(self, folder: Path, most: int | None = None) -> None:
        self.folder = folder
        self._left = most

    def json(self, name: str, compute: Any) -> Any:
        """Return what `compute()` gave, now or in a run before."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write_json(path, self._new(name, compute))
        return read_json(path)

    def update(self, name: str, spec: Spec, compute: Any) -> list[NDArray[np.int8]]:
        """Return the steps of an update, computed now or in a run before."""
        folder = LayerFolder(self.folder / "trained" / name, "update")
        done = self.folder / "trained" / f"{name}.json"
        if not done.exists():
            folder.write(spec, self._new(name, compute))
            write_json(done, True)
        return folder.read(spec)

    def _new(self, name: str, compute: Any) -> Any:
        if self._left is not None:
            if self._left <= 0:
                raise Enough
            self._left -= 1
        started = time.time()
        made = compute()
        print(f"{time.time() - started:6.0f} s  {name}", flush=True)
        return made


# ------------------------------------------------------------------------------ the stage


@dataclass(frozen=True)
class Rows:
    """The rows of one participant with planted canaries: `real` ones, and each canary's times."""

    real: list[Example]
    canaries: list[Example]
    times: list[int]

    @property
    def data(self) -> list[Example]:
        """All rows to train on."""
        pairs = zip(self.canaries, self.times, strict=True)
        return self.real + [canary for canary, times in pairs for _ in range(times)]


class Stage:
    """The model, the data, and everything that is measured on them."""

    def __init__(self, config: Config, size: Size, kept: Kept, examples: list[Example]) -> None:
        self.size = size
        self.kept = kept
        training = config.training.model_copy(
            update={"learning_rate": 1e-3, "sequence_length": size.length}
        )
        encoding = config.encoding.model_copy(update={"grid_bits": _GRID})
        # Masks change no bit of an update: what they hide is left out of what is scored.
        rules = config.rules.model_copy(update={"privacy": "clear"})
        changes = {"training": training, "encoding": encoding, "rules": rules}
        config = config.model_copy(update=changes)
        plan = found.plan(config, 0, cache_folder(), kept.folder / "initial")
        self.spec, self.source = plan.spec, config.model.source
        self.initial = plan.model.folder.read(plan.spec)
        self._examples = examples

    @cached_property
    def session(self) -> Session:
        """The base model in memory, once something is to be computed with it."""
        return open_session(self.spec, self.source, cache_folder())

    @cached_property
    def pools(self) -> list[Example]:
        """The collection in an order drawn once, without rows that have no room for an answer."""
        order = seeded.shuffled_order("privacy", len(self._examples))
        ordered = [self._examples[place] for place in order]
        places = self.kept.json("places", lambda: list(self.session.measure(ordered).places))
        return [ordered[place] for place in places]

    @cached_property
    def canaries(self) -> list[Example]:
        """Drawn once: those that are spare first."""
        count = _SPARE + sum(n for n, _ in (*self.size.planted, *self.size.few_planted))
        made = self.kept.json("canaries", lambda: [vars(each) for each in make_canaries(count)[0]])
        return [Example(each["question"], each["answer"]) for each in made]

    @cached_property
    def parts(self) -> dict[str, Any]:
        """The rows of everybody, controls and held-out ones, no row in two of them."""
        size, rows = self.size, iter(self.pools)
        planted = iter(self.canaries[_SPARE:])

        def take(count: int) -> list[Example]:
            return [next(rows) for _ in range(count)]

        def with_canaries(total: int, wanted: Sequence[tuple[int, int]]) -> Rows:
            times = [each for count, each in wanted for _ in range(count)]
            return Rows(take(total - sum(times)), [next(planted) for _ in times], times)

        return {
            "controls": take(size.controls),
            "held out": take(size.held_out),
            "few": with_canaries(size.few, size.few_planted),
            "others": [take(size.few) for _ in range(_MANY - 1)],
            "alone": with_canaries(size.rows, size.planted),
        }

    # -------------------------------------------------------------------------- trainings

    def alone(self, epsilon: float | None = None) -> list[NDArray[np.int8]]:
        """Return the update of the participant with many rows, protected for an `epsilon`."""
        size, rows = self.size, self.parts["alone"].data
        return self._train("alone", rows, size.batch, size.steps, 1, epsilon)

    def few(self, number: int, epsilon: float | None = None) -> list[NDArray[np.int8]]:
        """Return the update of one of the many; number 0 has the canaries."""
        size, name = self.size, f"few-{number:02d}"
        rows = self.parts["few"].data if number == 0 else self.parts["others"][number - 1]
        return self._train(name, rows, size.few_batch, size.few_steps, 2 + number, epsilon)

    def _train(
        self,
        name: str,
        rows: list[Example],
        batch: int,
        steps: int,
        seed: int,
        epsilon: float | None,
    ) -> list[NDArray[np.int8]]:
        protection = None
        if epsilon is not None:
            name = f"{name}-{epsilon:g}"
            mechanism = mechanism_of(epsilon, len(rows), batch, steps)
            protection = Protection(mechanism, _CLIP, range(len(rows)))
        changed = self.spec.training.model_copy(update={"batch_size": batch, "steps": steps})

        def compute() -> list[NDArray[np.int8]]:
            session = self.session.with_spec(self.spec.model_copy(update={"training": changed}))
            update, _ = session.train(self.initial, rows, seed, protection=protection)
            return update.steps

        return self.kept.update(name, self.spec, compute)

    # ------------------------------------------------------------------------ measurements

    def measure(self) -> list[dict[str, Any]]:
        """Return a row of results for each way to publish."""
        size, alone, few = self.size, self.parts["alone"], self.parts["few"]
        found = [self._by_loss("a clear update", "alone", [self.alone()], alone)]
        for epsilon in size.epsilons:
            row = self._by_loss(
                f"a clear update, ε {epsilon:g}", f"alone-{epsilon:g}", [self.alone(epsilon)], alone
            )
            found.append(row | self._noise(epsilon, size.rows, size.batch, size.steps))
        for count in (1, 4, _MANY):
            label = "a clear update, short" if count == 1 else f"a mean of {count}, short"
            updates = [self.few(number) for number in range(count)]
            found.append(self._by_loss(label, f"few-of-{count}", updates, few))
        for epsilon in size.epsilons:
            made, label = [self.few(0, epsilon)], f"a clear update, short, ε {epsilon:g}"
            row = self._by_loss(label, f"few-of-1-{epsilon:g}", made, few)
            found.append(row | self._noise(epsilon, size.few, size.few_batch, size.few_steps))
        found.append(self._by_sketch("the sketch of a masked update", "alone", self.alone(), alone))
        first = self.few(0)
        found.append(self._by_sketch("the sketch of a masked update, short", "few", first, few))
        return found

    def _noise(self, epsilon: float, rows: int, batch: int, steps: int) -> dict[str, float]:
        mechanism = mechanism_of(epsilon, rows, batch, steps)
        values = sum(layer.size for layer in self.initial)
        ratio = signal_to_noise(mechanism, rows, values)
        return {"noise": mechanism.noise, "signal_to_noise": ratio}

    def held_out(self, model: str, updates: Sequence[list[NDArray[np.int8]]] = ()) -> float:
        """Return the loss of a model on held-out rows, nats per answer token."""
        rows = self._losses(model, updates, "held out", self.parts["held out"])
        return fmean(rows)

    def _losses(
        self,
        model: str,
        updates: Sequence[list[NDArray[np.int8]]],
        part: str,
        examples: list[Example],
    ) -> list[float]:
        def compute() -> list[float]:
            layers = self.initial
            if updates:
                pairs = zip(layers, *updates, strict=True)
                ones = [1] * len(updates)
                layers = [move_model(before, each, ones, _GRID) for before, *each in pairs]
            return losses_of(self.session, layers, examples)

        found: list[float] = self.kept.json(f"losses/{model}/{part.replace(' ', '-')}", compute)
        return found

    def _by_loss(
        self, label: str, name: str, updates: Sequence[list[NDArray[np.int8]]], rows: Rows
    ) -> dict[str, Any]:
        whose = "alone" if rows is self.parts["alone"] else "few"

        def scores(part: str, examples: list[Example]) -> list[float]:
            # The base model's losses of all who share rows are the same.
            before = self._losses(f"base-{whose}", (), part, examples)
            after = self._losses(name, updates, part, examples)
            return [old - new for old, new in zip(before, after, strict=True)]

        row = self._row(label, rows, scores)
        row["held_out"] = self.held_out(name, updates)
        return row

    def _by_sketch(
        self, label: str, name: str, update: list[NDArray[np.int8]], rows: Rows
    ) -> dict[str, Any]:
        seed = hashlib.sha256(b"privacy").digest()

        def scores(part: str, examples: list[Example]) -> list[float]:
            found: list[float] = self.kept.json(
                f"sketched/{name}/{part}",
                lambda: sketch_scores(
                    self.session, self.initial, sketch_update(update, seed), seed, examples
                ),
            )
            return found

        return self._row(label, rows, scores)

    def _row(self, label: str, rows: Rows, scores: Any) -> dict[str, Any]:
        spare = scores("spare", self.canaries[:_SPARE])
        planted = scores("planted", rows.canaries)
        by_times = {}
        for times in sorted(set(rows.times)):
            of_these = [
                score for score, each in zip(planted, rows.times, strict=True) if each == times
            ]
            by_times[str(times)] = {
                "exposure": fmean(exposure(each, spare) for each in of_these),
                **vars(compare(of_these, spare)),
            }
        members = scores("members", rows.real[: self.size.members])
        others = scores("controls", self.parts["controls"])
        found = compare(members, others)
        return {
            "published": label,
            "canaries": by_times,
            "membership": {**vars(found), "in_words": found.in_words},
        }


def mechanism_of(epsilon: float, rows: int, batch: int, steps: int) -> Mechanism:
    """Return the noise with which so many steps spend `epsilon`."""
    rate = batch / rows
    return Mechanism(rate, noise_for(epsilon, _DELTA, rate, steps), steps)


def line_of(row: dict[str, Any]) -> str:
    """Return a row of results as a line of text."""
    canaries = ", ".join(
        f"{times}x {each['exposure']:.2f}" for times, each in row["canaries"].items()
    )
    auc = row["membership"]
    held_out = f"  held-out loss {row['held_out']:.3f}" if "held_out" in row else ""
    return (
        f"{row['published']:<38} bits {canaries} (chance {chance_exposure(_SPARE):.2f})"
        f"  AUC {auc['auc']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}] {auc['in_words']}{held_out}"
    )


if __name__ == "__main__":
    main()
