"""What the server lets nobody do, how it tells of changes, and how it begins and ends."""

import socket
import time
import urllib.request
import zipfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest

from chain.records import Model
from explorer.server import is_own_name, listen
from protocol.errors import Misconfigured, Unavailable
from tests.explorer.shown import Page, Shown, serving
from tests.world import World

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def test_every_answer_has_the_policy(shown: Shown) -> None:
    for path in ("/federations", shown.here, f"{shown.here}.json", "/static/explorer.js", "/nope"):
        headers = shown.http.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not path.startswith("/f") or headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_get_is_answered(shown: Shown, method: str) -> None:
    for path in (shown.here, f"{shown.here}/audit", "/static/explorer.js"):
        assert shown.http.request(method, path).status_code == 405
    assert shown.http.head(shown.here).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8080", True),
        ("192.168.1.7:8080", True),
        ("explorer.lan:8080", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8080", False),
        ("", False),
        ("[::1", False),
        ("127.0.0.1:8080:1", False),
    ],
)
def test_other_sites_cannot_call_it_by_their_name(host: str, is_own: bool) -> None:
    assert is_own_name(host, "explorer.lan") is is_own


def test_a_rebound_name_is_refused(shown: Shown) -> None:
    answer = shown.http.get(shown.here, headers={"host": "evil.example:8080"})
    assert answer.status_code == 421
    assert "localhost" in answer.text


def test_pages_of_other_sites_can_link_and_no_more(shown: Shown) -> None:
    def status(site: str, mode: str) -> int:
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        return shown.http.get(shown.here, headers=headers).status_code

    assert status("cross-site", "navigate") == 200
    assert status("cross-site", "no-cors") == status("cross-site", "cors") == 403
    assert status("same-origin", "cors") == 200


