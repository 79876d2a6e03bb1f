"""What cheating pays: each cheat beside four honest participants, under each way of scoring.

    python -m benchmarks.incentives          (`make bench-incentives`; QUICK=1, SEEDS=3)

SmolLM2-135M on the demo's flashcards: four specialities, and a fifth participant that sends what
tests/attacks/cheats.py makes up, for three rounds. Screening, scores, harm and average are computed
by the project's own code, without chain and store. Trainings are kept by model, participant and
seed, and losses by model, so that an interrupted run goes on where it was.

Told of each cheat and way of scoring: the check that rejected it, the cosine that check 12 saw, its
pay in parts of a mean honest one's in the rounds in which it acts, its gain beside the noise of a
round's gain (standard error over eighths of the held-out set), what the honest ones were paid, and
the final loss beside that of the run without it. Results: benchmarks/results/incentives.json and
incentives.png.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, Literal

import numpy as np

from benchmarks.common import RESULTS, write_results
from protocol.checks import Check
from protocol.encoding import FRACTION_BITS, MAX_STEPS
from protocol.errors import CommonweightError
from protocol.screening import duplicates
from protocol.similarity import SIMILAR
from protocol.spec import HeldOutScoring, Spec
from protocol.types import FULL_BASIS_POINTS, Address, Digest, RoundId, read_address
from rounds.average import Repeated, average_layers
from rounds.prune import ROUNDS_COMPARED
from rounds.score import HeldOut, Measured, measure_losses, scores_of
from rounds.similar import Movement, compare_updates, project_updates
from runtime.home import cache_folder
from sponsor import found
from sponsor.config import Config
from storage.files import read_json, write_json
from storage.layers import LayerFolder
from tests.attacks import cheats
from tests.attacks.cheats import Seen, Steps
from training.evaluate import Evaluation
from training.examples import Example, read_examples
from training.session import Session, open_session

CONFIG: Final = Path(__file__).parents[1] / "configs" / "scored.toml"
WAYS: Final = ("equal", "whole", "new")
Way = Literal["equal", "whole", "new"]
_EIGHTHS: Final = 8
_CHEAT: Final = read_address("0x" + 40 * "f")
_ROUNDS: Final = 3
_QUICK: Final = ("none", "noise", "flipped", "movement, cosine 0.6")


def main() -> None:
    """Measure, write results and plot; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="minutes: two rounds, three cheats")
    parser.add_argument("--cheats", nargs="+", choices=CHEATS, metavar="NAME", help="only these")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="only these")
    parser.add_argument("--add", action="store_true", help="keep the other results that are there")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--memory", type=Path, help="where trainings and losses are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    try:
        run(options)
    except CommonweightError as error:
        sys.exit(f"error: {error}")


def run(options: argparse.Namespace) -> None:
    """Play every cheat under every way of scoring, and write what came of it so far."""
    started, runs = time.time(), list[dict[str, Any]]()
    name = "incentives-quick" if options.quick else "incentives"
    if options.add and (options.out / f"{name}.json").exists():
        runs = read_json(options.out / f"{name}.json")["runs"]
    rounds = 2 if options.quick else _ROUNDS
    wanted = options.cheats or (_QUICK if options.quick else CHEATS)
    chosen = dict.fromkeys(["none", *wanted])  # what all others are compared with
    for seed in options.seeds:
        memory = options.memory or cache_folder() / "incentives"
        stage = Stage.open(Config.load(options.config), seed, memory / str(seed))
        for cheat in chosen:
            for way in options.ways:
                played = Play(stage, way, CHEATS[cheat]).run(rounds)
                newest = {"seed": seed, "cheat": cheat, "way": way, **played}
                print(line_of(newest), flush=True)
                runs = sorted(
                    [each for each in runs if _key(each) != _key(newest)] + [newest], key=_key
                )
            facts = {"seconds": round(time.time() - started), "rounds": rounds}
            results = {**facts, "summary": summarise(runs), "runs": runs}
            path = write_results(options.out, name, results)
    print(path)
    plot(runs, options.out / f"{name}.png")


