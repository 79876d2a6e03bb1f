"""A chain of geth's own, with blocks of a second.

with running_geth("--txpool.nolocals") as url:      # the URL of its RPC
with Geth(folder) as geth:                          # the same, to stop, hold still and reorganise
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from web3 import Web3

from devnet.geth import geth
from ethereum.rpc import connect
from runtime.healthcheck import is_chain
from runtime.processes import free_port
from tests.real.daemon import Daemon


class Geth(Daemon):
    """A node in `folder`. `stop` keeps its chain; `kill` would empty it, as --dev has it."""

    def __init__(self, folder: Path, *options: str, period: int = 1) -> None:
        super().__init__(geth(folder, free_port(), *options, period=period), is_chain)

    @cached_property
    def _w3(self) -> Web3:
        return connect(self.url)

    def height(self) -> int:
        """Return the number of the latest block."""
        return int(self._w3.eth.block_number)

    def rewind(self, number: int) -> None:
        """Make block `number` the latest. The transactions above it are in no block any more."""
        self.ask("debug_setHead", hex(number))

    def ask(self, method: str, *params: Any) -> Any:
        """Return the result of any of the node's methods; AssertionError where it refuses."""
        answer = self._w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]


@contextmanager
def running_geth(*options: str, folder: Path | None = None, period: int = 1) -> Iterator[str]:
    """Yield the URL of a chain of its own, in a temporary folder unless one is given."""
    with (
        tempfile.TemporaryDirectory(prefix="geth-") as temporary,
        Geth(folder or Path(temporary), *options, period=period) as node,
    ):
        yield node.url
