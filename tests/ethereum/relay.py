"""A node seen through another that serves less of it, as many hosted ones do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

Request = dict[str, Any]


@contextmanager
def relayed(url: str, refuses: Callable[[Request], str | None]) -> Iterator[str]:
    """Yield the URL of the node at `url`, but for requests that `refuses` has an error for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request: Request = json.loads(body)
            message = refuses(request)
            if message is None:
                answer = requests.post(
                    url, data=body, headers={"Content-Type": "application/json"}, timeout=30
                ).content
            else:
                error = {"code": -32601, "message": message}
                answer = json.dumps(
                    {"jsonrpc": "2.0", "id": request["id"], "error": error}
                ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