def _key(run: Mapping[str, Any]) -> tuple[int, ...]:
    return run["seed"], list(CHEATS).index(run["cheat"]), WAYS.index(run["way"])


# ------------------------------------------------------------------------------ the stage


@dataclass
class Stage:
    """What all plays of a seed share: the model, the data, and what was trained and evaluated."""

    spec: Spec
    session: Session
    initial: LayerFolder
    data: Mapping[Address, list[Example]]
    held_out: list[Example]
    memory: Path
    cap: int
    seed: int
    parts: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def open(cls, config: Config, seed: int, memory: Path) -> "Stage":
        """Return the stage of a configuration; its base model is loaded."""
        plan = found.plan(config, seed, cache_folder(), memory / "initial")
        session = open_session(plan.spec, config.model.source, cache_folder())
        files = config.data.participants.values()
        data = {Address(f"0x{n:040x}"): read_examples(f) for n, f in enumerate(files, 1)}
        assert config.data.held_out is not None
        held_out = read_examples(config.data.held_out)
        # What was evaluated is kept under the spec, and losses do not depend on how help is paid.
        plain = plan.spec.model_copy(update={"held_out": _paid_by("whole")})
        place = plain, session, plan.model.folder, data, held_out, memory, config.weight_cap
        return cls(*place, seed)

    @cached_property
    def losses(self) -> HeldOut:
        """The losses of all models that were ever evaluated, by root."""
        return HeldOut(self.spec, self._evaluate, self.memory / "losses.json")

    def _evaluate(self, model: LayerFolder) -> float:
        """Return the loss on the whole set, and keep that on each eighth of it."""
        rows = self.session.evaluate_each(model.read(self.spec), self.held_out)
        parts = [_mean_loss(rows[k::_EIGHTHS]) for k in range(_EIGHTHS)]
        root = model.root(self.spec).hex()
        write_json(self.memory / "parts" / f"{root}.json", parts)
        return _mean_loss(rows)

    def parts_of(self, root: Digest) -> list[float]:
        """Return the losses of a model on each eighth of the held-out set."""
        if root.hex() not in self.parts:
            self.parts[root.hex()] = read_json(self.memory / "parts" / f"{root.hex()}.json")
        return self.parts[root.hex()]

    def train(
        self, who: Address, model: LayerFolder, root: Digest, round_id: RoundId, kind: str = ""
    ) -> Steps:
        """Return an honest update, trained once; `kind` names another way of training."""
        source = who if who in self.data else next(iter(self.data))
        label = f"{root.hex()[:16]}-{who[-4:]}{kind}"
        kept = LayerFolder(self.memory / "trained" / label, "update")
        if not kept.layer_path(len(self.spec.layers) - 1).exists():
            examples, session = self.data[source], self.session
            if kind == "-shuffled":
                examples = _shuffled(examples)
            if kind == "-short":
                fewer = {"steps": max(1, self.spec.training.steps // 10)}
                training = self.spec.training.model_copy(update=fewer)
                session = session.with_spec(self.spec.model_copy(update={"training": training}))
            seed = int(who[-4:], 16) * 1_000 + round_id + 10**6 * self.seed
            update, _ = session.train(model.read(self.spec), examples, seed, round_id=round_id)
            kept.write(self.spec, update.steps)
        return kept.read(self.spec)


def _paid_by(gain: Literal["whole", "new"]) -> HeldOutScoring:
    return HeldOutScoring(gain=gain, tolerance=0)


def _mean_loss(rows: Sequence[Evaluation]) -> float:
    """Return the mean over all answer tokens of some rows, in nats."""
    return fsum(row.loss * row.tokens for row in rows) / sum(row.tokens for row in rows)


def _shuffled(examples: Sequence[Example]) -> list[Example]:
    order = np.random.default_rng(1).permutation(len(examples))
    return [
        Example(each.question, examples[other].answer)
        for each, other in zip(examples, order, strict=True)
    ]


# ------------------------------------------------------------------------------- one play


@dataclass(frozen=True)
class Past:
    """A round that was played: its updates in the average, and the model before it."""

    accepted: Mapping[Address, LayerFolder]
    before: LayerFolder


Make = Callable[["Play", RoundId], Steps | None]
"""Returns what a cheat sends; None where it does not take part."""


class Play(Seen):
    """Four honest participants and a cheat for some rounds, scored in one way."""

    def __init__(self, stage: Stage, way: Way, cheat: Make) -> None:
        self.address = _CHEAT
        self.stage, self.way, self.cheat = stage, way, cheat
        gain: Literal["whole", "new"] = "new" if way == "new" else "whole"
        self.spec = stage.spec.model_copy(update={"held_out": _paid_by(gain)})
        self.past: list[Past] = []
        self.model = stage.initial
        self.root = stage.initial.root(stage.spec)

    def accepted(self, spec: Spec, round_id: RoundId) -> dict[Address, Steps]:
        """Return the updates in the average of the round before."""
        last = self.past[-1].accepted if self.past else {}
        return {who: folder.read(spec) for who, folder in last.items()}

    def movement(self, spec: Spec, round_id: RoundId) -> Steps | None:
        """Return the last movement of the model in steps of the grid."""
        if not self.past:
            return None
        new, old = self.model.read(spec), self.past[-1].before.read(spec)
        scale = 2.0 ** (spec.encoding.grid_in(round_id) - FRACTION_BITS)
        moved = [(a.astype(np.float64) - b) * scale for a, b in zip(new, old, strict=True)]
        return [np.clip(np.rint(each), -MAX_STEPS, MAX_STEPS).astype(np.int8) for each in moved]

    def run(self, rounds: int) -> dict[str, Any]:
        """Play and return what the cheat and the honest ones got, and the final loss."""
        with tempfile.TemporaryDirectory() as folder:
            rows = [self._round(RoundId(n), Path(folder)) for n in range(1, rounds + 1)]
            final = self.stage.losses.loss(self.model, self.root) / 10**6
        acted = [row for row in rows if row["sent"]]
        honest = fmean([fmean(row["honest"]) for row in acted]) if acted else 0.0
        pay = fmean([row["cheat"] for row in acted]) / honest if honest else 0.0
        return {"pay": pay, "loss": final, "rounds": rows}

    def _round(self, round_id: RoundId, folder: Path) -> dict[str, Any]:
        stage, spec = self.stage, self.spec
        # 1. What is sent; the cheat commits last.
        sent = {w: stage.train(w, self.model, self.root, round_id) for w in stage.data}
        made = self.cheat(self, round_id)
        if made is not None:
            sent[_CHEAT] = made
        updates = {}
        for who, steps in sent.items():
            updates[who] = LayerFolder(folder / f"{round_id}-{who[-4:]}", "update")
            updates[who].write(spec, steps)
        # 2. Checks 9 to 12.
        rejected, similar = self._screen(updates)
        passed = [who for who in sorted(updates) if who not in rejected]
        # 3. Help.
        weights = dict.fromkeys(passed, stage.cap)
        if _CHEAT in weights and self.cheat is CHEATS["weak"]:
            weights[_CHEAT] = 1
        gains: dict[Address, float] = {}
        scores = dict.fromkeys(passed, int(FULL_BASIS_POINTS))
        if self.way != "equal":
            parts = self._repeated([updates[who] for who in passed])
            measured = [
                Measured(who, updates[who], weights[who], part)
                for who, part in zip(passed, parts, strict=True)
            ]
            start = self.model, self.root
            losses = measure_losses(spec, round_id, start, measured, stage.losses, folder)
            for who, score in scores_of(losses).items():
                scores[who], gains[who] = int(score.value), score.gain / 10**6
                if score.is_harm:
                    rejected[who] = int(Check.HARM)
        # 4. The average of what is left.
        kept = [who for who in passed if who not in rejected]
        target = LayerFolder(folder / f"model-{round_id}", "model")
        place = [updates[who] for who in kept], [weights[who] for who in kept], target, round_id
        root = average_layers(spec, self.model, *place)
        noise = self._noise(target, root)
        self.past.append(Past({who: updates[who] for who in kept}, self.model))
        self.model, self.root = target, root
        share = {w: scores[w] * weights[w] / (stage.cap * FULL_BASIS_POINTS) for w in kept}
        return {
            "sent": made is not None and not self._is_honest_yet(round_id),
            "check": rejected.get(_CHEAT, 0),
            "cheat": share.get(_CHEAT, 0.0),
            "honest": [share.get(who, 0.0) for who in stage.data],
            "gain": gains.get(_CHEAT),
            "honest_gains": [gains.get(who) for who in stage.data],
            "noise": noise,
            "honest_checks": [rejected.get(who, 0) for who in stage.data],
            "similar": similar.get(_CHEAT, 0.0),
            "honest_similar": [similar[who] for who in stage.data],
        }

    def _is_honest_yet(self, round_id: RoundId) -> bool:
        """Whether a cheat has nothing to send again, and so trains honestly."""
        return self.cheat is CHEATS["own last update"] and round_id == 1

    def _screen(
        self, updates: Mapping[Address, LayerFolder]
    ) -> tuple[dict[Address, int], dict[Address, float]]:
        """Return the check that rejects each update, where one does, and the cosine of check 12."""
        spec, rejected, similar = self.spec, {}, {}
        order, roots = list(updates), {w: f.root(spec) for w, f in updates.items()}
        copies = duplicates([(who, roots[who]) for who in order])
        for who, folder in updates.items():
            norm = cheats.length(folder.read(spec))
            if roots[who] == spec.zero_root:
                rejected[who] = int(Check.ZERO)
            elif who in copies:
                rejected[who] = int(Check.DUPLICATE)
            elif norm < spec.screening.min_norm:
                rejected[who] = int(Check.WEAK)
        found = compare_updates(spec, list(updates.values()), self._older(), self._movement())
        for n, who in enumerate(order):
            most = max([*found.among[n][:n], *found.earlier[n], found.movement[n]], default=0)
            similar[who] = most / FULL_BASIS_POINTS
            if most >= SIMILAR:
                rejected.setdefault(who, int(Check.SIMILAR))
        return rejected, similar

    def _older(self) -> list[LayerFolder]:
        recent = self.past[::-1][:ROUNDS_COMPARED]
        return [past.accepted[who] for past in recent for who in sorted(past.accepted)]

    def _movement(self) -> Movement | None:
        return Movement(self.past[-1].before, self.model) if self.past else None

    def _repeated(self, folders: Sequence[LayerFolder]) -> list[Repeated]:
        if self.way != "new":
            return [Repeated()] * len(folders)
        older, movement = self._older(), self._movement()
        found = project_updates(self.spec, folders, older, movement)
        return [Repeated(older, movement, each) for each in found]

    def _noise(self, target: LayerFolder, root: Digest) -> float:
        """Return the standard error of the round's gain over eighths of the held-out set."""
        self.stage.losses.loss(self.model, self.root)
        self.stage.losses.loss(target, root)
        before, after = self.stage.parts_of(self.root), self.stage.parts_of(root)
        gains = [old - new for old, new in zip(before, after, strict=True)]
        return float(stdev(gains) / _EIGHTHS**0.5)


def _noised_copy(cosine: float) -> Make:
    def made(play: Play, round_id: RoundId) -> Steps:
        first = next(iter(play.stage.data))
        steps = play.stage.train(first, play.model, play.root, round_id)
        scaled = cheats.scaled(steps, cosine * cheats.length(steps))
        return cheats.with_noise(play.spec, scaled, cosine, round_id)

    return made


def _noised_movement(cosine: float) -> Make:
    return lambda play, number: cheats.NoisedMovement(play, cosine).steps(play.spec, number)


def _of(kind: type[cheats.Cheat]) -> Make:
    return lambda play, number: kind(play).steps(play.spec, number)


def _trained(kind: str) -> Make:
    return lambda play, number: play.stage.train(_CHEAT, play.model, play.root, number, kind)


def _first(play: Play) -> Address:
    return next(iter(play.stage.data))


CHEATS: Final[dict[str, Make]] = {
    "none": lambda play, number: None,
    "honest": _trained(""),
    "zero": _of(cheats.Zero),
    "weak": _of(cheats.Weak),
    "weak, for the cap": _of(cheats.WeakForTheCap),
    "noise": _of(cheats.Noise),
    "flipped": lambda play, number: [-x for x in _trained("")(play, number) or []],
    "extreme": _of(cheats.Extreme),
    "copy": lambda play, number: play.stage.train(_first(play), play.model, play.root, number),
    "copy of before": _of(cheats.CopyOfBefore),
    "copy, cosine 0.85": _noised_copy(0.85),
    "copy, cosine 0.6": _noised_copy(0.6),
    "own last update": lambda play, number: (
        cheats.OwnLastUpdate(play).steps(play.spec, number)
        if play.past
        else _trained("")(play, number)
    ),
    "last movement": _of(cheats.LastMovement),
    "movement, cosine 0.85": _noised_movement(0.85),
    "movement, cosine 0.6": _noised_movement(0.6),
    "movement, cosine 0.4": _noised_movement(0.4),
    "shuffled answers": _trained("-shuffled"),
    "a tenth of the steps": _trained("-short"),
}
"""Two seats that share one training are a copy, exact or noised."""


# -------------------------------------------------------------------------------- results


def line_of(run: Mapping[str, Any]) -> str:
    """Return one run as a line of text."""
    checks = ", ".join(str(row["check"]) for row in run["rounds"] if row["sent"])
    return (
        f"seed {run['seed']}  {run['cheat']:<22} {run['way']:<6} checks {checks or '-':<12}"
        f" pay {run['pay']:>5.0%}  loss {run['loss']:.4f}"
    )


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each cheat and way: means over the seeds, cosines the largest.

    `honest` is the mean score of honest participants, `least` what the least paid of them got over
    all rounds in parts of what the best paid got.
    """
    alone = {(run["seed"], run["way"]): run["loss"] for run in runs if run["cheat"] == "none"}
    rows = []
    for cheat in dict.fromkeys(run["cheat"] for run in runs):
        for way in WAYS:
            found = [run for run in runs if (run["cheat"], run["way"]) == (cheat, way)]
            if not found:
                continue
            worse = [run["loss"] / alone[run["seed"], way] - 1 for run in found]
            acted = [row for run in found for row in run["rounds"] if row["sent"]]
            every = [row for run in found for row in run["rounds"]]
            got = [[row["honest"] for row in run["rounds"]] for run in found]
            paid = [[sum(each) for each in zip(*rounds, strict=True)] for rounds in got]
            rows.append(
                {
                    "cheat": cheat,
                    "way": way,
                    "checks": sorted({row["check"] for row in acted}),
                    "similar": max((row["similar"] for row in acted), default=0.0),
                    "pay": fmean(run["pay"] for run in found),
                    "loss": fmean(run["loss"] for run in found),
                    "worse": fmean(worse),
                    "honest": fmean(fmean(row["honest"]) for row in every),
                    "honest_similar": max(max(row["honest_similar"]) for row in every),
                    "least": fmean(min(each) / max(each) if any(each) else 0 for each in paid),
                }
            )
    return rows


def plot(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw what each cheat is paid, in parts of an honest participant's pay."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = summarise(runs)
    names = [name for name in dict.fromkeys(row["cheat"] for row in rows) if name != "none"]
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(names) + 1.2), layout="constrained")
    for place, way in enumerate(WAYS):
        pays = {row["cheat"]: row["pay"] for row in rows if row["way"] == way}
        found = [name for name in names if name in pays]
        if found:
            heights = [names.index(name) + (1 - place) * 0.25 for name in found]
            axes.barh(heights, [pays[name] for name in found], height=0.23, label=way)
    axes.axvline(0.05, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("pay, in parts of an honest participant's")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
