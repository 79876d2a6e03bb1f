"""`commonweight devnet`: a chain and an IPFS daemon on this machine, to try things on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    as_json,
    fail,
    federation_option,
    plain_failures,
    print_json,
)

if TYPE_CHECKING:
    from devnet.daemons import Devnet

_COMPOSE_CONFIG = Path(__file__).parents[2] / "configs" / "compose.toml"
_DEFAULT_PORTS = {"chain": 8545, "ipfs": 5001}


@click.group()
def devnet() -> None:
    """Run a chain and an IPFS daemon on this machine, to try things on."""


@devnet.command("up")
@click.option(
    "--chain",
    default="",
    metavar="anvil|eth-tester|geth",
    help="Kind of chain. Default: the last, or anvil where it is installed.",
)
@click.option(
    "--ipfs", default="", metavar="dev|kubo", help="Kind of IPFS daemon. Default: the last, or dev."
)
@click.option(
    "--block-time",
    type=click.FloatRange(min=0),
    help="Seconds between blocks; 0 mines with each transaction. Default: the last, or 0.",
)
@click.option("--chain-port", default=0, help="Port of the chain. Default: the last, or free.")
@click.option("--ipfs-port", default=0, help="Port of the daemon. Default: the last, or free.")
@as_json
@plain_failures
def devnet_up(json_output: bool, **options: Any) -> None:
    """Start both, with the chain and blocks of the last time, and print the funded accounts.

    anvil and geth keep their chain; eth-tester's is in memory and gone once it stops. geth and
    Kubo (`ipfs`) are programs of your own, on the PATH; `make daemons` builds both.

    \b
    Example: commonweight devnet up --block-time 1
    """
    from devnet import daemons

    _check_kinds(options["chain"], options["ipfs"])
    net = daemons.up(_devnet_folder(), daemons.Wanted(**options))
    _print_devnet(net, json_output, with_accounts=True)


@devnet.command("down")
@plain_failures
def devnet_down() -> None:
    """Stop both; their state stays on disk."""
    from devnet import daemons

    stopped = daemons.down(_devnet_folder())
    click.echo("stopped" if stopped else "the devnet was not running")


@devnet.command("status")
@as_json
@plain_failures
def devnet_status(json_output: bool) -> None:
    """Say whether both run, and where; exit 1 when they do not."""
    _print_devnet(_running_devnet(), json_output)


@devnet.command("fund")
@click.argument("address")
@click.option("--ether", default="1", show_default=True, help="Ether to send, from dev account 0.")
@click.option("--tokens", default="0", show_default=True, help="The federation's tokens to send.")
@federation_option
@as_json
@plain_failures
def devnet_fund(
    address: str, ether: str, tokens: str, federation: Path | None, json_output: bool
) -> None:
    """Give a wallet ether, and tokens of a federation on the devnet.

    \b
    Example: commonweight devnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --tokens 500
    """
    from devnet.funding import fund, read_address, read_amount

    to, wei, units = read_address(address), read_amount(ether), read_amount(tokens)
    held = fund(_running_devnet().rpc_url, to, wei, units, federation)
    if json_output:
        print_json({"address": to, **{name: str(amount) for name, amount in held.items()}})
        return
    click.echo(f"{to} holds {' and '.join(f'{n:,f} {name}' for name, n in held.items())}")


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
    help="Where the chain's state or the blocks are kept.",
)
@click.option(
    "--block-time",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds between blocks of the chain; 0 mines with each transaction.",
)
@plain_failures
def devnet_serve(
    daemon: str, host: str, port: int | None, folder: Path | None, block_time: float
) -> None:
    """Run one of the two in the foreground until SIGTERM, as a container does.

    There is no password, and the chain's keys are public: listen on loopback or in a network of
    containers, nowhere else.

    \b
    Example: commonweight devnet serve chain --folder ./chain
    """
    from devnet.serve import serve_chain, serve_ipfs

    folder = folder or _devnet_folder()
    port = _DEFAULT_PORTS[daemon] if port is None else port
    if daemon == "chain":
        serve_chain(folder, host, port, block_time)
    else:
        serve_ipfs(folder, host, port)


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
@click.option("--rpc", "rpc_url", default=DEFAULT_RPC, show_default=True, help="A devnet's chain.")
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
    from devnet.network import prepare
    from sponsor.config import Config

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
    from runtime.home import home

    return home() / "devnet"


def _running_devnet() -> "Devnet":
    from devnet import daemons

    net = daemons.running(_devnet_folder())
    if net is None:
        fail("the devnet is not running: start it with `commonweight devnet up`")
    return net


def _check_kinds(chain: str, ipfs: str) -> None:
    from devnet.daemons import CHAINS, IPFS

    for option, given, known in (("--chain", chain, CHAINS), ("--ipfs", ipfs, IPFS)):
        if given and given not in known:
            fail(f"{option} {given}: expected {' or '.join(known)}")


def _print_devnet(net: "Devnet", json_output: bool, *, with_accounts: bool = False) -> None:
    from devnet.accounts import DEV_ACCOUNTS, dev_account

    held = [dev_account(index) for index in range(DEV_ACCOUNTS)] if with_accounts else []
    accounts = [(account.address, "0x" + bytes(account.key).hex()) for account in held]
    if json_output:
        kinds = {"chain": net.chain.kind, "ipfs_daemon": net.ipfs.kind}
        places = {"rpc": net.rpc_url, "ipfs": net.ipfs_url, "chain_id": net.chain_id}
        keys = [{"address": address, "public_test_key": key} for address, key in accounts]
        print_json({**places, **kinds, **({"accounts": keys} if keys else {})})
        return
    click.echo(f"chain  {net.rpc_url}  ({net.chain.kind}, chain id {net.chain_id})")
    click.echo(f"ipfs   {net.ipfs_url}  ({net.ipfs.kind})")
    if accounts:
        click.echo("\nAccounts of 10,000 ether. PUBLIC TEST KEYS, which everybody knows:")
    for address, key in accounts:
        click.echo(f"{address}  {key}")
