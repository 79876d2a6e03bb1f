"""The held-out loss of a model, by which a federation's progress is measured.

Three things keep it fast: what all rows begin with, a chat template's system prompt above all, is
computed once; rows of like length share a batch; and the head computes at answers alone.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from training.data import IGNORED, TokenizedExample, collate, tokenize_for
from training.examples import Example
from training.model import inference
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
    rows = tokenize_for(model, tokenizer, examples, sequence_length, template).rows
    total, tokens = 0.0, 0
    with quiet(), inference(model):
        for _, answers in _forward(model, rows, tokenizer.pad_token_id, batch_tokens):
            total += float(cross_entropy(answers.logits, answers.right, reduction="sum"))
            tokens += len(answers.right)
    return _evaluation(total, tokens)


def held_out_losses(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    sequence_length: int,
    batch_tokens: int = BATCH_TOKENS,
    template: Template = "chat",
) -> list[Evaluation]:
    """Return what `held_out_loss` gives for each example alone, from one pass over all of them.

    In their order, without those that have no room for an answer.
    """
    rows = tokenize_for(model, tokenizer, examples, sequence_length, template).rows
    found: dict[int, Evaluation] = {}
    with quiet(), inference(model):
        for places, answers in _forward(model, rows, tokenizer.pad_token_id, batch_tokens):
            losses = cross_entropy(answers.logits, answers.right, reduction="none")
            parts = torch.split(losses, answers.tokens)
            for place, part in zip(places, parts, strict=True):
                found[place] = _evaluation(float(part.sum()), len(part))
    return [found[place] for place in range(len(rows))]


def _evaluation(total: float, tokens: int) -> Evaluation:
    return Evaluation(total / tokens, math.exp(min(total / tokens, 700.0)), tokens)


@dataclass(frozen=True)
class _Answers:
    """Logits, float32 (answer tokens of a batch, vocabulary), the right tokens, and how many of
    them each row has.
    """

    logits: torch.Tensor
    right: torch.Tensor
    tokens: list[int]


def _forward(
    model: PeftModel | PreTrainedModel,
    rows: Sequence[TokenizedExample],
    pad_token_id: int,
    batch_tokens: int,
) -> Iterator[tuple[list[int], _Answers]]:
    """Yield what the model says to the rows, a batch at a time, with their places in `rows`."""
    prefix = _shared_prefix(rows)
    cache = _compute_prefix(model, prefix)
    first = len(prefix) if cache is not None else 0
    for places in _batches(rows, batch_tokens):
        batch = [rows[place] for place in places]
        yield places, _batch_answers(model, batch, pad_token_id, first, cache)


def _shared_prefix(rows: Sequence[TokenizedExample]) -> tuple[int, ...]:
    """Return the tokens that all rows begin with, at most up to what predicts an answer."""
    longest = min(row.prompt_tokens for row in rows) - 1
    first, *others = (row.token_ids[: max(longest, 0)] for row in rows)
    for place, token in enumerate(first):
        if any(other[place] != token for other in others):
            return first[:place]
    return first


def _compute_prefix(
    model: PeftModel | PreTrainedModel, prefix: Sequence[int]
) -> DynamicCache | None:
    """Return the keys and values of a prefix; None where there is none to share."""
    if not prefix:
        return None
    ids = torch.tensor([prefix], device=model.device)
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[0, -1] = True  # the head must compute something
    with _head_only_at(model, chosen):
        cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
    # Other kinds of models keep other states, of some layers or all: they cannot be repeated for a
    # batch.
    if cache is None or type(cache) is not DynamicCache:
        return None
    can_repeat = all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers)
    return cache if can_repeat else None


def _batches(rows: Sequence[TokenizedExample], batch_tokens: int) -> Iterator[list[int]]:
    """Yield the rows' places in batches of like length, so that little of them is padding."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place].token_ids)):
        # The newest row is the longest, and all are padded to it.
        if batch and (len(batch) + 1) * len(rows[place].token_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _batch_answers(
    model: PeftModel | PreTrainedModel,
    rows: Sequence[TokenizedExample],
    pad_token_id: int,
    first: int,
    cache: DynamicCache | None,
) -> _Answers:
    """Return what the model says to a batch where it answers.

    The first `first` columns are in `cache`, as those of one row.
    """
    batch = collate(rows, pad_token_id)
    # Column t is predicted by the hidden state of column t - 1, so the last one is not needed. The
    # labels are those of the last columns only; all before these are prompt.
    labels = torch.full_like(batch["input_ids"], IGNORED)
    labels[:, -batch["logits_to_keep"] :] = batch["labels"]
    answers = labels[:, first + 1 :]
    counted = answers != IGNORED
    past = None
    if cache is not None:
        past = copy.deepcopy(cache)  # a forward pass adds to it
        past.batch_repeat_interleave(len(rows))
    with _head_only_at(model, counted.to(model.device)):
        # Without the labels: with them the model would compute a mean per batch itself, and
        # batches differ in their number of answer tokens.
        logits = model(
            input_ids=batch["input_ids"][:, first:-1].to(model.device),
            attention_mask=batch["attention_mask"][:, :-1].to(model.device),
            past_key_values=past,
            use_cache=past is not None,
        ).logits[0]
    # In float32 whatever the model computes in: bfloat16 has 8 bits of precision.
    right = answers[counted].to(model.device)
    return _Answers(logits.float(), right, counted.sum(dim=1).tolist())


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
