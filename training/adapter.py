"""The adapter as named float32 arrays: read out of a model, written into it, made from a seed.

Names are peft's state-dict keys, such as
`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, shape (rank, inputs) for A and
(outputs, rank) for B. Only what trains is listed: in mode `ffa` that is B alone. peft's own
`set_peft_model_state_dict` ignores names it does not know, so nothing here uses it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.errors import Misconfigured
from training.seeded import uniform_values

ADAPTER = "default"

Arrays = dict[str, NDArray[np.float32]]


def adapter_layers(model: torch.nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Return (name, shape) of every trainable layer of the adapter, sorted by name."""
    return [(name, tuple(tensor.shape)) for name, tensor in _layers(model).items()]


def read_adapter(model: torch.nn.Module) -> Arrays:
    """Return a copy of every trainable layer of the adapter, float32, in the order of its names."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, tensor in _layers(model).items()
    }


def write_adapter(model: torch.nn.Module, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Replace the trainable layers of the adapter by `arrays`, which must be all of them.

    Misconfigured, with the model untouched, on a missing or unknown name, another shape, or a value
    that is not finite.
    """
    layers = _layers(model)
    check_arrays(arrays, {name: tuple(tensor.shape) for name, tensor in layers.items()})
    with torch.no_grad():
        for name, tensor in layers.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)))


def reset_adapter(model: torch.nn.Module, seed: int) -> None:
    """Set A and B to what `initial_array` makes of `seed`, frozen layers too."""
    with torch.no_grad():
        for name, tensor in all_layers(model).items():
            tensor.copy_(torch.from_numpy(initial_array(name, tuple(tensor.shape), seed)))


def initial_array(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return the first value of a layer: B is zero, A uniform within 1/sqrt(inputs).

    The bound is that of peft's default (Kaiming uniform with a = sqrt(5)); the numbers come from
    SHAKE-256, so that a frozen A has the same bits at every participant.
    """
    if ".lora_B." in name:
        return np.zeros(shape, dtype=np.float32)
    return uniform_values(f"lora/{seed}/{name}", shape, shape[1] ** -0.5)


@contextmanager
def first_ranks_only(model: torch.nn.Module, rank: int | None) -> Iterator[None]:
    """Let gradients reach only the first `rank` rows of A and columns of B inside the block.

    The product of the rest still takes part in the forward pass: a participant of a lower rank
    trains beside the part of the model that it leaves as it is. None lets all of them through.
    """
    handles = []
    for name, tensor in _layers(model).items() if rank is not None else ():
        kept = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
        kept[rank_part(name, rank)] = True
        handles.append(tensor.register_hook(partial(torch.mul, kept)))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rank_part(name: str, rank: int | None) -> tuple[slice, ...]:
    """Return the part of a layer that the first `rank` ranks are: rows of A, columns of B."""
    return (slice(rank), slice(None)) if ".lora_A." in name else (slice(None), slice(rank))


def all_layers(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return A and B of every adapted module by peft's state-dict key, frozen ones too, sorted."""
    found = {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(found.items()))


def _layers(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: tensor for name, tensor in all_layers(model).items() if tensor.requires_grad}


def check_arrays(
    arrays: Mapping[str, NDArray[np.floating]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise Misconfigured unless `arrays` has exactly the names and shapes given, all finite."""
    for name in [*shapes, *arrays]:
        if name not in arrays:
            raise Misconfigured(f"the adapter lacks layer {name}")
        if name not in shapes:
            raise Misconfigured(f"the adapter has a layer {name} that this model has not")
        if arrays[name].shape != shapes[name]:
            found, expected = arrays[name].shape, shapes[name]
            raise Misconfigured(f"{name} has shape {found}, this model asks for {expected}")
        if not np.isfinite(arrays[name]).all():
            raise Misconfigured(f"{name} has a value that is not a finite number")
