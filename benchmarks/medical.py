"""Private medical data: the base model, each participant alone, all in one place, and federated.

    python -m benchmarks.medical --data FOLDER      (`make bench-medical DATA=FOLDER`; QUICK=1)

FOLDER holds medquad/*.jsonl. configs/medical-small.toml is played by `commonweight demo` with
everything: chain, IPFS, exact average, audit. Then the same data train the same model from the same
start for as many optimiser steps, without interruption: each participant's share by itself, and all
of it in one place. So these keep AdamW's moments, which a federation begins anew each round, and
their float32, which a federation rounds to differences of one byte a value. A
federation sees as many batches at once as it has participants; "centralised, wide" sees as many
examples a step in one place. What does not depend on who has which row is measured once a seed.

Told for each, on the public held-out questions: loss in nats an answer token, perplexity, ROUGE-L
and exact match of the first answers. Results: benchmarks/results/medical.json and medical.png.
"""

import argparse
import hashlib
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.common import add_options, data_file, spread, write_results
from protocol.encoding import encode_values
from protocol.errors import CommonweightError
from protocol.spec import Spec
from runtime.events import Evaluated, Failed, Finalized
from runtime.progress import Line
from sponsor.config import Config

CONFIG: Final = Path(__file__).parents[1] / "configs" / "medical-small.toml"
Split = Literal["iid", "dirichlet"]
SPLITS: Final[tuple[Split, ...]] = ("iid", "dirichlet")
PROCESSES: Final = 2
_ALIKE: Final = ("base", "centralised", "centralised, wide")  # whoever has which row

Models = dict[str, dict[str, float]]
Known = dict[str, Models]


@dataclass(frozen=True)
class Size:
    """How much of everything: rounds and steps of each, and questions that are answered."""

    rounds: int
    steps: int
    questions: int
    answer_tokens: int
    held_out_share: float


FULL: Final = Size(rounds=3, steps=6, questions=12, answer_tokens=64, held_out_share=0.02)
QUICK: Final = Size(rounds=1, steps=2, questions=2, answer_tokens=8, held_out_share=0.004)


@dataclass(frozen=True)
class Job:
    """A model to measure: trained on `files` for `steps` from `start`; without files as it is."""

    name: str
    spec: bytes
    source: str
    cache: Path
    start: Path
    held_out: Path
    files: tuple[Path, ...]
    steps: int
    seed: int
    questions: int  # 0: none is answered
    answer_tokens: int
    batches: int = 1  # of the spec's size in a step


def main() -> None:
    """Measure, write the results and the plot; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--source", help="another base model, such as tiny-llama")
    options = parser.parse_args()
    try:
        data = data_file(options.data, "medquad/*.jsonl")
        run(data, options)
    except CommonweightError as error:
        sys.exit(f"error: {error}")


def run(data: Path, options: argparse.Namespace) -> None:
    """Play every split and seed, one after the other, and write what came of it so far."""
    size = QUICK if options.quick else FULL
    seeds, splits = (options.seeds[:1], SPLITS[1:]) if options.quick else (options.seeds, SPLITS)
    started, runs = time.time(), []
    known: Known = {}
    name = "medical-quick" if options.quick else "medical"
    for seed in seeds:
        for split in splits:
            played = play(data, size, split, seed, options.source, known)
            runs.append({"split": split, "seed": seed, **played})
            facts = {"seconds": round(time.time() - started), "size": vars(size)}
            results = {**facts, "summary": summarise(runs), "runs": runs}
            print(write_results(options.out, name, results), flush=True)
    plot(runs, options.out / f"{name}.png")


def play(
    data: Path, size: Size, split: Split, seed: int, source: str | None, known: Known
) -> dict[str, Any]:
    """Return the losses of one federation and of everything beside it."""
    config = adjusted(Config.load(CONFIG, str(data)), size, split, source)
    with own_home():
        from commonweight.demo.run import Options, run_demo

        federated = run_demo(config, Options(seed=seed), show)
        rows = measure(config, size, seed, federated, known)
        spec = spec_of(config, seed, federated)
    return {
        "rounds": [
            {name: row[name] for name in ("round", "loss", "aggregation_error", "seconds")}
            for row in federated["rounds"]
        ],
        "audit": federated["audit"],
        "examples": [row["training"] for row in federated["data"].values()],
        "bytes_an_update": spec.total_bytes("update"),
        "bytes_full_fine_tuning": weights(config),  # at one byte a value, as in an update
        "models": rows,
    }


def adjusted(config: Config, size: Size, split: Split, source: str | None) -> Config:
    """Return the configuration with the benchmark's size and split."""
    partition = config.data.partition.model_copy(update={"kind": split})
    share = size.held_out_share
    data = config.data.model_copy(update={"partition": partition, "held_out_share": share})
    return config.model_copy(
        update={
            "data": data,
            "training": config.training.model_copy(update={"steps": size.steps}),
            "seats": config.seats.model_copy(update={"rounds": size.rounds}),
            "model": config.model.model_copy(update={"source": source or config.model.source}),
        }
    )


