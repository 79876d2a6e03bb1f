"""Token tensors of questions and answers; the loss counts the answer's tokens only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from training.examples import Example
from training.model import check_sequence_length, positions_of
from training.templates import Template, answer_text, encode, prompt_text

IGNORED = -100  # the label that torch's cross entropy leaves out


class Batch(TypedDict):
    """The arguments of a causal language model of transformers; see `collate`."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    logits_to_keep: int


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of a prompt and its answer; the first `prompt_tokens` are not learnt."""

    token_ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class TokenizedExamples:
    """The rows that fit the sequence length, and how many examples were cut or left out.

    `places` says which of the examples each row is.
    """

    rows: tuple[TokenizedExample, ...]
    truncated: int
    left_out: int
    places: tuple[int, ...]


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    sequence_length: int,
    template: Template = "chat",
) -> TokenizedExamples:
    """Return `examples` formatted by `template`, cut after `sequence_length` tokens.

    An example whose question alone fills the length is left out, and counts as truncated too.
    Raises Misconfigured when none is left, or when the template does not put the answer last.
    """
    rows, places = [], []
    truncated = 0
    for place, example in enumerate(examples):
        # In two pieces, so that no token straddles the border between prompt and answer.
        prompt_ids = encode(tokenizer, prompt_text(tokenizer, example, template))
        answer_ids = encode(tokenizer, answer_text(tokenizer, example, template))
        ids = (*prompt_ids, *answer_ids)
        truncated += len(ids) > sequence_length
        if len(prompt_ids) < sequence_length:
            rows.append(TokenizedExample(ids[:sequence_length], len(prompt_ids)))
            places.append(place)
    if not rows:
        raise Misconfigured(
            f"no answer fits in a sequence length of {sequence_length} tokens: raise it, or give "
            f"shorter questions ({len(examples)} examples)"
        )
    left_out = len(examples) - len(rows)
    return TokenizedExamples(tuple(rows), truncated, left_out, tuple(places))


def tokenize_for(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    sequence_length: int,
    template: Template = "chat",
) -> TokenizedExamples:
    """Return `examples` as `tokenize` does; Misconfigured when `model` cannot read them."""
    check_sequence_length(positions_of(model.config), sequence_length)
    tokenized = tokenize(tokenizer, examples, sequence_length, template)
    check_tokens(tokenizer, tokenized, len(model.get_input_embeddings().weight))
    return tokenized


def check_tokens(
    tokenizer: PreTrainedTokenizerBase, tokenized: TokenizedExamples, vocabulary: int
) -> None:
    """Raise Misconfigured unless each token is one of the `vocabulary` that the model embeds."""
    # A tokenizer may have more: tokens that were added without a place in the model.
    highest = max(max(row.token_ids) for row in tokenized.rows)
    if highest >= vocabulary:
        raise Misconfigured(
            f"the tokenizer gives token {highest} ({tokenizer.convert_ids_to_tokens(highest)!r}), "
            f"and this model has {vocabulary} tokens: choose a model whose embedding has all"
        )


def collate(
    rows: Sequence[TokenizedExample],
    pad_token_id: int,
    padding_side: Literal["right", "left"] = "right",
) -> Batch:
    """Return a batch padded to its longest row.

    `input_ids` and `attention_mask` are int64 of shape (rows, columns), `labels` int64 of shape
    (rows, logits_to_keep): the last columns only, IGNORED on prompt and padding.
    """
    columns = max(len(row.token_ids) for row in rows)
    input_ids = torch.full((len(rows), columns), pad_token_id)
    attention_mask = torch.zeros((len(rows), columns), dtype=torch.int64)
    labels = torch.full((len(rows), columns), IGNORED)
    first = columns
    for index, row in enumerate(rows):
        length = len(row.token_ids)
        start = columns - length if padding_side == "left" else 0
        answer = start + row.prompt_tokens
        input_ids[index, start : start + length] = torch.tensor(row.token_ids)
        attention_mask[index, start : start + length] = 1
        labels[index, answer : start + length] = torch.tensor(row.token_ids[row.prompt_tokens :])
        first = min(first, answer)
    # The columns before every answer need no logits, which saves a third of the time and half the
    # memory for short answers. One more is kept: the first answer token is predicted by the column
    # before it.
    first = max(first - 1, 0)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels[:, first:],
        "logits_to_keep": columns - first,
    }
