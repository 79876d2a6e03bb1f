"""The adapter as named float32 arrays: read from a model, written to it, or made from a seed.

Names are peft's state-dict keys, such as
`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, shape (rank, inputs) for A and
(outputs, rank) for B. Only trainable layers are listed: in mode `ffa` that is B alone.
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
    return [(name, tuple(tensor.shape)) for name, tensor in trained_layers(model).items()]


def read_adapter(model: torch.nn.Module) -> Arrays:
    """Return a copy of every trainable layer of the adapter, float32, in the order of its names."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, tensor in trained_layers(model).items()
    }


def write_adapter(model: torch.nn.Module, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Replace the trainable layers of the adapter by `arrays`, which must be all of them.

    Raises Misconfigured, with the model untouched, on a missing or unknown name, a wrong shape, or
    a value that is not finite.
    """
    # Not peft's set_peft_model_state_dict, which ignores names that it does not know. Everything is
    # checked before the first layer is written, so that a refusal leaves the model whole.
    layers = trained_layers(model)
    check_arrays(arrays, {name: tuple(tensor.shape) for name, tensor in layers.items()})
    with torch.no_grad():
        for name, tensor in layers.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)))


def reset_adapter(model: torch.nn.Module, seed: int) -> None:
    """Set A and B to their initial values for `seed`, frozen layers included."""
    with torch.no_grad():
        for name, tensor in all_layers(model).items():
            tensor.copy_(torch.from_numpy(initial_array(name, tuple(tensor.shape), seed)))


def initial_array(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return the initial values of a layer: zero for B, uniform within 1/sqrt(inputs) for A."""
    if ".lora_B." in name:
        return np.zeros(shape, dtype=np.float32)
    # The bound is that of peft's default (Kaiming uniform with a = sqrt(5)). The numbers come from
    # SHAKE-256, not from peft, so that a frozen A has the same bits at every participant.
    return uniform_values(f"lora/{seed}/{name}", shape, shape[1] ** -0.5)


@contextmanager
def first_ranks_only(model: torch.nn.Module, rank: int | None) -> Iterator[None]:
    """Let gradients reach only the first `rank` rows of A and columns of B; None: all of them.

    The remaining ranks still take part in the forward pass: a participant of a lower rank trains
    beside the part of the model that it leaves unchanged.
    """
    handles = []
    for name, tensor in trained_layers(model).items() if rank is not None else ():
        kept = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
        kept[rank_part(name, rank)] = True
        handles.append(tensor.register_hook(partial(torch.mul, kept)))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rank_part(name: str, rank: int | None) -> tuple[slice, ...]:
    """Return the index of the first `rank` ranks in a layer: rows of A, columns of B."""
    return (slice(rank), slice(None)) if ".lora_A." in name else (slice(None), slice(rank))


def all_layers(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return A and B of every adapted module, frozen ones included, sorted by state-dict key."""
    # In the model parameters carry the adapter's name, in peft's files they do not.
    found = {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(found.items()))


def trained_layers(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return A and B of every adapted module where they train, sorted by state-dict key."""
    return {name: tensor for name, tensor in all_layers(model).items() if tensor.requires_grad}


def check_arrays(
    arrays: Mapping[str, NDArray[np.floating]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise Misconfigured unless `arrays` has exactly the names and shapes given, all finite."""
    for name in [*shapes, *arrays]:  # the names of both: either may lack one of the other's
        if name not in arrays:
            raise Misconfigured(f"the adapter lacks layer {name}")
        if name not in shapes:
            raise Misconfigured(f"the adapter has a layer {name} that this model does not")
        if arrays[name].shape != shapes[name]:
            found, expected = arrays[name].shape, shapes[name]
            raise Misconfigured(f"{name} has shape {found}, this model asks for {expected}")
        if not np.isfinite(arrays[name]).all():
            raise Misconfigured(f"{name} has a value that is not a finite number")
