"""An aggregator's own settings: one TOML file, with paths relative to it.

federation = "federation.json"
keystore = "wallet.json"

is enough; docs/settings.md has every key.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from protocol.types import Unit
from runtime.settings import RoleSettings


class AggregatorSettings(RoleSettings):
    """What an aggregator's machine must know."""

    wait_for: Path | None = None
    """Do nothing until this file exists."""
    min_participants: Annotated[int, Field(ge=1), Unit("participants")] = 1
    """Open no round with fewer; the contract's own minimum holds as well."""
    update_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False), Unit("seconds")] | None = (
        None
    )
    """For each update to arrive, all at the same time; what comes later is rejected (check 1).
    Unset: 30 s and the time that its bytes take at 128 KiB/s."""
    keep: Literal["all", "disputable"] = "all"
    """`disputable` removes the updates of rounds that nothing is compared with any more, here and
    from a store of its own: audits of these rounds then say "could not check". Models stay."""
    model: str | None = None
    """Where this machine finds the base model. Needed where updates are scored by the held-out
    loss: it is then in memory as long as the role runs."""
    cache: Path = Path("cache")
    """A folder for base models, converted once."""
    mode: Literal["layerwise", "all_at_once"] = "layerwise"
    """`all_at_once` holds every update in memory, for comparison; the root is the same."""
