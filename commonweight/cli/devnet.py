"""`commonweight devnet`: a dev chain and a dev IPFS daemon on this machine."""

import sys
from pathlib import Path
from typing import Any

import click

from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    as_json,
    fail,
    plain_failures,
    print_json,
)

_COMPOSE_CONFIG = Path(__file__).parents[2] / "configs" / "compose.toml"
_DEFAULT_PORTS = {"chain": 8545, "ipfs": 5001}


@click.group()
def devnet() -> None:
    """Run a dev chain and a dev IPFS daemon on this machine."""


@devnet.command("up")
@click.option("--chain-port", default=0, help="Port of the dev chain. Default: the last, or free.")
@click.option("--ipfs-port", default=0, help="Port of the daemon. Default: the last, or free.")
@as_json
@plain_failures
def devnet_up(chain_port: int, ipfs_port: int, json_output: bool) -> None:
    """Start both, with the chain and blocks of the last time."""
    from commonweight import devnet as daemons

    net = daemons.up(_devnet_folder(), chain_port=chain_port, ipfs_port=ipfs_port)
    _print_devnet(net, json_output)


@devnet.command("down")
@plain_failures
def devnet_down() -> None:
    """Stop both; their state stays on disk."""
    from commonweight import devnet as daemons

    stopped = daemons.down(_devnet_folder())
    click.echo("stopped" if stopped else "the devnet was not running")


@devnet.command("status")
@as_json
@plain_failures
def devnet_status(json_output: bool) -> None:
    """Say whether both run, and where; exit 1 when they do not."""
    from commonweight import devnet as daemons

    net = daemons.running(_devnet_folder())
    if net is None:
        fail("the devnet is not running: start it with `commonweight devnet up`")
    _print_devnet(net, json_output)


@devnet.command("serve")
@click.argument("daemon", type=click.Choice(list(_DEFAULT_PORTS)))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=int, show_default="8545 or 5001", help="Port to listen on; 0 for a free one."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="the devnet's",
    help="Where the chain or the blocks are kept.",
)
@plain_failures
def devnet_serve(daemon: str, host: str, port: int | None, folder: Path | None) -> None:
    """Run one of the two in the foreground until SIGTERM, as a container does.

    There is no password, and the chain's keys are public: listen on loopback or in a network of
    containers, nowhere else.

    \b
    Example: commonweight devnet serve chain --folder ./chain
    """
    from commonweight.serve import serve_chain, serve_ipfs

    serve = serve_chain if daemon == "chain" else serve_ipfs
    serve(folder or _devnet_folder(), host, _DEFAULT_PORTS[daemon] if port is None else port)


@devnet.command("prepare")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=_COMPOSE_CONFIG,
    show_default="configs/compose.toml",
    help="What to train and on which terms.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), required=True, help="A folder a role goes here."
)
@click.option("--rpc", "rpc_url", default=DEFAULT_RPC, show_default=True, help="A dev chain.")
@click.option("--ipfs", "ipfs_url", default=DEFAULT_IPFS, show_default=True, help="IPFS RPC.")
@as_json
@plain_failures
def devnet_prepare(
    config: Path, folder: Path, rpc_url: str, ipfs_url: str, json_output: bool
) -> None:
    """Make the wallets and the federation of a network of containers, and join it.

    Waits until chain and IPFS answer. Run again, it changes nothing.

    \b
    Example: commonweight devnet prepare --folder ./network
    """
    import signal

    from chain.location import FederationLocation
    from commonweight.config import Config
    from commonweight.network import prepare

    # As the first process of a container it would be deaf to the signal.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    file = prepare(
        Config.load(config),
        folder.resolve(),
        rpc_url,
        ipfs_url,
        lambda line: click.echo(line, err=True),
    )
    location = FederationLocation.load(file)
    if json_output:
        print_json({"file": str(file), **location.model_dump(mode="json")})
    else:
        click.echo(f"{location.address}  ({file})")


def _devnet_folder() -> Path:
    from commonweight.home import home

    return home() / "devnet"


def _print_devnet(net: Any, json_output: bool) -> None:
    if json_output:
        print_json({"rpc": net.rpc_url, "ipfs": net.ipfs_url, "chain_id": net.chain_id})
        return
    click.echo(f"chain  {net.rpc_url}  (chain id {net.chain_id})")
    click.echo(f"ipfs   {net.ipfs_url}")