def spec_of(config: Config, seed: int, federated: dict[str, Any]) -> Spec:
    """Return the federation's spec but for its grid; its initial model goes to the run's folder."""
    from commonweight.demo.shards import prepare_data
    from runtime.home import cache_folder
    from sponsor.found import plan

    run = Path(federated["folder"])
    prepared = prepare_data(config, run / "data", seed)
    return plan(without_trial(prepared), seed, cache_folder(), run / "start").spec


def without_trial(config: Config) -> Config:
    """Return the configuration with any grid and least norm, which training in float32 ignores."""
    encoding = config.encoding.model_copy(update={"grid_bits": 0})
    screening = config.screening.model_copy(update={"min_norm": 1})
    return config.model_copy(update={"encoding": encoding, "screening": screening})


def measure(
    config: Config, size: Size, seed: int, federated: dict[str, Any], known: Known
) -> Models:
    """Return what each model comes to, by its name.

    `known` has what was measured before of base and centralised models, and gets what is new.
    """
    from runtime.home import cache_folder

    spec, run = spec_of(config, seed, federated), Path(federated["folder"])
    rounds = run / "aggregator" / "state" / federated["federation"]
    shares = sorted((run / "data").glob("participant-*.jsonl"))
    base = Job(
        name="base",
        spec=spec.to_bytes(),
        source=config.model.source,
        cache=cache_folder(),
        start=run / "start",
        held_out=run / "data" / "held_out.jsonl",
        files=(),
        steps=size.steps * size.rounds,
        seed=seed,
        questions=size.questions,
        answer_tokens=size.answer_tokens,
    )
    alone = [
        replace(base, name=f"alone {n}", files=(each,), questions=0)
        for n, each in enumerate(shares, 1)
    ]
    final = rounds / f"round-{size.rounds:04d}" / "model"
    jobs = [*alone, replace(base, name="federated", start=final)]
    same_data = fingerprint(base.held_out, shares)
    if same_data not in known:
        centralised = replace(base, name="centralised", files=tuple(shares))
        wide = replace(centralised, name="centralised, wide", batches=len(shares), questions=0)
        jobs = [wide, centralised, *jobs, base]
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        models = dict(pool.map(measure_one, jobs))
    alike = {name: each for name, each in models.items() if name in _ALIKE}
    return models | known.setdefault(same_data, alike)


def fingerprint(held_out: Path, shares: Sequence[Path]) -> str:
    """Return what is the same for the same rows, however they are shared out."""
    rows = sorted(row for each in shares for row in each.read_bytes().splitlines())
    return hashlib.sha256(b"\n".join([held_out.read_bytes(), *rows])).hexdigest()


def measure_one(job: Job) -> tuple[str, dict[str, float]]:
    """Train as the job says, if it does, and measure: runs in a process of its own, one thread."""
    from storage.layers import LayerFolder
    from training.examples import read_examples
    from training.model import set_threads
    from training.session import open_session

    set_threads(1)
    spec, started = Spec.parse(job.spec), time.perf_counter()
    # All steps at once: another spec, but for what is trained and how long the same.
    batch = job.batches * spec.training.batch_size
    training = spec.training.model_copy(update={"steps": job.steps, "batch_size": batch})
    session = open_session(spec.model_copy(update={"training": training}), job.source, job.cache)
    layers = LayerFolder(job.start, "model").read(spec)
    if job.files:
        examples = [each for file in job.files for each in read_examples(file)]
        examples.sort(key=lambda each: (each.question, each.answer))
        # As float32 throughout: no update is sent, so nothing is rounded to the grid.
        trained, _ = session.train_arrays(session.decode(layers), examples, job.seed)
        layers = [encode_values(trained[layer.name]) for layer in spec.layers]
    held_out = read_examples(job.held_out)
    found = session.evaluate(layers, held_out)
    facts = {"loss": found.loss, "perplexity": found.perplexity}
    if asked := held_out[: job.questions]:
        answers = session.answers(layers, [each.question for each in asked], job.answer_tokens)
        facts |= answer_scores(answers, [each.answer for each in asked])
    return job.name, {**facts, "seconds": time.perf_counter() - started}