def test_a_fault_shows_no_traceback(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.server.round_facts", lambda *facts: 1 / 0)
    answer = shown.http.get(f"{shown.here}/rounds/1")
    assert answer.status_code == 500
    assert "a fault of this program" in answer.text
    assert "division" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


# ---------------------------------------------------------------------------- what moves


def test_the_stream_tells_of_changes(shown: Shown) -> None:
    async def first_two() -> list[str]:
        stream = shown.explorer._stream(shown.following, version=-1)
        return [await anext(stream) for _ in range(3)]

    beginning, changed, block = anyio.run(first_two)
    assert beginning.startswith("retry:")
    assert changed == f'event: changed\ndata: {{"version": {shown.following.version}}}\n\n'
    assert block == f'event: block\ndata: {{"block": {shown.following.block}}}\n\n'
    assert shown.explorer._streams == 0


def test_only_so_many_streams_are_open_at_once(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown.explorer, "_streams", 64)
    answer = shown.http.get(f"{shown.here}/events?version=0")
    assert answer.status_code == 503
    assert "too many pages are open" in answer.text


def test_a_node_is_asked_little_while_nothing_happens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.following._SAME_BLOCK_S", 1000.0)  # however slow this machine is
    with Shown(world, audits=False) as shown:
        shown.json()
        before = shown.following.view()
        asked: list[str] = []
        provider: Any = shown.following.federation.w3.provider
        real = provider._ask

        def ask(method: Any, params: Any) -> Any:
            asked.append(method)
            return real(method, params)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(provider, "_ask", ask)
            time.sleep(3.0)  # three looks
            shown.json()
        assert set(asked) <= {"eth_blockNumber"}
        assert 1 <= len(asked) <= 4
        assert shown.following.view() is before


def test_a_page_names_the_version_that_it_is_of(shown: Shown) -> None:
    (body,) = shown.page().all("body")
    events = f"{shown.here}/events?version={shown.following.version}"
    assert body["data-events"] == events
    assert shown.http.get(f"{shown.here}/events?version=x").status_code == 400


def test_a_change_on_the_chain_is_on_the_page(tmp_path: Path) -> None:
    with World(tmp_path) as world, Shown(world, audits=False) as shown:
        assert shown.json()["now"]["phase"] == "none"
        version = shown.following.version
        round_id = world.open_round()
        world.ask("commit", round_id)
        deadline = time.monotonic() + 20
        while shown.json()["now"]["phase"] != "reveal":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert shown.following.version > version
        assert "None yet" in shown.page("/rounds/1").text
        assert "--no-audit" in shown.page("/audit").text


def test_a_node_that_is_gone_leaves_what_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shown(world, audits=False) as shown:
        before = shown.json()
        assert before["trouble"] is None

        def gone() -> None:
            raise Unavailable("the Ethereum RPC does not answer", service="chain")

        monkeypatch.setattr(shown.following.federation, "now", gone)
        deadline = time.monotonic() + 20
        while shown.json()["trouble"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        page = shown.page()
        assert "the Ethereum RPC does not answer" in page.text
        assert shown.json()["money"] == before["money"]


def test_a_page_before_anything_was_read_asks_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shown(world, audits=False) as shown:
        monkeypatch.setattr(shown.following, "_view", None)
        monkeypatch.setattr(shown.following, "_trouble", None)
        monkeypatch.setattr(shown.following, "_publish", lambda view, trouble: None)
        monkeypatch.setattr(shown.following._changed, "wait_for", lambda is_so, seconds: False)
        answer = shown.http.get(shown.here)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        page = Page(answer.text)
        assert "still being read" in page.text
        assert {"http-equiv": "refresh", "content": "2"} in page.all("meta")


# -------------------------------------------------------------------------------- downloads


def test_a_model_is_downloaded_as_a_zip(world: World) -> None:
    written: list[Model] = []

    def export(model: Model, target: Path) -> None:
        written.append(model)
        target.mkdir()
        (target / "adapter_config.json").write_text("{}")

    with Shown(world, audits=False, export=export) as shown:
        page = shown.page("/models/2")
        assert f"{shown.here}/models/2/adapter.zip" in page.links()
        answer = shown.http.get(f"{shown.here}/models/2/adapter.zip")
        assert answer.headers["content-type"] == "application/zip"
        assert "adapter-round-2.zip" in answer.headers["content-disposition"]
        with zipfile.ZipFile(BytesIO(answer.content)) as archive:
            assert "adapter-round-2/adapter_config.json" in archive.namelist()
        assert written == [world.client().current_model()]
        path = f"{shown.here}/models/2/adapter.zip"
        for site in ("cross-site", "same-site"):
            headers = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
            assert shown.http.get(path, headers=headers).status_code == 403
        assert shown.http.get(f"{shown.here}/models/7/adapter.zip").status_code == 404


def test_an_export_that_fails_is_said(world: World) -> None:
    def export(model: Model, target: Path) -> None:
        raise Unavailable("the store does not have block 3")

    with Shown(world, audits=False, export=export) as shown:
        answer = shown.http.get(f"{shown.here}/models/2/adapter.zip")
        assert answer.status_code == 503
        assert "the store does not have block 3" in answer.text


def test_without_a_base_model_there_is_no_download(shown: Shown) -> None:
    assert shown.http.get(f"{shown.here}/models/2/adapter.zip").status_code == 404


# ------------------------------------------------------------------------------- listening


def test_a_stream_that_is_open_does_not_keep_the_server(world: World) -> None:
    with Shown(world, audits=False) as shown, ExitStack() as server:
        url = server.enter_context(serving(shown))
        with urllib.request.urlopen(f"{url}/health", timeout=20) as answer:
            assert answer.status == 200
            assert "server" not in answer.headers
        with urllib.request.urlopen(f"{url}{shown.here}/events?version=0", timeout=20) as stream:
            assert stream.readline() == b"retry: 2000\n"
            began = time.monotonic()
            server.close()  # waits for the server's end
            assert time.monotonic() - began < 20


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"127.0.0.1:{port}: address already in use"):
            listen("127.0.0.1", port)
    with pytest.raises(Misconfigured, match="--host no-such-host"):
        listen("no-such-host.invalid", 8080)
