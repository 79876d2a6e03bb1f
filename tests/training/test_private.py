"""DP-SGD on the adapter: each promise as a check, and each bug that would break it."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from tests.training.conftest import EXAMPLES, BuildModel, lora, quantization, settings
from training import private, system_random
from training.accountant import Mechanism
from training.adapter import Arrays, read_adapter, trained_layers, write_adapter
from training.data import IGNORED, Batch, TokenizedExample, collate, tokenize
from training.examples import Example
from training.model import attach_lora, load_base
from training.private import (
    ExampleGradients,
    Gradients,
    NoisedGradients,
    Protection,
    train_privately,
)
from training.sources import ModelSource
from training.train import Options, TrainingReport

CLIP = 0.05  # below the length of most gradients of the tiny model

# Of unlike lengths, so that a batch of them is padded; and of a context, which is no answer.
ROWS = [Example("Why?", "So."), *EXAMPLES[:5], Example("And " * 9, "twice " * 12)]


@pytest.fixture
def model(build_model: BuildModel, tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    model = build_model()
    warm_up(model)
    return model


def warm_up(model: PeftModel) -> None:
    """Move B off zero, where A would have no gradient."""
    rng = np.random.default_rng(5)
    noised = {name: each + rng.normal(0, 0.05, each.shape) for name, each in adapter(model).items()}
    write_adapter(model, noised)


def adapter(model: PeftModel) -> Arrays:
    return read_adapter(model)


def rows_of(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> Sequence[TokenizedExample]:
    return tokenize(tokenizer, examples, 128).rows


def padded(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[TokenizedExample]], Batch]:
    return partial(collate, pad_token_id=tokenizer.pad_token_id)


def one_by_one(model: PeftModel, rows: Sequence[TokenizedExample]) -> list[list[torch.Tensor]]:
    """Return the gradient of each row, from a plain backward pass of it alone."""
    found = []
    for row in rows:
        model.zero_grad()
        logits = model(input_ids=torch.tensor([row.token_ids])).logits[0, :-1]
        right = torch.tensor(row.token_ids[1:])
        right[: row.prompt_tokens - 1] = IGNORED
        cross_entropy(logits, right, ignore_index=IGNORED).backward()  # type: ignore[no-untyped-call]
        gradients = [each.grad for each in trained_layers(model).values()]
        found.append([each.clone() for each in gradients if each is not None])
    model.zero_grad()
    return found


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
@pytest.mark.parametrize("kind", ["none", "nf4", "bf16"])
def test_gradients_of_examples_are_those_of_a_loop(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, kind: str, mode: str
) -> None:
    model = build_model(kind, mode)
    warm_up(model)
    rows = rows_of(tokenizer, ROWS)
    with ExampleGradients(model) as gradients:
        found, _ = gradients.of(padded(tokenizer)(rows))
    alone = one_by_one(model, rows)
    close = 0.05 if kind == "bf16" else 1e-5
    for layer, together in enumerate(found):
        for example in range(len(rows)):
            expected = alone[example][layer]
            assert (together[example] - expected).norm() <= close * expected.norm() + 1e-7


def test_gradients_come_back_through_checkpoints(
    tiny: ModelSource, build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    base = load_base(tiny.folder, quantization(), gradient_checkpointing=True)
    model = attach_lora(base, lora(), seed=1)
    plain = build_model()
    for each in (model, plain):
        warm_up(each)
        each.train()
    batch = padded(tokenizer)(rows_of(tokenizer, ROWS))
    with ExampleGradients(model) as gradients, ExampleGradients(plain) as others:
        found, expected = gradients.of(batch)[0], others.of(batch)[0]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def check_clipping(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The sum of clipped gradients is that of a loop that clips one example after another."""
    rows = rows_of(tokenizer, ROWS)
    expected = [torch.zeros_like(each) for each in trained_layers(model).values()]
    lengths = []
    for alone in one_by_one(model, rows):
        length = float(torch.cat([each.flatten() for each in alone]).norm())
        lengths.append(length)
        for layer, each in zip(expected, alone, strict=True):
            layer += each * min(1.0, CLIP / length)
    assert max(lengths) > CLIP
    protection = Protection(Mechanism(1.0, 0.0, 1), CLIP, range(len(rows)))
    with ExampleGradients(model) as gradients:
        tokenized = tokenize(tokenizer, ROWS, 128)
        source = NoisedGradients(gradients, tokenized, protection, padded(tokenizer))
        # In parts of three, the last with one row.
        found = source.draw(3).mean
    for layer, each in zip(expected, found, strict=True):
        assert torch.allclose(each * len(rows), layer, atol=1e-6)


