"""Export a federation's adapter as files that other programs load."""

from pathlib import Path
from typing import Literal

from commonweight.model.adapters import FederatedAdapter
from commonweight.model.card import model_card
from protocol.errors import Misconfigured
from runtime.home import cache_folder

Precision = Literal["fp16", "fp32"]


def export(
    adapter: FederatedAdapter,
    source: str,
    target: Path,
    merged: Precision | None,
    *,
    base_name: str | None = None,
    published: bool = False,
) -> None:
    """Write a peft adapter folder or, with `merged`, a whole model with the adapter merged in.

    `source` is where this machine finds the base model, which must be the one that the spec pins,
    and `base_name` its name on the hub if that is another. Raises Misconfigured when it is not,
    when `target` exists, or when the export is to be `published` and names no base on the hub.
    """
    # Here, because torch is an optional extra and `commonweight.cli.model` imports this module.
    from training.export import save_adapter_folder, save_merged
    from training.session import find_base

    if target.exists():
        raise Misconfigured(f"{target} exists: choose another place")
    spec = adapter.spec
    base = find_base(spec, source, cache_folder())
    # A name on the hub is found on every machine, anything else in its folder here.
    hub_name = base_name or (base.name if "/" in base.name else None)
    if published and hub_name is None:
        raise Misconfigured(
            f"the base model {base.name} was not found on the hub: give --base OWNER/NAME, where"
            " others find it"
        )
    card = model_card(adapter, hub_name, merged)
    if merged is not None:
        save_merged(
            adapter.arrays(), target, base=base.folder, spec=spec, precision=merged, card=card
        )
        return
    save_adapter_folder(
        adapter.arrays(),
        target,
        base=base.folder,
        base_name=hub_name or str(base.folder.resolve()),
        adapter=spec.adapter,
        seed=spec.training.seed,
        template=spec.template,
        revision=base.revision if hub_name == base.name else None,
        identity=spec.base_model,
        card=card,
    )
