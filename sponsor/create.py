"""A sponsor's part: create a federation and fill its escrow."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chain.federation import connect_federation
from chain.location import FederationLocation
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import format_tokens, parse_address
from runtime.home import cache_folder
from runtime.settings import write_location
from sponsor import found
from sponsor.config import Config
from storage.ipfs import ContentStore


def create_federation(
    output: Path,
    *,
    config: Path,
    wallet: Wallet,
    aggregators: Sequence[str],
    token: str | None,
    rpc_url: str,
    ipfs_url: str,
    seed: int,
) -> dict[str, Any]:
    """Create the federation of a configuration, write its place to `output` and describe it.

    Where `output` names it already only the escrow is filled up. Misconfigured when it names one
    with another spec.
    """
    loaded = Config.load(config)
    listed = [parse_address(each) for each in aggregators]
    paid_in = None if token is None else parse_address(token)
    sponsor = Sender(connect(rpc_url), wallet)
    store = ContentStore(ipfs_url)
    store.id()
    with tempfile.TemporaryDirectory(prefix="commonweight-model-") as folder:
        spec, model = found.build_spec(loaded, seed, cache_folder(), Path(folder))
        if output.exists():
            location = FederationLocation.load(output)
            if connect_federation(location).terms().spec_digest != spec.digest():
                raise Misconfigured(f"{output} is of a federation with another spec: move it away")
        else:
            location = found.deploy_unfunded(
                loaded, spec, model, sponsor, listed, store, rpc_url, paid_in
            )
            write_location(output, location)
    found.fund_rounds(sponsor, location)
    federation = connect_federation(location)
    return {
        "federation": location.address,
        "chain_id": location.chain_id,
        "token": federation.terms().token,
        "escrow": format_tokens(federation.escrow()),
        "rounds": federation.terms().rounds,
        "spec": spec.digest().hex(),
        "written": str(output),
    }
