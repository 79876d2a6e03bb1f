"""DP-SGD on the adapter (arXiv:1607.00133): what one record can change is bounded, and noised.

Each step takes every record with the same probability, clips the gradient of each, adds Gaussian
noise to their sum and gives it to AdamW. All that leaves a step is the noised sum, so whatever is
computed from it, the optimizer's state, the update's rounding and what rounding left over, says no
more of a record than the accountant (training/accountant.py) has it.

A record is a row of the data. One that is a conversation gives several examples, each clipped to
its part, so that together they are no longer than one row may be.

Gradients of examples come from hooks on the adapter's linear layers: that of a layer is an outer
product of what went in and what came back, summed over the example's tokens. Opacus would wrap the
model and its data loader, and draw its noise from a generator that is seeded unless torchcsprng is
installed, which no current torch has.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import bitsandbytes
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase, get_scheduler

from protocol.errors import Misconfigured
from protocol.spec import Training
from training import system_random
from training.accountant import Mechanism
from training.adapter import rank_part, trained_layers
from training.data import (
    IGNORED,
    Batch,
    TokenizedExample,
    TokenizedExamples,
    collate,
    tokenize_for,
)
from training.examples import Example
from training.quiet import quiet
from training.train import OnStep, Options, TrainingReport

_VALUES_AT_ONCE: Final = 2**27
"""Values of examples' gradients in memory together: 512 MiB, or one example's."""

Gradients = list[torch.Tensor]
"""One float32 tensor per trained layer, in the order of their names."""


@dataclass(frozen=True)
class Protection:
    """How a round protects records: `clip` is the longest gradient that one may have.

    `records` numbers the record that each example comes from.
    """

    mechanism: Mechanism
    clip: float
    records: Sequence[int]


def train_privately(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: Training,
    protection: Protection,
    *,
    options: Options | None = None,
    on_step: OnStep = lambda step, steps, loss: None,
) -> TrainingReport:
    """Train the adapter in place by DP-SGD and return a report.

    No seed: samples, noise and dropout come from the operating system, and no two calls give the
    same. The report's losses and tokens are of the data as they are: they are for their owner
    alone. Its `examples` follow from how many there are, not from which were drawn.
    """
    started, options = time.perf_counter(), options or Options()
    length, steps = settings.sequence_length, settings.steps
    tokenized = tokenize_for(model, tokenizer, examples, length, options.template)
    parameters = list(trained_layers(model).values())
    starts = [parameter.detach().clone() for parameter in parameters]
    optimizer, scheduler = _optimizer(parameters, settings, options)
    losses, tokens = [], 0
    with quiet(), torch.random.fork_rng(), ExampleGradients(model) as gradients:
        torch.manual_seed(system_random.seed())  # dropout: one made of the data would tell of them
        model.train()
        pad = partial(
            collate, pad_token_id=tokenizer.pad_token_id, padding_side=settings.padding_side
        )
        source = NoisedGradients(gradients, tokenized, protection, pad, options.rank)
        for step in range(1, steps + 1):
            noised = source.draw(settings.batch_size)
            for parameter, start, gradient in zip(parameters, starts, noised.mean, strict=True):
                # FedProx's pull, as in training/train.py: of values that are noised already.
                parameter.grad = gradient + settings.proximal_mu * (parameter.detach() - start)
            optimizer.step()
            scheduler.step()
            losses += [noised.loss] * (noised.tokens > 0)
            tokens += noised.tokens
            on_step(step, steps, losses[-1] if losses else 0.0)
    model.zero_grad(set_to_none=True)
    return TrainingReport(
        steps=steps,
        examples=min(len(examples), steps * settings.batch_size),
        tokens=tokens,
        mean_loss=math.fsum(losses) / max(len(losses), 1),
        last_loss=losses[-1] if losses else 0.0,
        seconds=time.perf_counter() - started,
        truncated=tokenized.truncated,
        left_out=tokenized.left_out,
    )


def _optimizer(
    parameters: Sequence[torch.nn.Parameter], settings: Training, options: Options
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and its schedule as `training.train` has them."""
    rate = settings.learning_rate if options.learning_rate is None else options.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    is_warmed_up = settings.scheduler == "constant" and settings.warmup_steps > 0
    kind = "constant_with_warmup" if is_warmed_up else settings.scheduler
    scheduler = get_scheduler(kind, optimizer, settings.warmup_steps, settings.steps)
    return optimizer, scheduler


# ---------------------------------------------------------------------- one step's gradient


@dataclass(frozen=True)
class Noised:
    """The noised mean gradient of a step; and, not noised, its loss and its answer tokens."""

    mean: Gradients
    loss: float
    tokens: int


