"""The explorer over a test's world, asked as a browser asks it; and pages as they are parsed."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.testclient import TestClient

from chain.factory import FactoryLocation
from chain.federation import Federation
from ethereum.rpc import connect
from explorer.audits import Audits
from explorer.federations import Federations
from explorer.following import LocalNotes
from explorer.server import Explorer, Export, listen, settings
from protocol.types import Address
from tests.world import World

HOSTILE_NAME = "<script>alert(1)</script>\ud800"
HOSTILE_MODEL = '"><img src=x onerror=alert(1)>\x1b[31m\u202e'
_WAIT_S = 60.0
_ALONE = {"meta", "link", "br", "rect", "path", "line", "circle"}


class Page(HTMLParser):
    """A page: its tags, its attributes and its text. Every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _ALONE:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _ALONE:
            assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> set[str]:
        return {str(each["href"]) for each in self.all("a")}


class Shown:
    """The explorer of a world's federation."""

    def __init__(
        self,
        world: World,
        *,
        names: Mapping[Address, str] | None = None,
        losses: Mapping[int, float] | None = None,
        audits: bool = True,
        export: Export | None = None,
        folder: Path | None = None,
    ) -> None:
        folder = folder or world.folder / f"explorer-{time.monotonic_ns()}"
        # A connection of its own, so that a test can bend it.
        w3 = connect(world.rpc_url)
        client = Federation(w3, world.address, deployment_block=world.deployment_block)
        self.world, self.here = world, f"/federations/{world.address}"
        self.audits = Audits(folder / "audits", enabled=audits)
        factory = FactoryLocation(client.founding().factory, 0)
        self.federations = Federations(
            client.w3, lambda: world.store, self.audits, factory=factory, events_folder=folder
        )
        notes = LocalNotes(names or {}, lambda: losses or {})
        self.following = self.federations.follow(client, world.store, notes)
        self.audits.want(self.following)
        self.explorer = Explorer(self.federations, self.audits, home=world.address, export=export)
        self.http = TestClient(
            self.explorer.app(), "http://127.0.0.1:8080", raise_server_exceptions=False
        )

    def __enter__(self) -> Self:
        self.audits.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.federations.stop()
        self.audits.stop()

    def page(self, path: str = "", status: int = 200) -> Page:
        """Return a page below the federation's, or at an absolute path."""
        answer = self.http.get(path if path.startswith("/f") else self.here + path)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return Page(answer.text)

    def json(self, path: str = "", status: int = 200) -> Any:
        """Return a page's twin."""
        answer = self.http.get(f"{path if path.startswith('/f') else self.here + path}.json")
        assert answer.status_code == status, answer.text
        return answer.json()

    def wait_for_audit(self, rounds: int) -> Any:
        """Return the audit's twin once it is through with so many rounds."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            found = self.json("/audit")
            if found["standing"] == "done" and found["audited_rounds"] >= rounds:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@contextmanager
def serving(shown: Shown) -> Iterator[str]:
    """Serve the pages at a free port, and yield their address."""
    sock = listen("127.0.0.1", 0)
    server = uvicorn.Server(settings(shown.explorer))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
