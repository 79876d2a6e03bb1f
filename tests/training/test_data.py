from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES
from training.data import (
    IGNORED,
    Example,
    TokenizedExample,
    check_sequence_length,
    collate,
    read_examples,
    tokenize,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"question": "Q", "answer": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "output": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "input": "", "response": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "input": "I", "response": "A"}', Example("Q\n\nI", "A")),
        ('{"instruction": "Q", "context": "I", "response": "A"}', Example("Q\n\nI", "A")),
        # U+2028 ends a line for str.splitlines, but not in a file.
        ('{"question": "Q\u2028q", "answer": "A", "id": 7}', Example("Q\u2028q", "A")),
    ],
)
def test_forms_of_a_line(tmp_path: Path, line: str, expected: Example) -> None:
    file = tmp_path / "cards.jsonl"
    file.write_text(f"\n{line}\n\n{line}", encoding="utf-8")
    assert read_examples(file) == [expected, expected]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"cards.jsonl is empty"),
        (b"\n \n", r"cards.jsonl is empty"),
        (b'{"question": "Q", "answer": "A"}\n{"question": 1}', r"line 2: question must be text"),
        (b'{"question": "Q"}', r"line 1: answer is missing or empty"),
        (b'{"question": " ", "answer": "A"}', r"line 1: question is missing or empty"),
        (b'{"instruction": "Q"}', r"line 1: response or output is missing"),
        (b'{"prompt": "Q"}', r"line 1: expected fields question and answer"),
        (b'{"question": "Q", "answer": null}', r"line 1: answer must be text, not NoneType"),
        (b'\n{"question": ', r"line 2: not JSON"),
        (b'["question"]', r"line 1: expected a JSON object"),
        (b'{"question": "\xff"}', r"line 1: not UTF-8 text"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "cards.jsonl"
    file.write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as caught:
        read_examples(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*No such file"):
        read_examples(tmp_path / "nowhere.jsonl")


def test_prompt_and_answer_as_the_chat_template_has_them(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (row,) = tokenize(tokenizer, [Example("Hi?", "Yes.")], 100).rows
    assert tokenizer.decode(row.token_ids[: row.prompt_tokens]) == (
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row.token_ids[row.prompt_tokens :]) == "Yes.<|im_end|>"


def test_truncation_is_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    (row,) = tokenize(tokenizer, [Example("Hi?", "Yes.")], 100).rows
    whole, prompt = len(row.token_ids), row.prompt_tokens
    examples = [Example("Hi?", "Yes."), Example("Hi?", "Y"), Example("H" * 99, "Yes.")]
    cut = tokenize(tokenizer, examples, whole - 1)
    assert cut.truncated == 2
    assert cut.rows[0].token_ids == row.token_ids[:-1]
    assert len(cut.rows) == 2  # the third has no room for an answer
    assert tokenize(tokenizer, examples[:2], whole).truncated == 0
    with pytest.raises(Misconfigured, match="no answer fits in a sequence length"):
        tokenize(tokenizer, examples, prompt)


def test_a_template_that_drops_the_answer_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% if add_generation_prompt %}answer:{% else %}none{% endif %}"
        with pytest.raises(Misconfigured, match="does not continue its own prompt"):
            tokenize(tokenizer, EXAMPLES, 100)
    finally:
        tokenizer.chat_template = template


def test_a_batch_by_hand() -> None:
    rows = [TokenizedExample((1, 2, 3, 4, 5), 3), TokenizedExample((6, 7, 8), 2)]
    batch = collate(rows, pad_token_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    # Column 0 is a prompt in both rows and no label follows from it: 4 of 5 columns are kept.
    assert batch["logits_to_keep"] == 4
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 4, 5], [IGNORED, 8, IGNORED, IGNORED]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


def test_sequence_longer_than_the_model() -> None:
    check_sequence_length(1024, 1024)
    check_sequence_length(None, 10**6)
    with pytest.raises(Misconfigured, match="1025 is more than the 1024 this model can hold"):
        check_sequence_length(1024, 1025)
