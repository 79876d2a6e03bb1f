"""An aggregator's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"
wait_for = "ready"                  # optional: do nothing until this file exists
mode = "layerwise"                  # all_at_once: everything in memory, to compare; same root
"""

from pathlib import Path
from typing import Literal

from storage.settings import Settings


class AggregatorSettings(Settings):
    """What an aggregator's machine must know."""

    federation: Path
    keystore: Path
    password_file: Path
    state: Path = Path("state")
    progress: Path | None = None
    wait_for: Path | None = None
    mode: Literal["layerwise", "all_at_once"] = "layerwise"
