"""Where this program keeps its state: one folder, so that two can run side by side.

COMMONWEIGHT_HOME/
  devnet/           the chain's state and the IPFS daemon's blocks
  runs/0001/        a federation started from here: wallets, settings, progress, results
  cache/            base models, converted once
  cache/audits/     what audits need not do twice
"""

import os
from pathlib import Path

import platformdirs

from protocol.errors import Misconfigured


def home() -> Path:
    """Return the state folder: COMMONWEIGHT_HOME, or a folder of the user's data directory."""
    # In the data directory, not the cache: runs hold wallets and salts, which nothing can replace.
    configured = os.environ.get("COMMONWEIGHT_HOME")
    folder = Path(configured) if configured else platformdirs.user_data_path("commonweight")
    return folder.expanduser().resolve()


def cache_folder() -> Path:
    """Return where converted base models are kept."""
    return home() / "cache"


def audit_cache_folder() -> Path:
    """Return where audits keep what they need not do twice."""
    return cache_folder() / "audits"


def newest_run() -> Path | None:
    """Return the folder of the newest run, or None when nothing was ever run."""
    runs = sorted(path for path in (home() / "runs").glob("[0-9]*") if path.is_dir())
    return runs[-1] if runs else None


def next_run() -> Path:
    """Return a new, empty run folder."""
    newest = newest_run()
    number = int(newest.name) + 1 if newest else 1
    folder = home() / "runs" / f"{number:04d}"
    folder.mkdir(parents=True)  # fails when another process has just made it
    return folder


def federation_file(given: Path | None) -> Path:
    """Return the file of the federation that a command is about: `given`, which may be its folder.

    Without it, federation.json in the current folder, else the newest run's. Raises Misconfigured
    when there is none.
    """
    if given is not None:
        return given / "federation.json" if given.is_dir() else given
    here = Path("federation.json")
    if here.exists():
        return here
    newest = newest_run()
    if newest is None or not (newest / "federation.json").exists():
        raise Misconfigured(
            "no federation: give --federation FILE, go to the folder with its federation.json, or"
            " run `commonweight demo` first"
        )
    return newest / "federation.json"
