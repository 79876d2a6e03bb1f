"""Questions and answers to token tensors; the loss counts the answer's tokens only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from training.examples import Example
from training.templates import Template, answer_text, prompt_text

IGNORED = -100  # the label that torch's cross entropy leaves out


class Batch(TypedDict):
    """What a causal language model of transformers is called with; see `collate`."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    logits_to_keep: int


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of prompt and answer in a row; the first `prompt_tokens` are not learnt."""

    token_ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class TokenizedExamples:
    """What fits the sequence length: rows, and how many examples were cut or left out whole."""

    rows: tuple[TokenizedExample, ...]
    truncated: int
    left_out: int


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    sequence_length: int,
    template: Template = "chat",
) -> TokenizedExamples:
    """Return `examples` written by `template`, cut after `sequence_length` tokens.

    An example whose question alone fills the length is left out and counts as truncated too.
    Misconfigured when nothing is left, or when the template does not put the answer last.
    """
    rows = []
    truncated = 0
    for example in examples:
        row = _tokenize_example(tokenizer, example, template)
        truncated += len(row.token_ids) > sequence_length
        if row.prompt_tokens < sequence_length:
            rows.append(TokenizedExample(row.token_ids[:sequence_length], row.prompt_tokens))
    if not rows:
        raise Misconfigured(
            f"no answer fits in a sequence length of {sequence_length} tokens: raise it, or give "
            f"shorter questions ({len(examples)} examples)"
        )
    return TokenizedExamples(tuple(rows), truncated, len(examples) - len(rows))


def collate(
    rows: Sequence[TokenizedExample],
    pad_token_id: int,
    padding_side: Literal["right", "left"] = "right",
) -> Batch:
    """Return a batch padded to its longest row.

    `input_ids` and `attention_mask` are int64 (rows, columns). The first columns hold prompts only,
    so `labels` (IGNORED on prompt and padding) cover the last `logits_to_keep` columns: the model
    computes no logits for the rest, a third of the time and half the memory for short answers.
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
    first = max(first - 1, 0)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels[:, first:],
        "logits_to_keep": columns - first,
    }


def _tokenize_example(
    tokenizer: PreTrainedTokenizerBase, example: Example, template: Template
) -> TokenizedExample:
    prompt = prompt_text(tokenizer, example.question, template)
    answer = answer_text(tokenizer, example.question, example.answer, template)
    # In two pieces, so that no token straddles the border between prompt and answer.
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return TokenizedExample((*prompt_ids, *answer_ids), len(prompt_ids))
