import hashlib
import json
import os
import random
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES, BuildModel, settings
from training.adapter import Arrays, rank_part, read_adapter
from training.data import IGNORED, collate, tokenize
from training.seeded import shuffled_order
from training.train import Options, train, train_from


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
@pytest.mark.parametrize("kind", ["none", "nf4", "int8", "bf16"])
def test_every_kind_and_mode_learns(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, kind: str, mode: str
) -> None:
    model = build_model(kind, mode)
    frozen = {name: copy(tensor) for name, tensor in frozen_parameters(model).items()}
    losses = []
    report = train(
        model,
        tokenizer,
        EXAMPLES,
        settings(steps=6, learning_rate=0.02),
        on_step=lambda step, steps, loss: losses.append((step, steps, loss)),
    )
    assert [step for step, _, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert all(steps == 6 for _, steps, _ in losses)
    values = [loss for _, _, loss in losses]
    assert values[-1] < values[0] - 0.5
    assert report.last_loss == values[-1]
    assert report.mean_loss == pytest.approx(sum(values) / 6)
    assert (report.steps, report.examples, report.truncated) == (6, 12, 0)
    for name, tensor in frozen_parameters(model).items():
        assert (copy(tensor) == frozen[name]).all(), name


def test_one_step_has_known_values(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Loss and adapter after one AdamW step, from the formulas and plain torch."""
    model = build_model()
    first = read_adapter(model)
    report = train(model, tokenizer, EXAMPLES, settings(steps=1))
    assert report.last_loss == pytest.approx(6.368915, abs=1e-4)

    reference = build_model()
    rows = tokenize(tokenizer, EXAMPLES, 128).rows
    batch = collate([rows[index] for index in shuffled_order("order/3/0", 12)[:4]], 256)
    labels = torch.full_like(batch["input_ids"], IGNORED)
    labels[:, -batch["logits_to_keep"] :] = batch["labels"]
    loss = reference(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
    ).loss
    loss.backward()
    assert report.last_loss == pytest.approx(float(loss.detach()), abs=1e-5)
    assert report.tokens == int((labels != IGNORED).sum())
    trained = read_adapter(model)
    gradients = {
        name.replace(".default.", "."): parameter.grad.numpy()
        for name, parameter in reference.named_parameters()
        if parameter.requires_grad
    }
    # Clipped to norm 1; the first step of Adam is lr * g / (|g| + eps).
    norm = np.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
    for name, gradient in gradients.items():
        clipped = gradient / max(norm, 1.0)
        expected = first[name] - 0.01 * clipped / (np.abs(clipped) + 1e-8)
        assert trained[name] == pytest.approx(expected, abs=2e-4), name


def test_nothing_leaks_from_one_participant_to_the_next(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model("nf4", dropout=0.3)
    start = read_adapter(model)
    alone, report = train_from(model, tokenizer, start, EXAMPLES[6:], settings(), seed=8)
    train_from(model, tokenizer, start, EXAMPLES[:6], settings(learning_rate=0.1), seed=7)
    torch.manual_seed(99)
    after, again = train_from(model, tokenizer, start, EXAMPLES[6:], settings(), seed=8)
    assert_same(after, alone)
    assert (again.mean_loss, again.last_loss) == (report.mean_loss, report.last_loss)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_seed_decides_order_and_dropout(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model(dropout=0.3)
    start = read_adapter(model)
    one, _ = train_from(model, tokenizer, start, EXAMPLES[:1], settings(batch_size=1), seed=1)
    two, _ = train_from(model, tokenizer, start, EXAMPLES[:1], settings(batch_size=1), seed=2)
    assert digest(one) != digest(two)  # one example has one order: only dropout differs
    plain = build_model()
    one, _ = train_from(plain, tokenizer, start, EXAMPLES, settings(steps=1), seed=1)
    two, _ = train_from(plain, tokenizer, start, EXAMPLES, settings(steps=1), seed=2)
    assert digest(one) != digest(two)


def test_random_states_are_left_as_they_were(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def seed() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    expected = draws()
    seed()
    train(model, tokenizer, EXAMPLES, settings(steps=1))
    assert draws() == expected


def test_another_process_with_more_threads_gets_the_same_bits(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, tiny_folder: str
) -> None:
    model = build_model("nf4", dropout=0.1)
    arrays, report = train_from(model, tokenizer, read_adapter(model), EXAMPLES, settings())
    completed = subprocess.run(
        [sys.executable, "-m", "tests.training.train_once", tiny_folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        # Threads that sleep while they wait, or a busy machine makes this test last minutes.
        env=os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert completed.stderr == ""
    assert json.loads(completed.stdout) == [digest(arrays), report.mean_loss]


def test_every_pass_sees_every_example(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()
    report = train(model, tokenizer, EXAMPLES[:5], settings(batch_size=3, steps=2))
    assert report.examples == 5  # six drawn from five
    report = train(model, tokenizer, EXAMPLES, settings(batch_size=3, steps=2))
    assert report.examples == 6


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "linear"])
def test_warm_up_begins_at_zero(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, scheduler: str
) -> None:
    model = build_model()
    start = read_adapter(model)
    train(model, tokenizer, EXAMPLES, settings(steps=1, scheduler=scheduler, warmup_steps=1))
    assert_same(read_adapter(model), start)
    train(model, tokenizer, EXAMPLES, settings(steps=2, scheduler=scheduler, warmup_steps=1))
    assert digest(read_adapter(model)) != digest(start)


def test_nothing_is_printed(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerBase,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    train(build_model("int8"), tokenizer, EXAMPLES, settings(steps=2))
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.filterwarnings("ignore")
def test_divergence_is_one_clear_line(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(Misconfigured, match=r"diverged: the loss at step \d is nan; lower"):
        train(build_model(), tokenizer, EXAMPLES, settings(learning_rate=1e30))


def test_a_sequence_longer_than_the_model_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(Misconfigured, match="2000 is more than the 1024"):
        train(build_model(), tokenizer, EXAMPLES, settings(sequence_length=2000))


def distance(first: Arrays, second: Arrays) -> float:
    return float(np.sqrt(sum(((first[name] - second[name]) ** 2).sum() for name in first)))


@pytest.mark.parametrize("kind", ["none", "nf4"])
def test_fedprox_holds_the_update_near_the_model(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    model = build_model(kind)
    start = read_adapter(model)
    moved = []
    for mu in (0.0, 1.0, 100.0):
        arrays, _ = train_from(model, tokenizer, start, EXAMPLES, settings(proximal_mu=mu))
        moved.append(distance(arrays, start))
    assert moved[0] > 1.1 * moved[1] > 1.2 * moved[2] > 0


def test_the_proximal_gradient_is_mu_times_the_way_gone(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss's own gradients out of the way, what AdamW sees is mu * (w - start)."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model = build_model()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in trained.items()}

    def step(self: object, *arguments: object, **named: object) -> torch.Tensor:
        for parameter in trained.values():
            with torch.no_grad():
                parameter.add_(0.5)  # as if an earlier step had moved it
            parameter.grad = torch.zeros_like(parameter)
        return torch.tensor(1.0)

    def spy(parameters: object, *arguments: object, **named: object) -> torch.Tensor:
        seen.extend((p.grad.clone(), p.detach() - start[n]) for n, p in trained.items())
        return torch.tensor(0.0)

    monkeypatch.setattr("transformers.Trainer.training_step", step)
    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", lambda self, *a, **k: spy(*a))
    train(model, tokenizer, EXAMPLES, settings(steps=1, proximal_mu=3.0))
    assert len(seen) == len(trained)
    for gradient, way in seen:
        assert torch.allclose(gradient, 3.0 * way)
        assert float(way.abs().max()) > 0.4


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
def test_a_lower_rank_leaves_the_other_ranks_alone(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, mode: str
) -> None:
    model = build_model("nf4", mode, dropout=0.1)
    start = read_adapter(model)
    arrays, _ = train_from(
        model, tokenizer, start, EXAMPLES, settings(proximal_mu=0.1), options=Options(rank=3)
    )
    for name, array in arrays.items():
        part, rest = rank_part(name, 3), rank_part(name, None)
        assert (array[part] != start[name][part]).any(), name
        changed = array != start[name]
        changed[part] = False
        assert not changed[rest].any(), name
    whole, _ = train_from(model, tokenizer, start, EXAMPLES, settings())
    by_rank, _ = train_from(model, tokenizer, start, EXAMPLES, settings(), options=Options(rank=4))
    assert digest(whole) == digest(by_rank)


def test_padding_on_the_left_trains_alike(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[str] = []

    def seen(rows: Any, pad_token_id: int, padding_side: Literal["right", "left"]) -> Any:
        sides.append(padding_side)
        return collate(rows, pad_token_id, padding_side)

    monkeypatch.setattr("training.train.collate", seen)
    model = build_model()
    start = read_adapter(model)
    losses = [
        train_from(model, tokenizer, start, EXAMPLES, settings(padding_side=side))[1].last_loss
        for side in ("right", "left")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert set(sides) == {"right", "left"}  # tests/training/test_data.py sees what each does


def test_a_round_may_have_its_own_learning_rate(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()
    start = read_adapter(model)
    wanted, _ = train_from(model, tokenizer, start, EXAMPLES, settings(learning_rate=0.003))
    found, _ = train_from(
        model, tokenizer, start, EXAMPLES, settings(), options=Options(learning_rate=0.003)
    )
    assert_same(found, wanted)


def digest(arrays: Arrays) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert list(found) == list(expected)
    for name, array in found.items():
        assert (array == expected[name]).all(), name


def frozen_parameters(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if not value.requires_grad}


def copy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().view(torch.uint8).numpy().copy()
