"""A spec for participants without torch."""

from typing import Final

from protocol.spec import Spec
from tests import world

GRID: Final = 12


def small_spec() -> Spec:
    """Return a spec with a grid that rounds visibly, under which any update is long enough."""
    grid = {"grid_bits": GRID, "grid_every": 0}
    return world.small_spec(encoding=grid, screening={"min_norm": 1})
