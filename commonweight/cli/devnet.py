"""`commonweight devnet`: a dev chain and a dev IPFS daemon on this machine."""

from pathlib import Path
from typing import Any

import click

from commonweight.cli.options import as_json, fail, plain_failures, print_json


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


def _devnet_folder() -> Path:
    from commonweight.home import home

    return home() / "devnet"


def _print_devnet(net: Any, json_output: bool) -> None:
    if json_output:
        print_json({"rpc": net.rpc_url, "ipfs": net.ipfs_url, "chain_id": net.chain_id})
        return
    click.echo(f"chain  {net.rpc_url}  (chain id {net.chain_id})")
    click.echo(f"ipfs   {net.ipfs_url}")
