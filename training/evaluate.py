"""The held-out loss of a model, by which a federation's progress is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.data import IGNORED, collate, tokenize_for
from training.examples import Example
from training.model import inference
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
    """Return the loss of `model` on the answers, without dropout; the model is left unchanged.

    `batch_size` costs memory and changes the result by rounding only.
    """
    # Rows of similar length share a batch: less padding to compute.
    tokenized = tokenize_for(model, tokenizer, examples, sequence_length, template)
    rows = sorted(tokenized.rows, key=lambda row: len(row.token_ids))
    total, tokens = 0.0, 0
    with quiet(), inference(model):
        for first in range(0, len(rows), batch_size):
            batch = collate(rows[first : first + batch_size], tokenizer.pad_token_id)
            # Without the labels: with them the model would compute a mean per batch itself, and
            # batches differ in their number of answer tokens.
            logits = model(
                input_ids=batch["input_ids"].to(model.device),
                attention_mask=batch["attention_mask"].to(model.device),
                logits_to_keep=batch["logits_to_keep"],
                use_cache=False,
            ).logits[:, :-1]
            # Column t is predicted by the logits of column t - 1.
            labels = batch["labels"][:, 1:].to(model.device)
            counted = labels != IGNORED
            # In float32 whatever the model computes in: bfloat16 has 8 bits of precision.
            loss = cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
            total += float(loss)
            tokens += int(counted.sum())
    return Evaluation(total / tokens, math.exp(total / tokens), tokens)
