"""Sentence classification, alone or with a teacher: the local step of FedAvg, FedLoRA, FedKD-LoRA.

With a teacher the loss is (1 - w) · CE + w · T² · KL(teacher || student), both distributions
softmax(logits / T) (arXiv:1503.02531). The teacher does not change, so its logits are computed once
and passed as an array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from training.seeded import shuffled_order

Logits = NDArray[np.float32]

_LENGTH_STEP: Final = 16  # characters, about four tokens


@dataclass(frozen=True)
class Sentence:
    """A sentence and its class."""

    text: str
    label: int


@dataclass(frozen=True)
class Classification:
    """Settings of one round of local training; every scheme takes the same number of steps.

    `distillation` is the teacher's weight w in the loss, `temperature` is T.
    """

    learning_rate: float
    steps: int
    batch_size: int = 32
    sequence_length: int = 64
    distillation: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True)
class Score:
    """Mean cross entropy, share of correct answers, Matthews correlation (0 where undefined)."""

    loss: float
    accuracy: float
    matthews: float


def train_classifier(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sentence],
    settings: Classification,
    seed: int,
    teacher_logits: Logits | None = None,
) -> float:
    """Train in place for `settings.steps` steps of AdamW; return the mean loss.

    `teacher_logits`, shape (sentences, classes), turn distillation on. `seed` determines the order
    of the sentences and dropout. Raises Misconfigured when training diverges.
    """
    trained = [each for each in model.parameters() if each.requires_grad]
    # Fused: one pass over memory, an eighth of the time when all of an encoder trains on a CPU.
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.01, fused=True)
    losses = []
    model.train()
    # Dropout draws from torch's global state: seeded here, and given back as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in _batches(sentences, settings, seed):
            batch = [sentences[row] for row in rows]
            logits = _logits(model, tokenizer, batch, settings.sequence_length)
            teacher = None if teacher_logits is None else torch.from_numpy(teacher_logits[rows])
            labels = torch.tensor([each.label for each in batch])
            loss = distillation_loss(logits, labels, teacher, settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    # A loss that is not finite stays so: looking at the last one is enough.
    if not math.isfinite(losses[-1]):
        raise Misconfigured("training diverged: lower the learning rate")
    return math.fsum(losses) / len(losses)


def distillation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor | None,
    settings: Classification,
) -> torch.Tensor:
    """Return the loss of `logits`, shape (batch, classes); without a teacher the cross entropy."""
    right = cross_entropy(logits, labels)
    if teacher is None:
        return right
    # On probabilities, never on the logits themselves. Gradients of the softened distributions are
    # smaller by T squared, which the factor makes up for (arXiv:1503.02531, section 2).
    temperature, weight = settings.temperature, settings.distillation
    alike = kl_div(
        log_softmax(logits / temperature, dim=-1),
        softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
    )
    return (1 - weight) * right + weight * temperature**2 * alike


def predict(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sentence],
    sequence_length: int = 64,
    batch_size: int = 64,
) -> Logits:
    """Return the logits, float32 of shape (sentences, classes), computed without dropout."""
    # Sentences of similar length share a batch: less padding to compute.
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row].text))
    model.eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(order), batch_size):
            batch = [sentences[row] for row in order[first : first + batch_size]]
            parts.append(_logits(model, tokenizer, batch, sequence_length).numpy())
    found = np.concatenate(parts)
    logits = np.empty_like(found)
    logits[order] = found
    return logits


def score(logits: Logits, sentences: Sequence[Sentence]) -> Score:
    """Return loss, accuracy and correlation of two-class logits with the sentences' labels."""
    labels = np.array([each.label for each in sentences])
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    said = logits.argmax(axis=1)
    return Score(float(loss), float((said == labels).mean()), matthews(labels, said))


def matthews(labels: NDArray[np.int64], said: NDArray[np.int64]) -> float:
    """Return the Matthews correlation of two arrays of 0 and 1; 0 where one of them is constant."""
    hits = float(((labels == 1) & (said == 1)).sum())
    right_no = float(((labels == 0) & (said == 0)).sum())
    false_yes = float(((labels == 0) & (said == 1)).sum())
    missed = float(((labels == 1) & (said == 0)).sum())
    # A zero sum makes the numerator zero too; dividing by infinity then gives 0 instead of NaN.
    sums = (hits + false_yes, hits + missed, right_no + false_yes, right_no + missed)
    return (hits * right_no - false_yes * missed) / math.sqrt(math.prod(sums) or math.inf)


def _batches(sentences: Sequence[Sentence], settings: Classification, seed: int) -> list[list[int]]:
    """Return the rows of each step: the data reshuffled for each pass, similar lengths together."""
    # A batch is computed as long as its longest sentence: sorted, a third to two thirds less of it
    # is padding. Sorted coarsely, or a class that is a few letters longer would get batches of its
    # own; and the batches are shuffled, or every call would go from short sentences to long ones.
    size, count = settings.batch_size, len(sentences)
    needed = settings.steps * size
    passes = range(math.ceil(needed / count))
    rows = [row for each in passes for row in shuffled_order(f"order/{seed}/{each}", count)]
    rows = sorted(rows[:needed], key=lambda row: len(sentences[row].text) // _LENGTH_STEP)
    order = shuffled_order(f"batches/{seed}", settings.steps)
    return [rows[step * size : (step + 1) * size] for step in order]


def _logits(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Sentence],
    sequence_length: int,
) -> torch.Tensor:
    encoded = tokenizer(
        [each.text for each in batch],
        truncation=True,
        max_length=sequence_length,
        padding=True,
        return_tensors="pt",
    )
    logits: torch.Tensor = model(**encoded).logits
    return logits
