"""The web server: pages, their JSON twins, live changes, and what keeps strangers out.

    run(Explorer(federations, audits, home=address), listen("127.0.0.1", 8080))

It only reads, takes GET alone, and binds to loopback unless it is told otherwise. A page of another
site can make this machine's browser ask it for anything: so the Host header must be an IP address
or localhost (DNS rebinding cannot forge these), downloads refuse other sites, and answers say that
no other site may read them.
"""

import json
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import anyio
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chain.records import Model
from explorer.audit_facts import audit_facts
from explorer.audits import Audits
from explorer.facts import Subject
from explorer.federation_facts import federation_facts
from explorer.federations import Federations
from explorer.following import Following
from explorer.model_facts import model_after, model_facts
from explorer.pages import render
from explorer.participant_facts import participant_facts
from explorer.round_facts import round_facts
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.types import Address, RoundId, read_address

Export = Callable[[Model, Path], None]
"""Writes a model that the chain names as a peft folder, verifying its bytes; raises as usual."""

_STATIC: Final = Path(__file__).parent / "static"
_LOOK_S: Final = 0.5
_HEARTBEAT_S: Final = 15.0
_MOST_STREAMS: Final = 64
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d{1,5})?", re.IGNORECASE)
_HEADERS: Final = {
    # Nothing inline, nothing from elsewhere: a page is text, one style sheet and two scripts.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Page:
    """A page: its path, its template, and the facts that it and its JSON twin are made of."""

    path: str
    template: str
    facts: Callable[[Request], Mapping[str, Any]]


class Explorer:
    """The pages over `federations`, beginning with `home` where one is given.

    `export` writes models for download; without it the pages say how to do so. `name` is a host
    name, beside localhost and IP addresses, by which this server may be called.
    """

    def __init__(
        self,
        federations: Federations,
        audits: Audits,
        *,
        home: Address | None = None,
        export: Export | None = None,
        name: str | None = None,
    ) -> None:
        self.federations, self.audits, self.home = federations, audits, home
        self.export, self.name = export, name
        self._streams = 0
        self._exporting = threading.Lock()

    def app(self) -> ASGIApp:
        """Return the application."""
        one = "/federations/{address}"
        pages = (
            Page("/federations", "federations.html", self._list),
            Page(one, "federation.html", self._federation),
            Page(one + "/audit", "audit.html", self._audit),
            Page(one + "/rounds/{number:int}", "round.html", self._round),
            Page(one + "/participants/{who}", "participant.html", self._participant),
            Page(one + "/models/{number:int}", "model.html", self._model),
        )
        routes: list[Route | Mount] = [Route("/", self._front), Route("/health", _health)]
        for page in pages:
            # The twin first: an address in a path matches "….json" as well.
            routes.append(Route(page.path + ".json", _as_json(page)))
            routes.append(Route(page.path, _as_page(page)))
        routes += [
            Route(one + "/models/{number:int}/adapter.zip", self._download),
            Route(one + "/events", self._events),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        handlers: Any = {
            HTTPException: _on_error,
            CommonweightError: _on_failure,
            Exception: _on_fault,
        }
        # Around everything: an answer to a fault has the headers too.
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self.name)

    # ------------------------------------------------------------------- facts

    def _list(self, request: Request) -> dict[str, Any]:
        factory = self.federations.factory
        return {
            "factory": None if factory is None else factory.address,
            "home": self.home,
            "federations": self.federations.listed(),
            "time": time.time(),
        }

    def _federation(self, request: Request) -> dict[str, Any]:
        return federation_facts(self._subject(request), _before(request))

    def _round(self, request: Request) -> dict[str, Any]:
        subject = self._subject(request)
        number = RoundId(request.path_params["number"])
        if number not in subject.view.history.rounds:
            raise HTTPException(404, f"round {number} was not opened")
        return round_facts(subject, number)

    def _participant(self, request: Request) -> dict[str, Any]:
        subject, who = self._subject(request), read_address(request.path_params["who"])
        return participant_facts(subject, who, _before(request))

    def _audit(self, request: Request) -> dict[str, Any]:
        subject = self._subject(request)
        self.audits.want(subject.following)
        return audit_facts(subject, is_enabled=self.audits.enabled, before=_before(request))

    def _model(self, request: Request) -> dict[str, Any]:
        subject, number = self._subject(request), request.path_params["number"]
        if model_after(subject, number) is None:
            raise HTTPException(404, f"round {number} has no settled model")
        return model_facts(subject, number, can_export=self.export is not None)

    def _subject(self, request: Request) -> Subject:
        following = self._open(request)
        # In this order: a change after the version was read is told to the page once more.
        request.state.version = following.version
        view = following.view()
        return Subject(following, view, self.audits.of(view.address), following.spec())

    def _open(self, request: Request) -> Following:
        return self.federations.open(read_address(request.path_params["address"]))

    # ------------------------------------------------------------------- others

    def _front(self, request: Request) -> Response:
        target = "/federations" if self.home is None else f"/federations/{self.home}"
        return RedirectResponse(target, 307)

    def _download(self, request: Request) -> Response:
        """Return a model as a zip of the folder that plain peft loads."""
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise HTTPException(403, "downloads are for this site's own pages")
        if self.export is None:
            raise HTTPException(404, "this explorer was started without a base model to export by")
        subject, number = self._subject(request), request.path_params["number"]
        model = model_after(subject, number)
        if model is None:
            raise HTTPException(404, f"round {number} has no settled model")
        folder = tempfile.TemporaryDirectory(prefix="commonweight-export-")
        try:
            name = f"adapter-round-{number}"
            # One at a time: each reads the base model's configuration and holds the adapter.
            with self._exporting:
                self.export(model, Path(folder.name) / name)
            archive = Path(shutil.make_archive(f"{folder.name}/{name}", "zip", folder.name, name))
        except BaseException:
            folder.cleanup()
            raise
        return FileResponse(
            archive, filename=archive.name, background=BackgroundTask(folder.cleanup)
        )

    async def _events(self, request: Request) -> Response:
        """Return a stream of changes: `changed` when a page is to be read again, `block` else."""
        following = await run_sync(self._open, request)
        if self._streams >= _MOST_STREAMS:
            raise HTTPException(503, "too many pages are open")
        with suppress(ValueError):
            return StreamingResponse(
                self._stream(following, int(request.query_params.get("version", "-1"))),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            )
        raise HTTPException(400, "version: a number was expected")

    async def _stream(self, following: Following, version: int) -> AsyncIterator[str]:
        self._streams += 1
        block, told_at = -1, time.monotonic()
        try:
            yield "retry: 2000\n\n"
            while True:
                following.touch()
                newest, now = following.version, time.monotonic()
                if newest != version:
                    version, told_at = newest, now
                    yield f"event: changed\ndata: {json.dumps({'version': version})}\n\n"
                elif (head := following.block) not in (None, block):
                    block, told_at = head, now
                    yield f"event: block\ndata: {json.dumps({'block': block})}\n\n"
                elif now - told_at >= _HEARTBEAT_S:
                    told_at = now
                    yield ": still here\n\n"
                await anyio.sleep(_LOOK_S)
        finally:
            self._streams -= 1


class Guard:
    """Refuses what is no GET or calls this server by a stranger's name; adds the headers."""

    def __init__(self, app: ASGIApp, name: str | None = None) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that it is refused."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(Request(scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = (
                    {}
                    if str(scope["path"]).startswith("/static/")
                    else {"Cache-Control": "no-store"}
                )
                own = {**_HEADERS, **kept}
                known = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in own.items()
                        if name.lower().encode() not in known
                    ),
                ]
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return _text(405, "this page only shows: GET alone is answered")
        if not is_own_name(request.headers.get("host", ""), self._name):
            return _text(421, "call this server by its IP address, or as localhost")
        # A page of another site may link here, and not read or start anything.
        is_foreign = request.headers.get("sec-fetch-site") == "cross-site"
        if is_foreign and request.headers.get("sec-fetch-mode") != "navigate":
            return _text(403, "other sites may link here, and no more")
        return None


