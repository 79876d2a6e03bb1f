"""`commonweight demo`: a whole federation on this machine."""

import shutil
import sys
from pathlib import Path
from typing import Any, Final

import click

from commonweight.cli.options import PATH, as_json, plain_failures, print_json
from commonweight.demo.display import DemoView, print_next, print_result
from commonweight.demo.run import Options, run_demo
from sponsor.config import Config

DEFAULT_CONFIG: Final = Path(__file__).parents[2] / "configs" / "demo.toml"


@click.command()
@click.option(
    "--config",
    type=PATH,
    default=DEFAULT_CONFIG,
    show_default="configs/demo.toml",
    help="What to train and on which terms.",
)
@click.option("--data", help="Share this file or hub:OWNER/NAME out, instead of data.source.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same models.")
@click.option("--keep", is_flag=True, help="Leave the devnet running afterwards.")
@click.option("--chain-port", default=0, help="Port of the chain. Default: a free one.")
@click.option("--ipfs-port", default=0, help="Port of the dev IPFS daemon. Default: a free one.")
@click.option("--rpc", "rpc_url", help="Use this chain (chain id 31337) instead.")
@click.option("--ipfs", "ipfs_url", help="Use this IPFS daemon's RPC instead, e.g. Kubo's.")
@as_json
@plain_failures
def demo(config: Path, data: str | None, json_output: bool, **options: Any) -> None:
    """Play a whole federation on this machine: train, average, pay and audit.

    If it is killed, the same command resumes from where the chain stands.

    \b
    Example: commonweight demo --config configs/tiny.toml --keep
    """
    loaded = Config.load(config, data)
    # The view draws on stderr, so that stdout holds the result alone.
    with DemoView(loaded, sys.stderr) as view:
        result = run_demo(loaded, Options(**options), view.show)
    if json_output:
        print_json(result)
    else:
        print_result(result)
        if not (options["rpc_url"] or options["ipfs_url"]):
            print_next(_called())
    if result["audit"]["failed"]:
        sys.exit(1)


def _called() -> str:
    """Return how this program was called, for commands that can be copied."""
    program = Path(sys.argv[0])
    if shutil.which(program.name) == str(program):
        return program.name
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)
