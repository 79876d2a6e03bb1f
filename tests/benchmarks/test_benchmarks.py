"""The benchmarks' own arithmetic, and what they say when something is missing."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from benchmarks import disk, explorer, glue, medical, overhead, tables, vram
from benchmarks.common import DATA_VARIABLE, RESULTS, data_file, spread, write_results
from contracts.compiler import load_artifact
from protocol.errors import Misconfigured
from protocol.spec import Adapter, Quantization, Training
from protocol.types import RoundId
from runtime import events
from runtime.progress import Line
from sponsor.config import Config
from tests.world import SHAPES


def test_missing_data_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(Misconfigured, match=f"give --data FOLDER or set {DATA_VARIABLE}"):
        data_file(None, "cola/dev.jsonl")
    with pytest.raises(Misconfigured, match=r"expected one file cola/dev\.jsonl, found 0"):
        data_file(tmp_path, "cola/dev.jsonl")
    (tmp_path / "cola").mkdir()
    (tmp_path / "cola" / "dev.jsonl").touch()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert data_file(None, "cola/dev*.jsonl") == tmp_path / "cola" / "dev.jsonl"


def test_results_say_what_machine_they_are_of(tmp_path: Path) -> None:
    found = json.loads(write_results(tmp_path / "new", "x", {"a": 1}).read_text())
    assert found["a"] == 1
    assert found["machine"]["cores"] >= 1


def test_the_spread_is_the_samples() -> None:
    assert spread([1.0, 2.0, 4.0]) == {
        "mean": pytest.approx(7 / 3),
        "deviation": pytest.approx(np.std([1, 2, 4], ddof=1)),
    }
    assert spread([3.0]) == {"mean": 3.0, "deviation": 0.0}


# ------------------------------------------------------------------------------------ explorer


def test_calls_are_encoded_as_web3_does() -> None:
    inputs = {e["name"]: e["inputs"] for e in load_artifact("Federation")["abi"] if "name" in e}
    kinds = [explorer._kind(each) for each in inputs["propose"]]
    assert kinds == ["uint256", "bytes32", "bytes32", "(address,bytes30,uint32,uint16,uint8)[]"]


def test_times_of_pages_are_summed_up() -> None:
    summary = explorer._summary([0.3, 0.1, 0.2])
    assert summary == {"first": 300.0, "median": 200.0, "worst": 300.0}


# ------------------------------------------------------------------------------------- medical


def medical_run(split: str, seed: int, federated: float) -> dict[str, object]:
    losses = {"base": 2.0, "centralised": 1.5, "centralised, wide": 1.4, "federated": federated}
    alone = {"alone 1": {"loss": 1.6}, "alone 2": {"loss": 2.0}}
    scores = {
        name: {"loss": loss, "rouge_l": 0.1, "exact_match": 0.0} for name, loss in losses.items()
    } | alone
    return {"split": split, "seed": seed, "models": scores}


def test_the_medical_summary_compares_by_split() -> None:
    runs = [medical_run("iid", 0, 1.5), medical_run("iid", 1, 1.7), medical_run("dirichlet", 0, 1)]
    summary = medical.summarise(runs)
    iid = summary["iid"]
    assert iid["loss"]["alone"]["mean"] == pytest.approx(1.8)
    assert iid["loss"]["federated"]["mean"] == pytest.approx(1.6)
    assert iid["federated_under_base"]["mean"] == pytest.approx((0.25 + 0.15) / 2)
    assert iid["federated_over_centralised"]["mean"] == pytest.approx((0 + 1.7 / 1.5 - 1) / 2)
    assert iid["federated_over_wide"]["mean"] == pytest.approx((1.5 / 1.4 + 1.7 / 1.4) / 2 - 1)
    assert iid["alone_over_federated"]["mean"] == pytest.approx((1.8 / 1.5 + 1.8 / 1.7) / 2 - 1)
    assert summary["dirichlet"]["federated_under_base"] == {"mean": 0.5, "deviation": 0.0}


def test_rows_shared_out_otherwise_are_the_same_data(tmp_path: Path) -> None:
    held_out, one, two = (tmp_path / name for name in ("held_out", "one", "two"))
    held_out.write_text("q\n")
    one.write_text("a\nb\n")
    two.write_text("c\n")
    before = medical.fingerprint(held_out, [one, two])
    one.write_text("c\nb\n")
    two.write_text("a\n")
    assert medical.fingerprint(held_out, [one, two]) == before
    two.write_text("a\na\n")
    assert medical.fingerprint(held_out, [one, two]) != before
    two.write_text("a\n")
    held_out.write_text("r\n")
    assert medical.fingerprint(held_out, [one, two]) != before


def test_the_medical_federation_has_the_benchmarks_size(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    loaded = Config.load(medical.CONFIG, str(tmp_path / "rows.jsonl"))
    config = medical.adjusted(loaded, medical.QUICK, "dirichlet", "tiny-llama")
    assert (config.seats.rounds, config.training.steps) == (1, 2)
    assert (config.data.partition.kind, config.model.source) == ("dirichlet", "tiny-llama")
    assert config.data.held_out_share == 0.004
    assert Config.model_validate(config.model_dump()) == config  # nothing is set that is no key
    fixed = medical.without_trial(config)
    assert fixed.encoding.grid_bits is not None
    assert fixed.screening.min_norm is not None
    assert (fixed.training, fixed.seats) == (config.training, config.seats)


def test_answers_are_scored_by_rouge_and_to_the_letter() -> None:
    pytest.importorskip("rouge_score")
    same = medical.answer_scores(["a b  c d"], ["a b c d"])
    assert same == {"rouge_l": 1.0, "exact_match": 1.0}
    # The longest common subsequence has 2 of 4 words on both sides.
    half = medical.answer_scores(["a x c y"], ["a b c d"])
    assert half == {"rouge_l": pytest.approx(0.5), "exact_match": 0.0}


# ---------------------------------------------------------------------------------------- glue


def test_shares_are_apart_and_the_same_for_a_seed(tmp_path: Path) -> None:
    for name, count in (("train", 103), ("dev", 7)):
        rows = ({"sentence": f"{name} {n}", "label": n % 2} for n in range(count))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, dev_file = tmp_path / "train.jsonl", tmp_path / "dev.jsonl"
    of: dict[str, Any] = {
        "teacher": "",
        "student": "",
        "cache": tmp_path,
        "steps": 1,
        "teacher_steps": 1,
    }
    job = glue.Job("cola", "FedAvg", train, dev_file, seed=3, **of)
    public, shares, dev = glue.shared_out(job)
    assert (len(public), [len(share) for share in shares], len(dev)) == (34, [18, 17, 17, 17], 7)
    everything = [each.text for part in (public, *shares) for each in part]
    assert len(set(everything)) == 103
    assert glue.shared_out(job) == (public, shares, dev)
    assert [each.text for each in glue.read(tmp_path / "train.jsonl", 2)] == ["train 0", "train 51"]


def test_updates_are_averaged_by_examples() -> None:
    first, second = ({"w": np.full(3, value, np.float32)} for value in (1.0, 4.0))
    assert (glue.average([first, second], [2, 1])["w"] == 2).all()


# ------------------------------------------------------------------------------------ overhead


def evaluated(time: float, number: int) -> Line:
    return Line(time, "aggregator", events.Evaluated(round=RoundId(number), loss=1.0, tokens=1))


def opened(time: float, number: int) -> Line:
    return Line(time, "aggregator", events.Opened(round=RoundId(number), gas=1))


def proposed(time: float, number: int) -> Line:
    return Line(time, "aggregator", events.Proposed(round=RoundId(number), gas=1, model_root=""))


def test_a_round_is_divided_into_phases_with_nothing_lost() -> None:
    lines = [
        evaluated(0, 0),
        opened(1, 1),
        evaluated(7, 1),
        opened(10, 2),
        Line(11, "ann", events.Training(round=RoundId(2), step=1, steps=2, loss=1.0)),
        proposed(14, 2),
        evaluated(20, 2),
        opened(21, 3),
        proposed(24, 3),
        evaluated(30, 3),
        Line(99, "aggregator", events.Finished()),
    ]
    parts = overhead.where_it_goes(lines, range(2, 4))
    assert parts == {"opening": 2.0, "opened": 3.5, "proposed": 6.0}
    assert sum(parts.values()) == (30 - 7) / 2


def test_longer_rounds_are_tried_out_for_their_grid() -> None:
    base = Config.load(Path(overhead.ROOT) / "configs" / "demo.toml")
    config = overhead.longer(base, 60, 3)
    assert (config.training.steps, config.seats.rounds) == (60, 3)
    assert (config.encoding.grid_bits, config.screening.min_norm) == (None, None)
    assert Config.model_validate(config.model_dump()) == config
    assert config.data == base.data


def test_plain_rounds_leave_the_first_out() -> None:
    assert overhead.plain_seconds({"ends": [0.0, 9.0, 11.0, 15.0]}, range(2, 4)) == 3.0


def test_what_a_participant_does_is_the_mean_of_all_and_of_the_rounds() -> None:
    def phases(number: int, train: float) -> dict[str, object]:
        rows = [("participant", "train", train), ("aggregator", "average", 99.0)]
        return {
            "round": number,
            "phases": [{"role": r, "phase": p, "seconds": s} for r, p, s in rows],
        }

    roles = {"ann": "participant", "bob": "participant", "carl": "aggregator"}
    profile = {"roles": roles, "by_round": [phases(1, 50), phases(2, 8), phases(3, 12)]}
    assert overhead.participant_phases(profile, range(2, 4)) == {"train": 5.0}


# ---------------------------------------------------------------------------------------- vram


def test_a_shape_is_measured_as_on_a_gpu(tmp_path: Path) -> None:
    shape = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=128,
    )
    vram.write_random_weights(shape, tmp_path)
    quantization = Quantization(kind="nf4", double_quantization=False, compute_dtype="float32")
    adapter = Adapter(rank=4, alpha=8, dropout=0.0, targets=("q_proj", "v_proj"), mode="fedit")
    training = Training(
        learning_rate=1e-3,
        batch_size=2,
        steps=3,
        sequence_length=32,
        scheduler="constant",
        warmup_steps=0,
        seed=0,
        gradient_checkpointing=True,
    )
    found = vram.measure(tmp_path, quantization, adapter, training)
    assert found["tokens_a_second"] > 0
    assert ("peak_gb" in found) == torch.cuda.is_available()


@pytest.mark.parametrize("kind", vram.KINDS)
def test_flowertunes_models_are_estimated_without_weights(kind: vram.Kind) -> None:
    found = vram.row("3b", kind)
    assert found["estimate_gb"] == pytest.approx(sum(found["parts_gb"].values()), abs=0.1)
    # 3.3 billion weights, of which the embeddings stay float32.
    low, high = {"nf4": (2.3, 3.0), "int8": (3.7, 4.4)}[kind]
    assert low < found["parts_gb"]["weights"] < high


def test_the_quick_run_takes_one_seed(tmp_path: Path) -> None:
    for name in ("cola", "sst2"):
        (tmp_path / name).mkdir()
        for part in ("train", "dev"):
            (tmp_path / name / f"{part}.jsonl").touch()
    options = argparse.Namespace(
        data=tmp_path, seeds=[0, 1], quick=True, teacher=str(tmp_path), student=None, layers=0
    )
    jobs = glue.jobs_of(options)
    assert [(job.name, job.scheme, job.seed, job.student_layers) for job in jobs] == [
        (name, scheme, 0, None) for name in ("cola", "sst2") for scheme in glue.SCHEMES
    ]
    options.quick = False
    assert len(glue.jobs_of(options)) == 12


def test_a_run_is_told_of_once_all_its_schemes_were_played() -> None:
    def played(seed: int, scheme: str) -> dict[str, Any]:
        rounds = [{"accuracy": 0.5 + seed}]
        teacher = {"teacher": {"accuracy": 0.9}} if scheme == "FedKD-LoRA" else {}
        return {"set": "cola", "seed": seed, "scheme": scheme, "rounds": rounds, **teacher}

    results = [played(seed, scheme) for seed in (0, 1) for scheme in glue.SCHEMES]
    assert glue.whole_runs(results[:2]) == []
    (first,) = glue.whole_runs(results[:5])
    assert (first["seed"], first["teacher"]) == (0, {"accuracy": 0.9})
    assert list(first["schemes"]) == list(glue.SCHEMES)
    assert [run["schemes"]["FedAvg"][0]["accuracy"] for run in glue.whole_runs(results)] == [
        0.5,
        1.5,
    ]


# -------------------------------------------------------------------------------------- tables


def test_tables_are_filled_from_what_the_benchmarks_write(tmp_path: Path) -> None:
    runs = [medical_run("iid", seed, 1.5) for seed in (0, 1)]
    sizes = {"bytes_full_fine_tuning": 500e6, "bytes_an_update": 5e6}
    found = {"summary": medical.summarise(runs), "runs": [each | sizes for each in runs]}
    write_results(tmp_path, "medical", found)
    page = "before\n<!-- medical -->\nold\n<!-- end -->\n<!-- glue -->\n<!-- end -->\nafter"
    filled = tables.filled(page, tmp_path)
    assert "old" not in filled
    assert "| iid | 2 | 2.0000 ± 0.0000 | 1.8000" in filled
    assert "25.0% ± 0.0%" in filled
    assert "100 times" in filled
    assert "Not run in full yet: there is no `benchmarks/results/glue.json`." in filled
    assert filled.startswith("before\n<!-- medical -->")
    assert filled.endswith("<!-- end -->\nafter")
    assert tables.filled(filled, tmp_path) == filled


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_pages_have_the_tables_of_the_results(page: Path) -> None:
    text = page.read_text()
    assert tables.filled(text, RESULTS) == text, "run `python -m benchmarks.tables`"


# ---------------------------------------------------------------------------------------- disk


@pytest.mark.long
def test_no_disk_grows_but_by_models_events_and_the_profile() -> None:
    with disk.staged("disputable", 8) as stage:
        sizes = []
        for _ in range(2):
            for _ in range(4):
                stage.play()
            assert {check.passed for check in stage.audit()} <= {None}
            sizes.append(stage.sizes())
    before, after = sizes
    models = 4 * (sum(map(math.prod, SHAPES.values())) * 4)
    for role, parts in after.items():
        assert parts["files"] == pytest.approx(before[role]["files"], abs=2_000), role
        grown = parts["store"] - before[role]["store"]
        assert grown == (pytest.approx(models, rel=0.2) if role == "aggregator" else 0), role
