"""`python -m chain.devchain`: run a dev chain until it is told to stop."""

import signal
import sys
import threading
from pathlib import Path

import click

from chain.dev_accounts import DEV_ACCOUNTS
from chain.devchain.node import DEFAULT_CHAIN_ID
from chain.devchain.server import DevChain
from protocol.errors import Misconfigured


@click.command()
@click.option("--journal", type=click.Path(path_type=Path), help="File to keep the chain in.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8545, show_default=True, help="Port to listen on; 0: a free one.")
@click.option("--chain-id", default=DEFAULT_CHAIN_ID, show_default=True, help="Chain id.")
def main(journal: Path | None, host: str, port: int, chain_id: int) -> None:
    """Run a dev Ethereum chain; its URL is the one line on stdout, once it answers."""
    stopped = threading.Event()
    try:
        with DevChain(journal, host, port, chain_id) as chain:
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, lambda *_: stopped.set())
            print(chain.url, flush=True)
            print(f"chain id {chain_id}, {DEV_ACCOUNTS} accounts, public keys", file=sys.stderr)
            stopped.wait()
    except Misconfigured as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
