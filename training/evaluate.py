"""The held-out loss of a model, by which a federation's progress is measured."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.data import IGNORED, TokenizedExample, collate, tokenize
from training.examples import Example
from training.model import check_sequence_length, inference
from training.quiet import quiet
from training.templates import Template

BATCH_TOKENS: Final = 1_536
"""Tokens of a batch, padding included."""


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean over `tokens` answer tokens in nats, `perplexity` its exponential."""

    loss: float
    perplexity: float
    tokens: int


def held_out_loss(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    sequence_length: int,
    batch_tokens: int = BATCH_TOKENS,
    template: Template = "chat",
) -> Evaluation:
    """Return the loss of `model` on the answers, without dropout; the model is left unchanged.

    `batch_tokens` costs memory and changes the result by rounding only.
    """
    check_sequence_length(model.config.max_position_embeddings, sequence_length)
    tokenized = tokenize(tokenizer, examples, sequence_length, template)
    total, tokens = 0.0, 0
    with quiet(), inference(model):
        for rows in _batches(tokenized.rows, batch_tokens):
            loss, counted = _batch_loss(model, rows, tokenizer.pad_token_id)
            total += loss
            tokens += counted
    return Evaluation(total / tokens, math.exp(min(total / tokens, 700.0)), tokens)


def _batches(
    rows: Sequence[TokenizedExample], batch_tokens: int
) -> Iterator[list[TokenizedExample]]:
    """Yield the rows in batches of like length, so that little of them is padding."""
    batch: list[TokenizedExample] = []
    for row in sorted(rows, key=lambda row: len(row.token_ids)):
        # The newest row is the longest, and all are padded to it.
        if batch and (len(batch) + 1) * len(row.token_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _batch_loss(
    model: PeftModel | PreTrainedModel, rows: Sequence[TokenizedExample], pad_token_id: int
) -> tuple[float, int]:
    """Return the sum of the losses of a batch's answer tokens, and how many these are."""
    batch = collate(rows, pad_token_id)
    # Column t is predicted by the hidden state of column t - 1. The labels are those of the last
    # columns only; all before these are prompt.
    labels = batch["labels"][:, 1:]
    counted = labels != IGNORED
    predicts = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    predicts[:, -1 - labels.shape[1] : -1] = counted
    with _head_only_at(model, predicts.to(model.device)):
        # Without the labels: with them the model would compute a mean per batch itself, and
        # batches differ in their number of answer tokens.
        logits = model(
            input_ids=batch["input_ids"].to(model.device),
            attention_mask=batch["attention_mask"].to(model.device),
            use_cache=False,
        ).logits[0]
    answers = labels[counted].to(model.device)
    # In float32 whatever the model computes in: bfloat16 has 8 bits of precision.
    return float(cross_entropy(logits.float(), answers, reduction="sum")), int(counted.sum())


@contextmanager
def _head_only_at(model: PeftModel | PreTrainedModel, chosen: torch.Tensor) -> Iterator[None]:
    """Let the language-model head compute at the chosen positions alone.

    Logits are then of shape (1, positions, vocabulary). In a small model the head is a large part
    of the work, and most positions are of questions and padding.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, given: (given[0][chosen].unsqueeze(0),))
    try:
        yield
    finally:
        hook.remove()
