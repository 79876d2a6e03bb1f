"""Checkpoints as people have them: averaged to a folder that opens, or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel, load_peft_weights
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch
from transformers import AutoModelForCausalLM

from commonweight.model.average import average_checkpoints
from commonweight.model.checkpoint import read_checkpoint
from protocol.errors import Misconfigured, Rejected
from tests.cases.adapters import adapter, base
from training.sources import ModelSource, resolve_source

Arrays = dict[str, NDArray[Any]]


def drawn(seed: int, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = {"b": (3, 4), "a": (300,), "c": ()}
    return {
        name: np.asarray(rng.integers(-64, 65, shape) / 64 * scale, np.float32)
        for name, shape in shapes.items()
    }


def saved(path: Path, arrays: Arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, metadata={"format": "pt"})
    return path


def two(folder: Path, change: Callable[[Arrays], object] = lambda arrays: None) -> list[Path]:
    """Two checkpoints in folders, both with a change."""
    found = []
    for seed, name in enumerate("ab"):
        arrays = drawn(seed)
        change(arrays)
        saved(folder / name / "model.safetensors", arrays)
        found.append(folder / name)
    return found


def mean(paths: list[Path], output: Path, **options: Any) -> Arrays:
    average_checkpoints(paths, [1] * len(paths), output, **options)
    (file,) = output.glob("*model.safetensors")
    arrays: Arrays = load_file(file)
    return arrays


# ------------------------------------------------------------------------- averaged


def test_the_mean_opens_as_safetensors_with_counters_and_empty_tensors(tmp_path: Path) -> None:
    def add(arrays: Arrays) -> None:
        arrays["count"] = np.asarray(7, np.int64)
        arrays["mask"] = np.array([True, False])
        arrays["empty"] = np.zeros((0, 5), np.float32)

    paths = two(tmp_path, add)
    result = average_checkpoints(paths, [3, 1], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    first, second = drawn(0), drawn(1)
    for name in first:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], (3 * first[name] + second[name]) / 4)
    assert (found["count"], found["count"].dtype) == (7, np.int64)
    assert found["mask"].tolist() == [True, False]
    assert found["empty"].shape == (0, 5)
    assert [layer["name"] for layer in result["layers"]] == ["a", "b", "c"]
    assert result["carried"] == ["count", "empty", "mask"]


def test_float64_and_bfloat16(tmp_path: Path) -> None:
    values = [each["a"] for each in (drawn(0), drawn(1))]
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_file({"a": values[0].astype(np.float64)}, paths[0])
    save_torch({"a": torch.from_numpy(values[1]).to(torch.bfloat16)}, paths[1])
    np.testing.assert_array_equal(mean(paths, tmp_path / "out")["a"], (values[0] + values[1]) / 2)


def test_values_of_128_and_more_need_fewer_fraction_bits(tmp_path: Path) -> None:
    paths = two(tmp_path, lambda arrays: arrays.update(norm=np.full(3, 300, np.float32)))
    words = r"norm, from value 0 on: value 0 is 300.0; .*\|v\| < 2\^7; with --fraction-bits 22"
    with pytest.raises(Rejected, match=words):
        mean(paths, tmp_path / "out")
    # What the attempt left is no obstacle to the next.
    found = mean(paths, tmp_path / "out", fraction_bits=22)
    assert found["norm"].tolist() == [300.0] * 3
    np.testing.assert_array_equal(found["b"], (drawn(0)["b"] + drawn(1)["b"]) / 2)
    assert json.loads((tmp_path / "out" / "layers.json").read_text())["fraction_bits"] == 22
    with pytest.raises(Misconfigured, match="fraction bits 25: expected 0 to 24"):
        mean(paths, tmp_path / "out", fraction_bits=25)


def sharded(folder: Path, arrays: Arrays, where: dict[str, str]) -> Path:
    for shard in set(where.values()):
        saved(folder / shard, {n: arrays[n] for n in arrays if where.get(n, shard) == shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def test_shards_count_as_their_index_says(tmp_path: Path) -> None:
    arrays = drawn(0)
    where = {"a": "one.safetensors", "b": "two.safetensors"}
    # c is in both shards and in no index: a stale copy.
    paths = [sharded(tmp_path / name, arrays, where) for name in "xy"]
    assert mean(paths, tmp_path / "out").keys() == {"a", "b"}
    lost = sharded(tmp_path / "z", {"a": arrays["a"], "b": arrays["b"]}, where)
    index = {**where, "c": "one.safetensors"}
    (lost / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(Misconfigured, match=r"c is not in one.safetensors, as the index says"):
        read_checkpoint(lost)


def test_of_two_copies_the_one_that_transformers_loads(tmp_path: Path) -> None:
    paths = two(tmp_path)
    for path in paths:
        saved(path / "consolidated.safetensors", {"a": np.ones(3, np.float32)})
    assert mean(paths, tmp_path / "out").keys() == {"a", "b", "c"}


def test_an_adapter_beside_a_whole_model_must_be_named(tmp_path: Path) -> None:
    paths = two(tmp_path)
    saved(paths[0] / "adapter_model.safetensors", {"x": np.ones(3, np.float32)})
    with pytest.raises(Misconfigured, match="an adapter and a whole model; name the file"):
        mean(paths, tmp_path / "out")
    mean([each / "model.safetensors" for each in paths], tmp_path / "out")


def test_a_second_mean_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = two(tmp_path, lambda arrays: arrays.update(d=np.ones(9, np.float32)))
    for path in paths:
        (path / "config.json").write_text("{}")
    mean(paths, out)
    assert {each.name for each in out.iterdir()} == {
        *(f"{n:05d}.layer" for n in range(4)),
        "layers.json",
        "model.safetensors",
        "config.json",
    }
    mean([saved(tmp_path / f"{n}.safetensors", drawn(n)) for n in range(2)], out)
    assert {each.name for each in out.iterdir()} == {
        *(f"{n:05d}.layer" for n in range(3)),
        "layers.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors"])
def test_a_folder_of_ones_own_is_never_overwritten(tmp_path: Path, name: str) -> None:
    paths, out = two(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(Misconfigured, match="is not empty"):
        mean(paths, out)
    assert (out / name).read_text() == "mine"
    for target in (paths[0], tmp_path / "mean"):
        if target.name == "mean":
            mean(paths, target)
        with pytest.raises(Misconfigured, match="has a checkpoint to average"):
            mean([paths[1], target], target)


# -------------------------------------------------------------------------- refused


def raw(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4], "data_offsets": [start, stop]}


ONE = json.dumps(entry(0, 4)).encode()
BROKEN: dict[str, tuple[bytes, str]] = {
    "overlap": (raw({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "b overlaps"),
    "gap": (raw({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "b leaves a gap"),
    "late": (raw({"a": entry(4, 8)}, bytes(8)), "a leaves a gap"),
    "trailing": (raw({"a": entry(0, 4)}, bytes(9)), "5 bytes behind its last tensor"),
    "cut": (raw({"a": entry(0, 4)}, bytes(3)), "1 bytes missing"),
    "doubled": (raw(b'{"a": %b, "a": %b}' % (ONE, ONE), bytes(4)), "a is named twice"),
    "wrong size": (raw({"a": {**entry(0, 4), "shape": [2]}}, bytes(4)), "a of shape"),
    "negative": (raw({"a": {**entry(0, 4), "shape": [-1]}}, bytes(4)), "a of shape"),
    "endless": (
        raw(b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}', bytes(4)),
        "infinity",
    ),
    "no entry": (raw({"a": []}, b""), "is not a safetensors file"),
    "unknown type": (raw({"a": entry(0, 4, "F4")}, bytes(4)), "a is F4, expected F16"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "no object": (raw([], b""), "is not a safetensors file"),
    "deep": (raw(b"[" * 3_000_000, b""), "is not a safetensors file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_line(tmp_path: Path, kind: str) -> None:
    content, words = BROKEN[kind]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": np.asarray(8, np.int64)}, "count is I64 in .*, I64 in .*, and differs"),
        ({"count": np.asarray(7, np.int32)}, "count is I32 in .*, I64 in .*, and differs"),
        ({"b": np.zeros((4, 3), np.float32)}, r"b has shape \(4, 3\)"),
        ({"head": np.ones(3, np.float32)}, "head is not in both"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, change: Arrays, words: str) -> None:
    paths = two(tmp_path, lambda arrays: arrays.update(count=np.asarray(7, np.int64)))
    saved(paths[1] / "model.safetensors", {**load_file(paths[1] / "model.safetensors"), **change})
    with pytest.raises(Misconfigured, match=words):
        mean(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_value_that_is_no_number_names_its_tensor(tmp_path: Path) -> None:
    paths = two(tmp_path, lambda arrays: arrays.update(b=np.full((2, 2), np.nan, np.float32)))
    with pytest.raises(Rejected, match="b, from value 0 on: value 0 is nan"):
        mean(paths, tmp_path / "out")


# ------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora_alpha": 64}, "lora_alpha is 64 in .*, 8 in"),
        ({"r": 8}, "r is 8 in .*, 4 in"),
        ({"use_rslora": True}, "use_rslora is True in .*, None in"),
        ({"use_dora": True}, "use_dora is True in .*, None in"),
        ({"target_modules": ["q_proj", "k_proj"]}, "target_modules is .*k_proj"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is .*q_proj"),
        ({"modules_to_save": ["norm"]}, "modules_to_save is .*norm"),
        ({"base": "other/model"}, "base_model_name_or_path is other/model in"),
    ],
)
def test_adapters_of_different_kinds_are_not_mixed(
    tmp_path: Path, tiny: ModelSource, settings: dict[str, Any], words: str
) -> None:
    named = settings.pop("base", None) if "base" in settings else None
    paths = [adapter(tiny, tmp_path / "a", 1), adapter(tiny, tmp_path / "b", 2, **settings)]
    if named:
        file = paths[1] / "adapter_config.json"
        file.write_text(
            json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": named})
        )
    with pytest.raises(Misconfigured, match=words):
        mean(paths, tmp_path / "out")
    # Files are compared by what lies beside them, too.
    with pytest.raises(Misconfigured, match=words):
        mean([each / "adapter_model.safetensors" for each in paths], tmp_path / "out")
    (paths[1] / "adapter_config.json").unlink()
    with pytest.raises(Misconfigured, match=r"b has no adapter_config.json"):
        mean(paths, tmp_path / "out")


@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"use_rslora": True}, {"modules_to_save": ["norm"]}]
)
def test_the_mean_of_adapters_opens_in_peft(
    tmp_path: Path, tiny: ModelSource, settings: dict[str, Any]
) -> None:
    paths = [adapter(tiny, tmp_path / name, n, **settings) for n, name in enumerate("ab")]
    found = mean(paths, tmp_path / "out")
    given = [load_peft_weights(path, device="cpu") for path in paths]
    for name, values in found.items():
        expected = (given[0][name] + given[1][name]).numpy() / 2
        np.testing.assert_allclose(values, expected, atol=2**-24)
    model = PeftModel.from_pretrained(base(tiny), tmp_path / "out")
    ids = torch.tensor([[1, 2, 3]])
    other = PeftModel.from_pretrained(base(tiny), paths[0])
    assert not torch.equal(model(ids).logits, other(ids).logits)


def test_the_mean_of_models_opens_in_transformers(tmp_path: Path, tiny: ModelSource) -> None:
    for name in "ab":
        shutil.copytree(tiny.folder, tmp_path / name)
    mean([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    ids = torch.tensor([[1, 2, 3]])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(model(ids).logits, base(tiny)(ids).logits, atol=1e-5, rtol=0)
    assert (tmp_path / "out" / "tokenizer.json").is_file()
