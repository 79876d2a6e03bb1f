"""The held-out loss of a model: how it is measured that a federation learnt something."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.data import IGNORED, Batch, collate, tokenize
from training.examples import Example
from training.model import check_sequence_length, inference
from training.quiet import quiet
from training.templates import Template


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
    batch_size: int = 8,
    template: Template = "chat",
) -> Evaluation:
    """Return the loss of `model` on the answers, without dropout; the model is left as it was.

    `batch_size` costs memory and changes the result by rounding only.
    """
    check_sequence_length(model.config.max_position_embeddings, sequence_length)
    # Rows of like length together: less padding to compute.
    tokenized = tokenize(tokenizer, examples, sequence_length, template)
    rows = sorted(tokenized.rows, key=lambda row: len(row.token_ids))
    total, tokens = 0.0, 0
    with quiet(), inference(model):
        for first in range(0, len(rows), batch_size):
            batch = collate(rows[first : first + batch_size], tokenizer.pad_token_id)
            loss, count = _batch_loss(model, batch)
            total += loss
            tokens += count
    return Evaluation(total / tokens, math.exp(total / tokens), tokens)


def _batch_loss(model: PeftModel | PreTrainedModel, batch: Batch) -> tuple[float, int]:
    """Return (summed loss, number of answer tokens) of a collated batch."""
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "labels"
    }
    # Column t is predicted by the logits of column t - 1.
    labels = batch["labels"][:, 1:].to(model.device)
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    counted = labels != IGNORED
    loss = cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
    return float(loss), int(counted.sum())
