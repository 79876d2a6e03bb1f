"""Base models as people have them: a federation trains, or is refused before money moves."""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from chain.location import FederationLocation
from devnet.accounts import dev_account
from devnet.ipfs.daemon import DevIpfsDaemon
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from sponsor import found
from sponsor.config import Config
from sponsor.create import Order, create_federation
from tests.cases import models
from tests.commonweight.program import TINY
from tests.ethereum.anvil import shared_anvil
from tests.terms import factory_of
from tests.training.conftest import lora, make_spec, quantization
from training.adapter import adapter_layers
from training.chat import answer
from training.data import tokenize
from training.examples import Example
from training.model import attach_lora, check_model, load_base, load_tokenizer
from training.session import open_session
from training.sources import ModelSource, resolve_source

SPONSOR = Wallet.from_key(bytes(dev_account(0).key))
AGGREGATOR = dev_account(1).address
Q = "layers.1.self_attn.q_proj.weight"
TURN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + CONTENT + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\nOPENING' }}{% endif %}"
)


def template(content: str = "m['content']", opening: str = "", before: str = "") -> str:
    return before + TURN.replace("CONTENT", content).replace("OPENING", opening)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache")).folder


@dataclass(frozen=True)
class Sponsor:
    """Who would found a federation on a chain of the tests."""

    rpc_url: str
    ipfs_url: str
    factory: str

    def sent(self) -> int:
        """The number of transactions sent so far."""
        return int(connect(self.rpc_url).eth.get_transaction_count(dev_account(0).address))

    def create(self, folder: Path, file: Path) -> None:
        """Create a federation by the configuration in `file`."""
        order = Order(
            config=file,
            aggregators=[AGGREGATOR],
            token=None,
            rpc_url=self.rpc_url,
            ipfs_url=self.ipfs_url,
            seed=3,
            factory=self.factory,
            dev=True,
        )
        create_federation(folder / "federation.json", order, lambda: SPONSOR, lambda line: None)


def configuration(folder: Path, source: object, changes: dict[str, Any]) -> Path:
    """Write the tiny configuration with `changes` of its sections; the trial has to fill it in."""
    config = tomllib.loads(TINY.read_text())
    held_out = TINY.parent / config["data"]["held_out"]
    config["data"] = {"held_out": str(held_out)}
    config["model"]["source"] = str(source)
    del config["encoding"], config["screening"]
    config["training"] |= {"steps": 1, "sequence_length": 96}
    for section, values in changes.items():
        config[section] |= values
    file = folder / "config.toml"
    file.write_text(tomli_w.dumps(config))
    return file


@pytest.fixture(scope="module")
def sponsor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sponsor]:
    folder = tmp_path_factory.mktemp("network")
    daemon = DevIpfsDaemon(folder / "ipfs")
    daemon.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWEIGHT_HOME", str(folder))
        sender = Sender(connect(shared_anvil()), SPONSOR)
        yield Sponsor(shared_anvil(), daemon.url, factory_of(sender).address)
    daemon.stop()


# -------------------------------------------------------------------------- refused

Make = Callable[[Path, Path], Path]


def changed(make: Callable[[Path], Path]) -> Make:
    """The tiny Llama's folder after a change."""
    return lambda tiny, folder: make(models.copied(tiny, folder))


def unchanged(tiny: Path, folder: Path) -> Path:
    return tiny


