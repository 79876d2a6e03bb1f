"""Questions and answers from a file to token tensors; the loss counts the answer's tokens only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured

IGNORED = -100  # the label that torch's cross entropy leaves out


class Batch(TypedDict):
    """What a causal language model of transformers is called with; see `collate`."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    logits_to_keep: int


@dataclass(frozen=True)
class Example:
    """One question and the answer to learn."""

    question: str
    answer: str


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of prompt and answer in a row; the first `prompt_tokens` are not learnt."""

    token_ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class TokenizedExamples:
    """What fits the sequence length: rows, and how many examples were cut (or left out whole)."""

    rows: tuple[TokenizedExample, ...]
    truncated: int


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a JSONL file, one object a line, in the order of the file.

    An object has `question` and `answer`, or `instruction`, `response` (or `output`) and, if there
    is one, `input` (or `context`), which follows the instruction after an empty line. Empty lines
    are skipped. Misconfigured names file and line of the first fault.
    """
    examples = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    examples.append(_parse_line(line, f"{path}, line {number}"))
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error
    if not examples:
        raise Misconfigured(f"{path} is empty: expected one JSON object a line")
    return examples


def tokenize(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], sequence_length: int
) -> TokenizedExamples:
    """Return `examples` in the tokenizer's chat template, cut after `sequence_length` tokens.

    An example whose question alone fills the length is left out and counts as truncated.
    Misconfigured when nothing is left, or when the template does not put the answer last.
    """
    rows = []
    truncated = 0
    for example in examples:
        row = _tokenize_example(tokenizer, example)
        truncated += len(row.token_ids) > sequence_length
        if row.prompt_tokens < sequence_length:
            rows.append(TokenizedExample(row.token_ids[:sequence_length], row.prompt_tokens))
    if not rows:
        raise Misconfigured(
            f"no answer fits in a sequence length of {sequence_length} tokens: raise it, or give "
            f"shorter questions ({len(examples)} examples)"
        )
    return TokenizedExamples(tuple(rows), truncated)


def prompt_text(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """Return the chat template's text up to where the answer begins."""
    messages = [{"role": "user", "content": question}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def collate(rows: Sequence[TokenizedExample], pad_token_id: int) -> Batch:
    """Return a batch padded on the right to its longest row.

    `input_ids` and `attention_mask` are int64 (rows, columns). The first columns hold prompts only,
    so `labels` (IGNORED on prompt and padding) cover the last `logits_to_keep` columns: the model
    computes no logits for the rest, a third of the time and half the memory for short answers.
    """
    columns = max(len(row.token_ids) for row in rows)
    first = max(min(row.prompt_tokens for row in rows) - 1, 0)
    input_ids = torch.full((len(rows), columns), pad_token_id)
    attention_mask = torch.zeros((len(rows), columns), dtype=torch.int64)
    labels = torch.full((len(rows), columns), IGNORED)
    for index, row in enumerate(rows):
        length = len(row.token_ids)
        input_ids[index, :length] = torch.tensor(row.token_ids)
        attention_mask[index, :length] = 1
        labels[index, row.prompt_tokens : length] = torch.tensor(row.token_ids[row.prompt_tokens :])
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels[:, first:],
        "logits_to_keep": columns - first,
    }


def check_sequence_length(positions: int | None, sequence_length: int) -> None:
    """Raise Misconfigured when the model has fewer `positions` than `sequence_length`."""
    if positions is not None and sequence_length > positions:
        raise Misconfigured(
            f"sequence length {sequence_length} is more than the {positions} this model can hold"
        )


def _tokenize_example(tokenizer: PreTrainedTokenizerBase, example: Example) -> TokenizedExample:
    prompt = prompt_text(tokenizer, example.question)
    messages = [
        {"role": "user", "content": example.question},
        {"role": "assistant", "content": example.answer},
    ]
    whole: str = tokenizer.apply_chat_template(messages, tokenize=False)
    if not whole.startswith(prompt):
        raise Misconfigured("this model's chat template does not continue its own prompt")
    # Line breaks after the end-of-turn token teach nothing and would only flatter the loss.
    answer = whole[len(prompt) :].rstrip()
    # In two pieces, so that no token straddles the border between prompt and answer.
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return TokenizedExample((*prompt_ids, *answer_ids), len(prompt_ids))


def _parse_line(line: bytes, place: str) -> Example:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{place}: not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise Misconfigured(f"{place}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise Misconfigured(f"{place}: expected a JSON object")
    if "question" in row or "answer" in row:
        return Example(_text(row, ("question",), place), _text(row, ("answer",), place))
    if "instruction" not in row:
        raise Misconfigured(f"{place}: expected fields question and answer")
    question = _text(row, ("instruction",), place)
    if row.get("input") or row.get("context"):
        question += "\n\n" + _text(row, ("input", "context"), place)
    return Example(question, _text(row, ("response", "output"), place))


def _text(row: dict[str, object], names: tuple[str, ...], place: str) -> str:
    for name in names:
        if name in row and row[name] != "":
            value = row[name]
            if not isinstance(value, str):
                raise Misconfigured(f"{place}: {name} must be text, not {type(value).__name__}")
            if value.strip():
                return value
    raise Misconfigured(f"{place}: {' or '.join(names)} is missing or empty")