def is_own_name(host: str, name: str | None = None) -> bool:
    """Whether a Host header is localhost, an IP address or `name`, with or without a port.

    A site that lets its name point to this machine (DNS rebinding) is called by that name.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    called = found[1].strip("[]").lower()
    if called == "localhost" or (name is not None and called == name.lower()):
        return True
    try:
        ip_address(called)
    except ValueError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; Misconfigured when the port is taken or the host no own one.

    Port 0 takes a free one.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise Misconfigured(f"--host {host}: {_reason(error)}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
    except (OSError, OverflowError) as error:
        sock.close()
        raise Misconfigured(
            f"cannot listen at {host}:{port}: {_reason(error)}; give another --port"
        ) from error
    return sock


def run(explorer: Explorer, sock: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, which are no failures."""
    # uvicorn raises a signal again once it has closed what was open.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings(explorer)).run(sockets=[sock])


def settings(explorer: Explorer) -> uvicorn.Config:
    """Return how the server runs."""
    return uvicorn.Config(
        explorer.app(),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        # Pages that are open hold a stream that never ends by itself.
        timeout_graceful_shutdown=1,
        limit_concurrency=256,
    )


def _as_page(page: Page) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        facts = page.facts(request)
        version = getattr(request.state, "version", None)
        path = request.url.path
        body = render(page.template, {**facts, "path": path, "version": version})
        return Response(body, media_type="text/html")

    return answer


def _as_json(page: Page) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return _json(page.facts(request))

    return answer


def _before(request: Request) -> int | None:
    """Return from which round on a table goes back; None for the newest."""
    given = request.query_params.get("before")
    if given is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", given):
        raise HTTPException(400, "before: the number of a round was expected")
    return int(given)


def _health(request: Request) -> Response:
    return _json({"ok": True})


def _on_error(request: Request, error: HTTPException) -> Response:
    return _failure(request, error.status_code, error.detail)


def _on_failure(request: Request, error: CommonweightError) -> Response:
    # What is unavailable may come; what is misconfigured here is an address that leads nowhere.
    return _failure(request, 503 if isinstance(error, Unavailable) else 404, str(error))


def _on_fault(request: Request, error: Exception) -> Response:
    # The traceback is on stderr; a page need not show paths of this machine.
    return _failure(request, 500, "a fault of this program: its terminal says more")


def _failure(request: Request, status: int, reason: str) -> Response:
    path = request.url.path
    if path.endswith(".json"):
        return _json({"error": reason}, status)
    again = status == 503
    body = render(
        "failure.html",
        {"status": status, "reason": reason, "again": again, "path": path, "time": time.time()},
    )
    headers = {"Retry-After": "2"} if again else {}
    return Response(body, status, headers, media_type="text/html")


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    # In ASCII: a string of strangers may hold half of a surrogate pair, which UTF-8 does not.
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")


def _text(status: int, reason: str) -> Response:
    return Response(reason + "\n", status, media_type="text/plain")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
