"""A world whose updates are masked, and the same world with clear ones beside it."""

from pathlib import Path
from typing import Any

from contracts.enums import Privacy
from tests.world import World, small_spec

FOUR = ("ann", "bob", "cem", "dan")
FIVE = (*FOUR, "eve")
WINDOWS: dict[str, int] = {"seal_seconds": 600, "unmask_seconds": 600, "assist_seconds": 600}


class MaskedWorld(World):
    """As `World`, with masked updates of everybody in `names`."""

    def __init__(self, folder: Path, *, names: tuple[str, ...] = FOUR, **changes: Any) -> None:
        terms = {"privacy": Privacy.MASKED, "min_set": 3, "min_participants": 3, **WINDOWS, **changes}
        spec = changes.pop("spec", None) or small_spec(privacy="masked")
        terms.pop("spec", None)
        super().__init__(folder, names=names, spec=spec, **terms)