def test_each_example_is_clipped(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    check_clipping(model, tokenizer)


def test_clipping_a_batch_is_caught(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clip_batch(total: Gradients, found: Gradients, clips: Sequence[float]) -> None:
        sums = [each.sum(dim=0) for each in found]
        length = float(torch.cat([each.flatten() for each in sums]).norm())
        for layer, each in zip(total, sums, strict=True):
            layer.add_(each * min(1.0, sum(clips) / length))

    monkeypatch.setattr(private, "add_clipped", clip_batch)
    with pytest.raises(AssertionError):
        check_clipping(model, tokenizer)


def test_a_record_of_several_examples_moves_no_more_than_one(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    tokenized = tokenize(tokenizer, ROWS, 128)
    protection = Protection(Mechanism(1.0, 0.0, 1), CLIP, [7] * len(ROWS))
    with ExampleGradients(model) as gradients:
        source = NoisedGradients(gradients, tokenized, protection, padded(tokenizer))
        found = source.draw(4).mean
    assert torch.cat([each.flatten() for each in found]).norm() <= CLIP * (1 + 1e-6)


def test_gradients_that_are_not_finite_count_as_zero() -> None:
    total = [torch.zeros(2)]
    found = [torch.tensor([[3.0, 4.0], [torch.inf, 1.0], [torch.nan, 0.0]])]
    private.add_clipped(total, found, [1.0, 1.0, 1.0])
    assert torch.allclose(total[0], torch.tensor([0.6, 0.8]))


# ------------------------------------------------------------------------------- noise


def draws(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, noise: float, rate: float, times: int
) -> NDArray[np.float32]:
    """Return the mean gradients of some samples, one row each, all layers in one."""
    tokenized = tokenize(tokenizer, ROWS, 128)
    protection = Protection(Mechanism(rate, noise, times), CLIP, range(len(ROWS)))
    torch.manual_seed(1)
    np.random.seed(1)
    with ExampleGradients(model) as gradients:
        source = NoisedGradients(gradients, tokenized, protection, padded(tokenizer))
        found = [source.draw(8).mean for _ in range(times)]
    return np.array([torch.cat([each.flatten() for each in one]).numpy() for one in found])


def check_noise(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Noise has the deviation that the accountant counts on, and no mean, at every value."""
    still = draws(model, tokenizer, 0.0, 1.0, 1)[0]
    noised = (draws(model, tokenizer, 2.0, 1.0, 6) - still) * len(ROWS) / (2.0 * CLIP)
    assert noised.std() == pytest.approx(1.0, abs=0.02)
    assert abs(noised.mean()) < 0.02
    assert np.abs(noised.std(axis=1) - 1.0).max() < 0.05
    # Gaussian: its fourth moment is 3.
    assert np.mean(noised**4) == pytest.approx(3.0, abs=0.2)


def check_noise_is_fresh(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """With every generator at the same seed, noise is another one each time."""
    first, second = (draws(model, tokenizer, 1.0, 1.0, 1)[0] for _ in range(2))
    assert np.mean(first == second) < 0.5
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5


def test_noise_is_of_the_size_that_is_accounted_for(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    check_noise(model, tokenizer)


def test_noise_cannot_be_repeated(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    check_noise_is_fresh(model, tokenizer)


def test_missing_noise_is_caught(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "add_noise", lambda total, deviation: total)
    with pytest.raises(AssertionError):
        check_noise(model, tokenizer)


def test_noise_of_the_mean_in_place_of_the_sum_is_caught(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = private.add_noise
    monkeypatch.setattr(private, "add_noise", lambda total, by: true(total, by / len(ROWS)))
    with pytest.raises(AssertionError):
        check_noise(model, tokenizer)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_noise_of_a_seed_is_caught(
    kind: str,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeded = {
        "numpy": lambda count: np.random.standard_normal(count),
        "torch": lambda count: torch.randn(count, dtype=torch.float64).numpy(),
    }
    monkeypatch.setattr(system_random, "gaussian", seeded[kind])
    check_noise(model, tokenizer)  # of the right size, which is why the other check is there
    with pytest.raises(AssertionError):
        check_noise_is_fresh(model, tokenizer)


# ------------------------------------------------------------------------------ samples

RATE, RECORDS, SAMPLES = 0.1, 200, 400


def check_samples() -> None:
    """Each record is taken by itself at the rate: means, spread of sizes, and no two alike."""
    np.random.seed(1)
    taken = np.zeros((SAMPLES, RECORDS), bool)
    for sample in taken:
        sample[system_random.chosen(RECORDS, RATE)] = True
    sizes = taken.sum(axis=1)
    expected = RATE * RECORDS
    assert sizes.mean() == pytest.approx(expected, abs=5 * (expected / SAMPLES) ** 0.5)
    # Binomial: samples of one size, which no accountant of Poisson sampling has, spread nothing.
    assert sizes.var() == pytest.approx(expected * (1 - RATE), rel=0.4)
    assert np.abs(taken.mean(axis=0) - RATE).max() < 6 * (RATE * (1 - RATE) / SAMPLES) ** 0.5
    np.random.seed(1)
    again = system_random.chosen(RECORDS, RATE)
    assert list(again) != list(np.flatnonzero(taken[0]))


def test_records_are_taken_by_themselves() -> None:
    check_samples()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda count, rate: np.flatnonzero(np.random.default_rng().random(count) < 2 * rate),
        lambda count, rate: np.random.default_rng().choice(count, int(count * rate), False),
        lambda count, rate: np.random.default_rng().integers(0, count, int(count * rate)),
        lambda count, rate: np.arange(int(count * rate)),
        lambda count, rate: np.flatnonzero(np.random.random(count) < rate),
    ],
    ids=["twice the rate", "a fixed size", "with replacement", "always the first", "from a seed"],
)
def test_other_samples_are_caught(
    wrong: Callable[[int, float], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_random, "chosen", wrong)
    with pytest.raises(AssertionError):
        check_samples()


def test_the_sample_is_what_the_mechanism_says(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    true = system_random.chosen

    def noted(count: int, rate: float) -> NDArray[np.int64]:
        asked.append((count, rate))
        return true(count, rate)

    monkeypatch.setattr(system_random, "chosen", noted)
    protect(model, tokenizer, Mechanism(0.25, 1.0, 3), steps=3)
    assert asked == [(len(EXAMPLES), 0.25)] * 3


def protect(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    mechanism: Mechanism,
    steps: int,
    rank: int | None = None,
) -> TrainingReport:
    protection = Protection(mechanism, CLIP, range(len(EXAMPLES)))
    chosen = settings(steps=steps, learning_rate=0.02)
    return train_privately(
        model, tokenizer, EXAMPLES, chosen, protection, options=Options(rank=rank)
    )


def test_empty_samples_are_noised_as_well(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_random, "chosen", lambda count, rate: np.array([], np.int64))
    before = adapter(model)
    report = protect(model, tokenizer, Mechanism(0.01, 1.0, 2), steps=2)
    after = adapter(model)
    assert all((before[name] != after[name]).mean() > 0.9 for name in before)
    assert (report.mean_loss, report.last_loss, report.tokens) == (0.0, 0.0, 0)
    assert report.examples == 8  # steps x batch size: what is claimed does not tell the sample


@pytest.mark.parametrize("kind", ["none", "nf4", "int8", "bf16"])
def test_every_kind_learns(
    kind: str, build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model(kind, dropout=0.1)
    losses: list[float] = []
    protection = Protection(Mechanism(1.0, 0.01, 8), 1.0, range(len(EXAMPLES)))
    train_privately(
        model,
        tokenizer,
        EXAMPLES,
        settings(steps=8, learning_rate=0.02),
        protection,
        on_step=lambda step, steps, loss: losses.append(loss),
    )
    assert losses[-1] < losses[0] - 0.5
    assert all(each.grad is None for each in model.parameters())


def test_int8_takes_one_example_at_a_time(build_model: BuildModel) -> None:
    """LLM.int8 quantises a batch by its largest values: examples would touch one another."""
    assert ExampleGradients(build_model("int8")).at_once(8) == 1
    assert ExampleGradients(build_model("nf4")).at_once(8) == 8


def test_only_the_first_ranks_are_trained(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    before = adapter(model)
    protect(model, tokenizer, Mechanism(0.5, 1.0, 2), steps=2, rank=1)
    for name, after in adapter(model).items():
        moved = after != before[name]
        moved = moved if ".lora_A." in name else moved.T
        assert moved[0].all()
        assert not moved[1:].any()


def test_callers_random_states_stay(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    protect(model, tokenizer, Mechanism(0.5, 1.0, 1), steps=1)
    assert torch.rand(1) == expected
