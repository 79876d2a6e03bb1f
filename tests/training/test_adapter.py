import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray
from peft import get_peft_model_state_dict

from protocol.errors import Misconfigured
from protocol.spec import Layer
from tests.training.conftest import BuildModel
from training.adapter import Arrays, adapter_layers, all_layers, read_adapter, write_adapter


@pytest.mark.parametrize("kind", ["none", "nf4", "int8", "bf16"])
def test_names_and_values_are_pefts(build_model: BuildModel, kind: str) -> None:
    model = build_model(kind)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    arrays = read_adapter(model)
    assert list(arrays) == sorted(expected)
    assert adapter_layers(model) == [(name, array.shape) for name, array in arrays.items()]
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert (array == expected[name].numpy()).all()
        Layer(name=name, shape=array.shape)  # a spec accepts it


def test_ffa_lists_b_only_and_freezes_a(build_model: BuildModel) -> None:
    model = build_model("none", "ffa")
    names = [name for name, _ in adapter_layers(model)]
    assert names
    assert all(".lora_B." in name for name in names)
    assert len(all_layers(model)) == 2 * len(names)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == len(names)


def test_first_adapter_is_the_same_on_every_machine(build_model: BuildModel) -> None:
    first = {name: tensor.detach().numpy() for name, tensor in all_layers(build_model()).items()}
    frozen = all_layers(build_model("nf4", "ffa"))
    digest = hashlib.sha256(b"".join(array.tobytes() for array in first.values())).hexdigest()
    assert digest == "9d0d7fd8d92802bcea1c4292c74911ba21af3d59c4df8209870a00ff395700df"
    for name, array in first.items():
        assert (array == frozen[name].detach().numpy()).all()
        assert (array == 0).all() == (".lora_B." in name)
        assert np.abs(array).max() <= array.shape[1] ** -0.5


def test_what_is_written_is_read(build_model: BuildModel) -> None:
    model = build_model("nf4")
    arrays = changed(read_adapter(model))
    write_adapter(model, arrays)
    for name, array in read_adapter(model).items():
        assert (array == arrays[name]).all()


def test_what_was_read_does_not_change_with_the_model(build_model: BuildModel) -> None:
    model = build_model()
    read = read_adapter(model)
    kept = {name: array.copy() for name, array in read.items()}
    write_adapter(model, changed(read))
    for name, array in read.items():
        assert (array == kept[name]).all()


def test_read_only_arrays_of_any_float_type_can_be_written(build_model: BuildModel) -> None:
    model = build_model()
    arrays: dict[str, NDArray[np.floating]] = {}
    for name, array in read_adapter(model).items():
        arrays[name] = np.full(array.shape, 0.5, dtype=np.float64)
        arrays[name].flags.writeable = False
    write_adapter(model, arrays)
    assert all((array == 0.5).all() for array in read_adapter(model).values())


@pytest.mark.parametrize("fault", ["missing", "unknown", "renamed", "shape", "nan"])
def test_a_wrong_adapter_is_refused_and_changes_nothing(
    build_model: BuildModel, fault: str
) -> None:
    model = build_model()
    before = read_adapter(model)
    arrays = changed(before)
    name = list(arrays)[-1]  # the last, so that a check made while writing would come too late
    if fault == "missing":
        del arrays[name]
    elif fault == "unknown":
        arrays["zzz.lora_A.weight"] = arrays[name]
    elif fault == "renamed":
        arrays[name.replace(".weight", ".default.weight")] = arrays.pop(name)
    elif fault == "shape":
        arrays[name] = arrays[name].T
    else:
        arrays[name][0, 0] = np.nan
    with pytest.raises(Misconfigured, match=r"lora_[AB]"):
        write_adapter(model, arrays)
    for layer, array in read_adapter(model).items():
        assert (array == before[layer]).all()


def changed(arrays: Arrays) -> Arrays:
    return {name: array + np.float32(0.25) for name, array in arrays.items()}
