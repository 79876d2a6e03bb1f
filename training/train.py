"""A participant's training in one round: from the global adapter to an update.

Use, with a model loaded once per process:
`arrays, report = train_from(model, tokenizer, global_arrays, examples, spec.training, seed=…)`.
Nothing carries over from one call to the next: the adapter is replaced.
"""

import contextlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from protocol.errors import Misconfigured
from protocol.spec import Training
from training.adapter import Arrays, first_ranks_only, read_adapter, write_adapter
from training.data import (
    TokenizedExample,
    TokenizedExamples,
    collate,
    tokenize_for,
)
from training.examples import Example
from training.quiet import quiet
from training.seeded import shuffled_order
from training.templates import Template

OnStep = Callable[[int, int, float], None]  # (step, steps, loss of that step), steps from 1


@dataclass(frozen=True)
class TrainingReport:
    """Figures of one call of `train`; losses are means over answer tokens, in nats.

    `examples` counts the different examples seen, `tokens` the answer tokens learnt from,
    `truncated` the examples of the data set that the sequence length cut, `left_out` those of them
    without room for an answer.
    """

    steps: int
    examples: int
    tokens: int
    mean_loss: float
    last_loss: float
    seconds: float
    truncated: int
    left_out: int


@dataclass(frozen=True)
class Options:
    """What a round or a participant may choose to differ from the federation's settings.

    `learning_rate` replaces that of the settings; only the first `rank` rows of A and columns of B
    train (see `first_ranks_only`).
    """

    template: Template = "chat"
    learning_rate: float | None = None
    rank: int | None = None


def train_from(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    start: Mapping[str, NDArray[np.floating]],
    examples: Sequence[Example],
    settings: Training,
    *,
    seed: int | None = None,
    options: Options | None = None,
    on_step: OnStep = lambda step, steps, loss: None,
) -> tuple[Arrays, TrainingReport]:
    """Return (trained adapter, report) after training from the adapter `start`; see `train`."""
    write_adapter(model, start)
    report = train(
        model, tokenizer, examples, settings, seed=seed, options=options, on_step=on_step
    )
    return read_adapter(model), report


def train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: Training,
    *,
    seed: int | None = None,
    options: Options | None = None,
    on_step: OnStep = lambda step, steps, loss: None,
) -> TrainingReport:
    """Train the adapter in place for `settings.steps` steps of AdamW and return a report.

    `seed` (default `settings.seed`) determines the order of examples and dropout. Give each round
    and participant another one, or every round sees the same first examples. On one machine the
    same seed gives the same bits in any process and with any number of threads. Reported losses
    exclude FedProx's term. Raises Misconfigured when the loss stops being a finite number.
    """
    started = time.perf_counter()
    options = options or Options()
    seed = settings.seed if seed is None else seed
    tokenized = tokenize_for(model, tokenizer, examples, settings.sequence_length, options.template)
    rows = _rows_in_order(tokenized, settings, seed)
    pad = partial(collate, pad_token_id=tokenizer.pad_token_id, padding_side=settings.padding_side)
    with (
        quiet(),
        _random_states_kept(),
        tempfile.TemporaryDirectory() as folder,
        first_ranks_only(model, options.rank),
    ):
        trainer = _StepTrainer(
            on_step,
            settings.proximal_mu,
            model=model,
            args=_arguments(settings, options, seed, folder),
            train_dataset=rows,
            data_collator=pad,
        )
        trainer.remove_callback(PrinterCallback)  # it prints every metric on stdout
        trainer.train()
        model.zero_grad(set_to_none=True)  # the model stays in memory between rounds
    return TrainingReport(
        steps=settings.steps,
        examples=len(set(rows)),
        tokens=sum(len(row.token_ids) - row.prompt_tokens for row in rows),
        mean_loss=math.fsum(trainer.losses) / len(trainer.losses),
        last_loss=trainer.losses[-1],
        seconds=time.perf_counter() - started,
        truncated=tokenized.truncated,
        left_out=tokenized.left_out,
    )


class _StepTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that keeps the exact loss of each step and stops when it is not finite."""

    def __init__(self, on_step: OnStep, proximal_mu: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.losses: list[float] = []
        self._on_step = on_step
        self._proximal_mu = proximal_mu
        trained = [each for each in self.model.parameters() if each.requires_grad]
        self._starts = [(each, each.detach().clone()) for each in trained] if proximal_mu else []

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return the loss of one step after its backward pass."""
        loss: torch.Tensor = super().training_step(*arguments, **named)
        self.losses.append(float(loss))  # the Trainer's own log rounds them
        for parameter, start in self._starts:
            # The gradient of FedProx's mu/2 * |w - start|^2 (arXiv:1812.06127, eq. 2).
            parameter.grad.add_(parameter.detach() - start, alpha=self._proximal_mu)
        step = len(self.losses)
        if not math.isfinite(self.losses[-1]):
            raise Misconfigured(
                f"training diverged: the loss at step {step} is {self.losses[-1]}; "
                "lower the learning rate"
            )
        self._on_step(step, self.args.max_steps, self.losses[-1])
        return loss


def _arguments(settings: Training, options: Options, seed: int, folder: str) -> TrainingArguments:
    is_warmed_up = settings.scheduler == "constant" and settings.warmup_steps > 0
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=(
            settings.learning_rate if options.learning_rate is None else options.learning_rate
        ),
        lr_scheduler_type="constant_with_warmup" if is_warmed_up else settings.scheduler,
        warmup_steps=settings.warmup_steps,
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed % 2**32,  # numpy takes no larger one; only dropout draws from it
        train_sampling_strategy="sequential",  # the rows are in the order of the seed already
        remove_unused_columns=False,  # rows are dataclasses, turned into tensors by `collate`
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
    )
    # On a machine with several GPUs the model is on the first: do not spread batches over all.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _rows_in_order(
    tokenized: TokenizedExamples, settings: Training, seed: int
) -> list[TokenizedExample]:
    """Return exactly the rows that the steps will use: the data set reshuffled for each pass."""
    return [tokenized.rows[index] for index in order_of(len(tokenized.rows), settings, seed)]


def order_of(count: int, settings: Training, seed: int) -> list[int]:
    """Return which of `count` rows the steps use, one after the other."""
    needed = settings.steps * settings.batch_size
    passes = math.ceil(needed / count)
    rows = [
        int(index)
        for number in range(passes)
        for index in shuffled_order(f"order/{seed}/{number}", count)
    ]
    return rows[:needed]


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore the process's random states after the block."""
    # The Trainer seeds all three generators: without this a caller's own draws would repeat.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