CODE: dict[str, Any] = {
    "model_type": "ours",
    "auto_map": {"AutoConfig": "ours.C", "AutoModelForCausalLM": "ours.M"},
}
QUANTISED = {"quant_method": "bitsandbytes", "load_in_4bit": True}
REFUSED: dict[str, tuple[Make, dict[str, Any], str]] = {
    "a template that raises": (
        changed(lambda each: models.with_template(each, "{{ raise_exception('roles!') }}")),
        {},
        "chat template cannot be used: roles!",
    ),
    "a template that is none": (
        changed(lambda each: models.with_template(each, "{% for m in messages %}")),
        {},
        "chat template cannot be used: ",
    ),
    "a template for pictures": (
        changed(lambda each: models.with_template(each, template("m['content'][0]['text']"))),
        {},
        "chat template (cannot be used|does not continue)",
    ),
    "a template without the answer": (
        changed(
            lambda each: models.with_template(each, "{% if add_generation_prompt %}a{% endif %}")
        ),
        {},
        "does not continue its own prompt",
    ),
    "no template": (
        changed(lambda each: models.without_file(each, "chat_template.jinja")),
        {},
        "no chat template: set template to vicuna or alpaca",
    ),
    "a token beyond the embedding": (
        changed(
            lambda each: models.with_template(
                models.with_token(each, "<|extra|>", 259), template(before="<|extra|>")
            )
        ),
        {},
        r"gives token 259 \('<\|extra\|>'\), and this model has 259 tokens",
    ),
    "a missing weight": (
        changed(lambda each: models.without_weight(each, f"model.{Q}")),
        {},
        f"has no weight model.{Q}",
    ),
    "weights of another shape": (
        changed(lambda each: models.configured(each, intermediate_size=512)),
        {},
        r"mlp\.down_proj\.weight in .* has shape \[128, 256\], config\.json says \[128, 512\]",
    ),
    "a cut download": (
        changed(models.cut),
        {},
        r"model\.safetensors cannot be read: ",
    ),
    "a tokenizer that is none": (
        changed(lambda each: models.configured(each, "tokenizer.json", model={"type": "Other"})),
        {},
        "cannot load a tokenizer from",
    ),
    "quantised already": (
        changed(lambda each: models.configured(each, quantization_config=QUANTISED)),
        {},
        "is quantised already: name the model that it was made from",
    ),
    "code of its own": (
        changed(lambda each: models.configured(each, **CODE)),
        {},
        "custom code|cannot read a model|cannot load a tokenizer",
    ),
    "no weights": (
        changed(lambda each: models.without_file(each, "model.safetensors")),
        {},
        r"is not a model: expected config\.json and",
    ),
    "a rank above the model's": (
        unchanged,
        {"adapter": {"rank": 65}},
        "rank 65 is more than k_proj",
    ),
    "targets of another family": (
        unchanged,
        {"adapter": {"targets": ["c_attn"]}},
        "no linear module named c_attn to adapt: this model has down_proj",
    ),
    "one target of two": (
        unchanged,
        {"adapter": {"targets": ["q_proj", "x"]}},
        "module named x to",
    ),
    "the output layer": (unchanged, {"adapter": {"targets": ["lm_head"]}}, "module named lm_head"),
    "a table held out": (
        unchanged,
        {"data": {"held_out": str(TINY)}},
        r"held-out set .*tiny.toml: expected a \.jsonl file",
    ),
    "too long": (unchanged, {"training": {"sequence_length": 1025}}, "more than the 1024"),
    "too short": (unchanged, {"training": {"sequence_length": 8}}, "no answer fits in a sequence"),
    "a rate that diverges": (
        unchanged,
        {"training": {"learning_rate": 1e6, "steps": 3}},
        "diverged|does not lower the loss|no grid",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_a_federation_that_nobody_could_train_costs_nothing(
    tmp_path: Path, tiny: Path, sponsor: Sponsor, kind: str
) -> None:
    make, changes, words = REFUSED[kind]
    source, before = make(tiny, tmp_path / "model"), sponsor.sent()
    with pytest.raises(Misconfigured, match=words) as caught:
        sponsor.create(tmp_path, configuration(tmp_path, source, changes))
    assert str(caught.value).isprintable()
    assert sponsor.sent() == before
    assert not (tmp_path / "federation.json").exists()


# -------------------------------------------------------------------------- trained

DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% endif %}{{ date_string + '\n' }}"
)
TAGGED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 2}
TRAINED: dict[str, tuple[Make, dict[str, Any]]] = {
    "several ends": (changed(lambda each: models.configured(each, eos_token_id=[258, 257])), {}),
    "two shards": (changed(models.sharded), {}),
    "tags of generation": (changed(lambda each: models.with_template(each, TAGGED)), {}),
    "trimmed": (
        changed(lambda each: models.with_template(each, template("m['content'] | trim"))),
        {},
    ),
    "a thought first": (
        changed(lambda each: models.with_template(each, template(opening="<think>\n"))),
        {},
    ),
    "today's date": (changed(lambda each: models.with_template(each, template(before=DATED))), {}),
    "padding as the end": (
        changed(
            lambda each: models.configured(each, "tokenizer_config.json", pad_token="<|im_end|>")
        ),
        {},
    ),
    "padding beyond the embedding": (
        changed(
            lambda each: models.configured(
                models.with_token(each, "[PAD]", 259), "tokenizer_config.json", pad_token="[PAD]"
            )
        ),
        {},
    ),
    "all linear": (unchanged, {"adapter": {"targets": "all-linear"}}),
    "GPT-2": (
        lambda tiny, folder: models.of_family("gpt2", tiny, folder, **GPT2),
        {"adapter": {"targets": ["c_attn", "c_proj"]}},
    ),
    "GPT-2, all linear": (
        lambda tiny, folder: models.of_family("gpt2", tiny, folder, **GPT2),
        {"adapter": {"targets": "all-linear"}, "quantization": {"kind": "int8"}},
    ),
    "BLOOM": (
        lambda tiny, folder: models.of_family("bloom", tiny, folder, **BLOOM),
        {"adapter": {"targets": ["query_key_value"]}},
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TRAINED)
def test_a_federation_of(tmp_path: Path, tiny: Path, kind: str) -> None:
    make, changes = TRAINED[kind]
    changes = {"training": {"learning_rate": 0.02, "steps": 4, "sequence_length": 96}, **changes}
    file = configuration(tmp_path, make(tiny, tmp_path / "model"), changes)
    plan = found.plan(Config.load(file), 3, tmp_path, tmp_path / "start")
    assert plan.trial is not None
    assert plan.trial.loss_after < plan.trial.loss_before
    if kind == "all linear":
        names = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
        assert plan.spec.adapter.targets == names
        assert len(plan.spec.layers) == 2 * 2 * len(names)


def test_a_federation_that_can_be_trained_is_founded(
    tmp_path: Path, tiny: Path, sponsor: Sponsor
) -> None:
    """What the refusals above are compared with."""
    before = sponsor.sent()
    sponsor.create(tmp_path, configuration(tmp_path, tiny, {"training": {"steps": 4}}))
    assert sponsor.sent() > before
    assert FederationLocation.load(tmp_path / "federation.json").chain_id > 0


# ----------------------------------------------------------------- the same for everybody


def rows_of(folder: Path, example: Example) -> tuple[str, str]:
    """Return what the model reads and learns of an example."""
    tokenizer = load_tokenizer(folder)
    (row,) = tokenize(tokenizer, [example], 1_000).rows
    prompt, said = row.token_ids[: row.prompt_tokens], row.token_ids[row.prompt_tokens :]
    return tokenizer.decode(prompt), tokenizer.decode(said)


def test_a_template_with_a_clock_has_one_date(tmp_path: Path, tiny: Path) -> None:
    before = "{{ strftime_now('%Y-%m-%d, %H:%M') + ' ' }}" + DATED
    folder = models.with_template(models.copied(tiny, tmp_path / "model"), template(before=before))
    prompt, _ = rows_of(folder, Example("Why?", "So."))
    assert prompt.startswith("2024-07-26, 00:00 26 Jul 2024\n<|im_start|>user\nWhy?")


def test_prompts_begin_where_answers_do(tmp_path: Path, tiny: Path) -> None:
    folder = models.copied(tiny, tmp_path / "model")
    models.with_template(folder, template(opening="<think>\n"))
    expected = ("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", "<think>x<|im_end|>")
    assert rows_of(folder, Example("Why?", "<think>x")) == expected
    models.with_template(folder, template("m['content'] | trim"))
    assert rows_of(folder, Example(" Why?\n", "  So.\n ")) == (expected[0], "So.<|im_end|>")


def test_padding_that_is_the_end_is_learnt_as_the_end(tmp_path: Path, tiny: Path) -> None:
    folder = models.copied(tiny, tmp_path / "model")
    models.configured(folder, "tokenizer_config.json", pad_token="<|im_end|>")
    assert load_tokenizer(folder).pad_token_id == 258
    assert rows_of(folder, Example("Why?", "So."))[1].endswith("<|im_end|>")


def test_padding_beyond_the_embedding_is_another_token(tmp_path: Path, tiny: Path) -> None:
    folder = models.with_token(models.copied(tiny, tmp_path / "model"), "[PAD]", 259)
    models.configured(folder, "tokenizer_config.json", pad_token="[PAD]")
    assert load_tokenizer(folder).pad_token_id == 258


def test_a_model_with_several_ends_answers(tmp_path: Path, tiny: Path) -> None:
    folder = models.configured(models.copied(tiny, tmp_path / "model"), eos_token_id=[258, 257])
    tokenizer = load_tokenizer(folder)
    model = load_base(folder, quantization())
    assert isinstance(answer(model, tokenizer, "Why?", 4), str)


def test_a_session_refuses_a_base_with_random_weights(tmp_path: Path, tiny: Path) -> None:
    folder = models.without_weight(models.copied(tiny, tmp_path / "model"), f"model.{Q}")
    spec = make_spec(ModelSource("tiny", "local", folder, folder))
    with pytest.raises(Misconfigured, match=f"has no weight model.{Q}"):
        open_session(spec, str(folder), tmp_path)


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models.configured(models.copied(tiny, tmp_path / "model"), **CODE)
    ran = tmp_path / "ran"
    (folder / "ours.py").write_text(f"open({str(ran)!r}, 'w')\nraise SystemExit\n")
    with pytest.raises(Misconfigured):
        check_model(folder, "chat", 96)
    with pytest.raises(Misconfigured):
        load_base(folder, quantization())
    assert not ran.exists()
    assert "[y/N]" not in capsys.readouterr().out


def test_gpt2_trains_the_same_in_four_bits(tmp_path: Path, tiny: Path) -> None:
    """Its layers have their weights the other way round."""
    folder = models.of_family("gpt2", tiny, tmp_path / "model", **GPT2)
    source = ModelSource("gpt2", "local", folder, folder)
    spec = make_spec(source, adapter=lora(targets=("c_attn", "c_fc", "c_proj")))
    shapes = {layer.name: layer.shape for layer in spec.layers}
    for kind in ("none", "nf4", "int8"):
        model = attach_lora(load_base(folder, quantization(kind)), spec.adapter, seed=1)
        assert dict(adapter_layers(model)) == shapes
