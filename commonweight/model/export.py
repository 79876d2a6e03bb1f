"""Export a federation's adapter as files that other programs load."""

from pathlib import Path
from typing import Literal

from commonweight.model.adapters import FederatedAdapter
from commonweight.model.card import model_card
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
    # A name on the hub is found on every machine, anything else in its folder here.
    is_hub = "/" in base.name
    base_name = base.name if is_hub else str(base.folder.resolve())
    card = model_card(adapter, base_name if is_hub else None, merged)
    if merged is not None:
        save_merged(
            adapter.arrays(), target, base=base.folder, spec=spec, precision=merged, card=card
        )
        return
    save_adapter_folder(
        adapter.arrays(),
        target,
        base=base.folder,
        base_name=base_name,
        adapter=spec.adapter,
        seed=spec.training.seed,
        template=spec.template,
        revision=base.revision if is_hub else None,
        identity=spec.base_model,
        card=card,
    )
