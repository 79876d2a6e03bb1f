"""The federation that a command is about; the devnet that it is on is started again if need be.

A demo's devnet ends with the demo, and its chain and blocks stay on disk: whoever then asks for the
federation gets them back.
"""

import sys
from pathlib import Path

from chain.location import FederationLocation
from devnet import daemons
from runtime.home import federation_file, home
from runtime.settings import write_location


def locate(given: Path | None) -> FederationLocation:
    """Return where a federation is, by its file or folder, or the one meant without either.

    Starts the devnet that it is on, and notes the new ports in the file where the old ones are
    taken. Raises Misconfigured when there is no federation, and Unavailable when the devnet does
    not start.
    """
    path = federation_file(given)
    location = FederationLocation.load(path)
    folder = home() / "devnet"
    net = daemons.last_started(folder)
    if net is None or net.rpc_url != location.rpc_url:
        return location
    # eth-tester's chain was in memory: nobody is helped by an empty one.
    if net.chain.kind == "eth-tester" or daemons.running(folder) is not None:
        return location
    print("starting the devnet again; `commonweight devnet down` ends it", file=sys.stderr)
    again = daemons.up(folder)
    # Its IPFS daemon need not be the federation's: a demo can be played on another.
    ipfs_url = again.ipfs_url if location.ipfs_url == net.ipfs_url else location.ipfs_url
    found = location.model_copy(update={"rpc_url": again.rpc_url, "ipfs_url": ipfs_url})
    if found != location:
        write_location(path, found)
    return found
