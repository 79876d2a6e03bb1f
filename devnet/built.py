"""Programs in Go that no Python package ships: geth and Kubo."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from protocol.errors import Misconfigured

# Where `make daemons` builds them, in a checkout.
_BUILT: Final = Path(__file__).parents[1] / "build" / "daemons"
_RUN_SECONDS: Final = 60.0


def find_built(name: str) -> str:
    """Return the path of `name`, as built by `make daemons` or else on the PATH.

    Raises Misconfigured when there is neither.
    """
    # What was built comes first: its version is the one that this project pins.
    found = shutil.which(name, path=str(_BUILT)) or shutil.which(name)
    if found is None:
        raise Misconfigured(
            f"there is no program {name} on the PATH: install it, or run `make daemons`"
        )
    return found


def run_built(program: str, *arguments: str) -> str:
    """Run a program to its end and return its output; raise Misconfigured when it fails."""
    command = (program, *arguments)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_RUN_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        # Both print a log before the line that says why.
        said = getattr(error, "stderr", None) or str(error)
        raise Misconfigured(f"{program}: {said.strip().splitlines()[-1]}") from error
    return done.stdout
