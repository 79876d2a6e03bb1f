import pytest
import torch
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES
from training.data import (
    IGNORED,
    TokenizedExample,
    collate,
    tokenize,
)
from training.examples import Example
from training.model import check_sequence_length


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
    assert cut.left_out == 1
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


def test_a_batch_padded_on_the_left() -> None:
    rows = [TokenizedExample((1, 2, 3, 4, 5), 3), TokenizedExample((6, 7, 8), 2)]
    batch = collate(rows, 0, "left")
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [0, 0, 6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    # All answers are at the end: one column less than with padding on the right.
    assert batch["logits_to_keep"] == 3
    assert batch["labels"].tolist() == [[IGNORED, 4, 5], [IGNORED, IGNORED, 8]]


def test_sequence_longer_than_the_model() -> None:
    check_sequence_length(1024, 1024)
    check_sequence_length(None, 10**6)
    with pytest.raises(Misconfigured, match="1025 is more than the 1024 this model can hold"):
        check_sequence_length(1024, 1025)