def answer_scores(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return the mean ROUGE-L F1 (stemmed) and the share of answers that are the expected ones."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = list(zip(expected, answers, strict=True))
    scores = [scorer.score(right, given)["rougeL"].fmeasure for right, given in pairs]
    same = [" ".join(right.split()) == " ".join(given.split()) for right, given in pairs]
    return {"rouge_l": math.fsum(scores) / len(pairs), "exact_match": sum(same) / len(pairs)}


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, by split, each loss and the three comparisons as mean and deviation over seeds."""
    return {
        split: _summary([each for each in runs if each["split"] == split])
        for split in dict.fromkeys(each["split"] for each in runs)
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    models = [each["models"] for each in runs]
    losses = {name: [each[name]["loss"] for each in models] for name in (*_ALIKE, "federated")} | {
        "alone": [_alone(each) for each in models]
    }
    answered = {
        figure: {
            name: spread([each[name][figure] for each in models])
            for name in ("base", "centralised", "federated")
        }
        for figure in ("rouge_l", "exact_match")
    }

    def over(one: str, other: str) -> dict[str, float]:
        pairs = zip(losses[one], losses[other], strict=True)
        return spread([a / b - 1 for a, b in pairs])

    federated = zip(losses["federated"], losses["base"], strict=True)
    return {
        "loss": {name: spread(values) for name, values in losses.items()},
        **answered,
        "federated_under_base": spread([1 - f / b for f, b in federated]),
        "federated_over_centralised": over("federated", "centralised"),
        "federated_over_wide": over("federated", "centralised, wide"),
        "alone_over_federated": over("alone", "federated"),
    }


def _alone(models: dict[str, Any]) -> float:
    losses = [each["loss"] for name, each in models.items() if name.startswith("alone")]
    return math.fsum(losses) / len(losses)


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the losses side by side, one panel a split, a dot for each seed."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    splits = list(dict.fromkeys(each["split"] for each in runs))
    figure, panels = pyplot.subplots(
        1, len(splits), figsize=(4.6 * len(splits), 3.6), sharey=True, squeeze=False
    )
    for axes, split in zip(panels[0], splits, strict=True):
        models = [each["models"] for each in runs if each["split"] == split]
        columns = {
            "base": [each["base"]["loss"] for each in models],
            "alone": [_alone(each) for each in models],
            "federated": [each["federated"]["loss"] for each in models],
            "centralised": [each["centralised"]["loss"] for each in models],
            "wide": [each["centralised, wide"]["loss"] for each in models],
        }
        axes.bar(list(columns), [math.fsum(v) / len(v) for v in columns.values()], color="#a9ccd6")
        for position, values in enumerate(columns.values()):
            axes.scatter([position] * len(values), values, color="#1f6f8b", zorder=2)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(split)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("held-out loss, nats a token")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def weights(config: Config) -> int:
    """Return how many values the base model has, all of which full fine-tuning would send."""
    from runtime.home import cache_folder
    from training.model import empty_model
    from training.sources import resolve_source

    folder = resolve_source(config.model.source, cache_folder()).folder
    return sum(each.numel() for each in empty_model(folder).parameters())


@contextmanager
def own_home() -> Iterator[None]:
    """Keep wallets, runs and devnet in a folder of their own; the converted model stays."""
    from runtime.home import cache_folder

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("COMMONWEIGHT_HOME")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cache").symlink_to(cache)
        os.environ["COMMONWEIGHT_HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("COMMONWEIGHT_HOME")
            if before is not None:
                os.environ["COMMONWEIGHT_HOME"] = before


def show(line: Line) -> None:
    """Tell the steps of a federation that take long."""
    if isinstance(line.event, Evaluated | Finalized | Failed):
        facts = line.event.facts()
        print(
            f"{line.event.phase} {facts.get('round', '')} {facts.get('loss', '')}", file=sys.stderr
        )


if __name__ == "__main__":
    main()
