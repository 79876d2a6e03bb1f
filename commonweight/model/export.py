"""Export a federation's adapter as files that other programs load."""

from pathlib import Path
from typing import Literal

from commonweight.model.adapters import FederatedAdapter
from protocol.errors import Misconfigured
from runtime.home import cache_folder

Precision = Literal["fp16", "fp32"]


def export(adapter: FederatedAdapter, source: str, target: Path, merged: Precision | None) -> None:
    """Write a peft adapter folder or, with `merged`, a whole model with the adapter merged in.

    `source` is where this machine finds the base model, which must be the one that the spec pins.
    Raises Misconfigured when it is not, or when `target` exists.
    """
    # Here, because torch is an optional extra and `commonweight.cli.model` imports this module.
    from training.export import save_adapter_folder, save_merged
    from training.session import find_base

    if target.exists():
        raise Misconfigured(f"{target} exists: choose another place")
    spec = adapter.spec
    base = find_base(spec, source, cache_folder())
    if merged is not None:
        save_merged(adapter.arrays(), target, base=base.folder, spec=spec, precision=merged)
        return
    save_adapter_folder(
        adapter.arrays(),
        target,
        base=base.folder,
        base_name=spec.base_model.name,
        adapter=spec.adapter,
        seed=spec.training.seed,
        template=spec.template,
    )
