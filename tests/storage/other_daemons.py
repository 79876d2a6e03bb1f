"""IPFS daemons that are not ours, for the same tests.

kubo         the program `ipfs`: the one on the PATH, or what `make daemons` built
http://…     one that runs already
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.errors import Unavailable
from runtime.processes import spawn, stop
from storage.ipfs import ContentStore

_BUILT = Path(__file__).parents[2] / "build" / "daemons" / "ipfs"
_START_S = 120.0


@contextmanager
def running_ipfs(kind: str, folder: Path) -> Iterator[str]:
    """Yield the RPC address of a daemon without peers; it is stopped at the end."""
    if kind.startswith("http://"):
        yield kind
        return
    program, environment = _program(kind), {"IPFS_PATH": str(folder)}
    command = [program, "init", "--profile", "test", "--empty-repo"]
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
    _take_any_port(folder / "config")
    log = folder / "daemon.log"
    daemon = spawn([program, "daemon"], log, environment=environment)
    try:
        yield _await(daemon, folder / "api", log)
    finally:
        stop(daemon.pid)


def _program(kind: str) -> str:
    if kind != "kubo":
        raise ValueError(f"--ipfs {kind}: dev, kubo or http://HOST:PORT was expected")
    found = shutil.which("ipfs") or shutil.which(_BUILT)
    assert found, "--ipfs kubo: there is no program ipfs on the PATH, and none was built"
    return found


def _take_any_port(config: Path) -> None:
    """No peers, and on loopback whatever port is free."""
    settings = json.loads(config.read_text())
    anything = dict.fromkeys(("API", "Gateway"), "/ip4/127.0.0.1/tcp/0")
    settings["Addresses"] |= {"Swarm": [], **anything}
    settings["Bootstrap"] = []
    settings["Routing"] = {"Type": "none"}
    config.write_text(json.dumps(settings))


def _await(daemon: "subprocess.Popen[bytes]", api: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while daemon.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        if not api.exists() or not (address := api.read_text().strip()):
            continue
        store = ContentStore(address)
        try:
            store.id()
        except Unavailable:
            continue
        return store.api_url
    raise RuntimeError(f"the IPFS daemon does not answer: {log.read_text()[-1000:]}")
