"""Publish a federation's model on the Hugging Face hub, with the model card of an export."""

import tempfile
from pathlib import Path

from commonweight.model.adapters import FederatedAdapter
from commonweight.model.export import Precision, export


def push(
    adapter: FederatedAdapter,
    source: str,
    repository: str,
    merged: Precision | None,
    *,
    base_name: str | None,
    private: bool,
) -> str:
    """Export a model and upload it to a hub repository; return the URL of the commit.

    `base_name` is the base model's name on the hub, where `source` is not one. Raises as `export`
    and `training.hub.upload_folder`, and Misconfigured when others could not find the base model.
    """
    # Here, because the hub's client is an optional extra.
    from training.hub import upload_folder

    origin = adapter.origin
    message = f"{adapter.name} of federation {origin.federation}, root {origin.root.hex()}"
    with tempfile.TemporaryDirectory(prefix="commonweight-push-") as name:
        folder = Path(name) / "model"
        export(adapter, source, folder, merged, base_name=base_name, published=True)
        return upload_folder(folder, repository, message, private=private)