class NoisedGradients:
    """Gradients of samples of the records, each record clipped, and their sum noised."""

    def __init__(
        self,
        gradients: "ExampleGradients",
        tokenized: TokenizedExamples,
        protection: Protection,
        pad: Callable[[Sequence[TokenizedExample]], Batch],
        rank: int | None = None,
    ) -> None:
        self._gradients = gradients
        self._pad = pad
        self._protection = protection
        names = trained_layers(gradients.model)
        self._parts = [rank_part(name, rank) for name in names]
        # Rows too long to be learnt are records all the same: their number tells nothing of them.
        self._records: dict[int, list[TokenizedExample]] = {each: [] for each in protection.records}
        for row, place in zip(tokenized.rows, tokenized.places, strict=True):
            self._records[protection.records[place]].append(row)

    def draw(self, rows_at_once: int) -> Noised:
        """Return the gradient of one sample, which may be empty, with fresh noise."""
        mechanism, clip = self._protection.mechanism, self._protection.clip
        every = list(self._records.values())
        taken = [every[index] for index in system_random.chosen(len(every), mechanism.rate)]
        # A record's gradients together are no longer than `clip`.
        rows = [(row, clip / len(record)) for record in taken for row in record]
        total = [torch.zeros_like(each) for each in trained_layers(self._gradients.model).values()]
        losses = []
        at_once = self._gradients.at_once(rows_at_once)
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            found, loss = self._gradients.of(self._pad([row for row, _ in part]))
            found = [_only(part_of, each) for part_of, each in zip(self._parts, found, strict=True)]
            add_clipped(total, found, [most for _, most in part])
            losses.append(loss)
        noised = add_noise(total, mechanism.noise * clip)
        # Over how many a step takes on average: how many it took says who was there.
        mean = [
            _only(part_of, each[None])[0] / (mechanism.rate * len(every))
            for part_of, each in zip(self._parts, noised, strict=True)
        ]
        tokens = sum(len(row.token_ids) - row.prompt_tokens for row, _ in rows)
        return Noised(mean, math.fsum(losses) / max(len(rows), 1), tokens)


def add_clipped(total: Gradients, found: Gradients, clips: Sequence[float]) -> None:
    """Add the gradient of each example to `total`, scaled down to its clip where it is longer.

    `found` has the examples in its first dimension, and lengths are over all layers. A gradient
    that is not finite counts as zero.
    """
    lengths = torch.stack([each.flatten(1).norm(dim=1) for each in found]).norm(dim=0)
    most = torch.tensor(clips, dtype=lengths.dtype, device=lengths.device)
    factors = (most / lengths.clamp_min(1e-12)).clamp_max(1.0)
    factors = torch.where(torch.isfinite(lengths), factors, 0.0)
    for layer, each in zip(total, found, strict=True):
        finite = torch.nan_to_num(each, 0.0, 0.0, 0.0)
        layer.add_(torch.einsum("e,e...->...", factors, finite))


def add_noise(total: Gradients, deviation: float) -> Gradients:
    """Return `total` with Gaussian noise of a standard deviation, from the operating system."""
    noised = []
    for layer in total:
        drawn = torch.from_numpy(system_random.gaussian(layer.numel()) * deviation)
        # Added in float64: in float32 small noise would be lost beside large values.
        exact = layer.double() + drawn.reshape(layer.shape).to(layer.device)
        noised.append(exact.to(layer.dtype))
    return noised


def _only(part: tuple[slice, ...], gradients: torch.Tensor) -> torch.Tensor:
    """Return the gradients of examples with zeros outside `part` of the layer."""
    kept = torch.zeros_like(gradients)
    place = (slice(None), *part)
    kept[place] = gradients[place]
    return kept


# ------------------------------------------------------------------- gradients of examples


class ExampleGradients:
    """Gradients of the adapter's trained layers for each example of a batch, while it is open."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model
        self._layers = trained_layers(model)
        weights: dict[torch.Tensor, str] = {each: name for name, each in self._layers.items()}
        self._modules = {
            weights[module.weight]: module
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module.weight in weights
        }
        self._found: dict[str, torch.Tensor] = {}
        self._rows = 0
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._watch, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def at_once(self, most: int) -> int:
        """Return how many examples to give `of` together, at most `most`."""
        # LLM.int8 looks for outliers in the whole batch: one example changed another's gradient.
        if any(isinstance(each, bitsandbytes.nn.Linear8bitLt) for each in self.model.modules()):
            return 1
        values = sum(parameter.numel() for parameter in self._layers.values())
        return max(1, min(most, _VALUES_AT_ONCE // values))

    def of(self, batch: Batch) -> tuple[Gradients, float]:
        """Return the gradient of each example's mean loss, and the sum of these losses in nats.

        Gradients are float32 with the examples in their first dimension.
        """
        self._rows, self._found = len(batch["input_ids"]), {}
        device = self.model.device
        logits = self.model(
            input_ids=batch["input_ids"].to(device),
            attention_mask=batch["attention_mask"].to(device),
            logits_to_keep=batch["logits_to_keep"],
            use_cache=False,
        ).logits[:, :-1]
        right = batch["labels"][:, 1:].to(device)
        losses = cross_entropy(
            logits.float().transpose(1, 2), right, ignore_index=IGNORED, reduction="none"
        )
        total = (losses.sum(dim=1) / (right != IGNORED).sum(dim=1).clamp_min(1)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self.model.zero_grad(set_to_none=True)
        if missing := [name for name in self._layers if name not in self._found]:
            raise Misconfigured(f"no gradient came back to {missing[0]}: it cannot be protected")
        return [self._found.pop(name) for name in self._layers], float(total.detach())

    def _watch(self, name: str, module: torch.nn.Module, given: Any, out: torch.Tensor) -> None:
        entered = given[0].detach()
        if not out.requires_grad:  # the first of the two passes of gradient checkpointing
            return
        if entered.shape[0] != self._rows:
            raise Misconfigured(
                f"{name} is given tokens of several examples together: this model cannot be trained"
                " with differential privacy"
            )
        add = partial(self._add, name, entered)
        out.register_hook(add)  # type: ignore[no-untyped-call]

    def _add(self, name: str, entered: torch.Tensor, came_back: torch.Tensor) -> None:
        outer = torch.einsum("e...o,e...i->eoi", came_back.float(), entered.float())
        # A layer may be used more than once.
        self._found[name] = self._found[name] + outer if name in self._found else outer
