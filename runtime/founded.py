"""Which federation a state folder belongs to: an address alone does not say.

A chain that was reset gives its first contracts the addresses that they had before. What lies in
the folder then is of rounds that never happened there.
"""

from datetime import UTC, datetime
from pathlib import Path

from chain.federation import Federation
from protocol.errors import Misconfigured
from storage.files import read_json, write_json

_FILE = "founded.json"


def check_founded(state: Path, federation: Federation) -> None:
    """Note in `state` when the federation was founded; Misconfigured if it says another time."""
    path = state / federation.address / _FILE
    found = {"chain_id": federation.chain_id, "created_at": federation.created_at()}
    if not path.exists():
        write_json(path, found)
        return
    noted = read_json(path)
    if noted != found:
        raise Misconfigured(
            f"the state folder {path.parent} is of a federation founded {_when(noted)}, the one at"
            f" this address was founded {_when(found)}: if the chain was reset, remove that folder"
            " or name another one as `state`"
        )


def _when(founded: object) -> str:
    at = founded.get("created_at") if isinstance(founded, dict) else None
    if type(at) is not int or not 0 <= at < 2**36:
        return "at an unknown time"
    return f"on {datetime.fromtimestamp(at, UTC):%Y-%m-%d at %H:%M:%S} UTC"
