"""`commonweight model average`: the mean of checkpoints is the naive one, whatever they lie in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from commonweight.model.average import average_checkpoints
from protocol.errors import Misconfigured, Rejected
from rounds import average
from tests.protocol import reference

KINDS = {"F16": "<f2", "F32": "<f4", "BF16": "<u2"}
SHAPES = {"head": (7, 3), "body.1": (300,), "body.0": (2, 3, 5), "scale": ()}


def write(path: Path, tensors: dict[str, tuple[str, NDArray[Any]]]) -> Path:
    """Write a safetensors file by hand; a BF16 array holds the upper halves of float32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, array) in tensors.items():
        raw = array.astype(KINDS[dtype]).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def drawn(seed: int) -> dict[str, NDArray[np.float32]]:
    """Values that float16 and bfloat16 hold as they are."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.integers(-127, 128, shape) / 64, np.float32)
        for name, shape in SHAPES.items()
    }


def as_kind(values: dict[str, NDArray[np.float32]], dtype: str) -> dict[str, Any]:
    if dtype == "BF16":
        return {
            n: (dtype, (v.reshape(-1).view(np.uint32) >> 16).reshape(v.shape))
            for n, v in values.items()
        }
    return {n: (dtype, v) for n, v in values.items()}


def expected_file(sources: list[dict[str, NDArray[np.float32]]], weights: list[int]) -> bytes:
    files = b""
    for name in sorted(SHAPES):
        encoded = [[reference.encode(float(v)) for v in s[name].reshape(-1)] for s in sources]
        files += reference.layer_file(reference.mean(encoded, weights), "model")  # type: ignore[arg-type]
    return files


def test_every_float_type_and_shards_give_the_naive_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average, "INPUT_BYTES", 1)  # a leaf at a time
    monkeypatch.setattr(average, "_LEAST_SLAB", 1)
    sources = [drawn(seed) for seed in range(3)]
    paths = [
        write(tmp_path / f"{k}.safetensors", as_kind(s, k))
        for k, s in zip(KINDS, sources, strict=True)
    ]
    shards = tmp_path / "sharded"
    third = as_kind(sources[2], "BF16")
    names = list(third)
    for number, half in enumerate((names[:2], names[2:])):
        write(shards / f"part{number}.safetensors", {n: third[n] for n in half})
    where = {n: f"part{i // 2}.safetensors" for i, n in enumerate(names)}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))

    expected = expected_file(sources, [5, 1, 2])
    for last in (paths[2], shards):
        result = average_checkpoints([*paths[:2], last], [5, 1, 2], tmp_path / "out")
        files = sorted((tmp_path / "out").glob("*.layer"))
        assert b"".join(file.read_bytes() for file in files) == expected
        assert result["root"] == reference.root(expected, 1024).hex()
        assert [layer["name"] for layer in result["layers"]] == sorted(SHAPES)


def test_the_command_prints_the_root(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{i}.safetensors", as_kind(drawn(i), "F32"))) for i in (1, 2)]
    arguments = [
        "model",
        "average",
        *paths,
        "--weights",
        "3,1",
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    command = [sys.executable, "-m", "commonweight", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root = reference.root(expected_file([drawn(1), drawn(2)], [3, 1]), 1024).hex()
    assert json.loads(done.stdout)["root"] == root


def test_wrong_checkpoints_are_told_in_one_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.safetensors", as_kind(drawn(1), "F32"))
    odd = drawn(2)
    fewer = write(tmp_path / "fewer", as_kind({"head": odd["head"]}, "F32"))
    odd["head"] = odd["head"].T
    turned = write(tmp_path / "turned", as_kind(odd, "F32"))
    cut = tmp_path / "cut"
    cut.write_bytes(good.read_bytes()[:-1])
    text = tmp_path / "text"
    text.write_text("no checkpoint at all")
    for path, line in (
        (fewer, "body.0 is not in both"),
        (turned, r"head has shape \(3, 7\)"),
        (cut, "is not a safetensors file: 1 bytes missing"),
        (text, "is not a safetensors file"),
        (tmp_path, "2 .safetensors files and no index"),
        (tmp_path / "none", "none: No such file or directory"),
    ):
        (tmp_path / "more.safetensors").touch()
        with pytest.raises(Misconfigured, match=line):
            average_checkpoints([good, path], [1, 1], tmp_path / "out")
    with pytest.raises(Misconfigured, match="2 checkpoints and 1 weights"):
        average_checkpoints([good, good], [1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_value_that_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    values = drawn(1)
    values["head"][2, 1] = np.nan
    path = write(tmp_path / "nan.safetensors", as_kind(values, "F32"))
    with pytest.raises(Rejected, match="head, from value 0 on: value 7 is nan"):
        average_checkpoints([path], [1], tmp_path / "out")
