"""Programs in Go that no Python package brings along: geth and Kubo."""

import shutil
from pathlib import Path
from typing import Final

from protocol.errors import Misconfigured

# `make daemons` builds them there, in a checkout.
_BUILT: Final = Path(__file__).parents[1] / "build" / "daemons"


def find_built(name: str) -> str:
    """Return the path of `name`: what `make daemons` built, else the one on the PATH.

    Raises Misconfigured when there is neither.
    """
    found = shutil.which(name, path=str(_BUILT)) or shutil.which(name)
    if found is None:
        raise Misconfigured(
            f"there is no program {name} on the PATH: install it, or run `make daemons`"
        )
    return found
