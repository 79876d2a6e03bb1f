"""The dev daemon, through ipfshttpclient and through plain HTTP."""

import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from ipfshttpclient.client import Client
from ipfshttpclient.exceptions import ErrorResponse

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.canonical import sha256
from protocol.cid import digest_of_raw_cid, raw_cid
from protocol.errors import Misconfigured
from storage.rpc import ApiAddress
from tests.storage.content import content

HELLO = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
HELLO_TEXT = b"hello world\n"
MISSING = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")


@pytest.fixture
def client(daemon: DevIpfsDaemon) -> Iterator[Any]:
    with Client(ApiAddress.parse(daemon.url).multiaddr) as client:
        yield client


def post(daemon: DevIpfsDaemon, command: str, **options: Any) -> requests.Response:
    return requests.post(f"{daemon.url}/api/v0/{command}", timeout=10, **options)


def message(response: requests.Response) -> str:
    answer = response.json()
    assert answer["Type"] == "error"
    return str(answer["Message"])


def put(client: Any, *blocks: bytes, **options: str) -> list[str]:
    return [client.block.put(io.BytesIO(block), opts=options)["Key"] for block in blocks]


def test_blocks_are_put_and_read(client: Any) -> None:
    answer = client.block.put(io.BytesIO(HELLO_TEXT), opts={"cid-codec": "raw"})
    assert (answer["Key"], answer["Size"]) == (HELLO, 12)
    assert put(client, HELLO_TEXT, format="raw") == [HELLO]
    assert client.block.get(HELLO) == HELLO_TEXT
    assert client.block.get(f"/ipfs/{HELLO}") == HELLO_TEXT
    assert client.block.stat(HELLO).as_json() == {"Key": HELLO, "Size": 12}
    (empty,) = put(client, b"")
    assert client.block.get(empty) == b""


def test_many_blocks_are_put_in_one_request(daemon: DevIpfsDaemon, client: Any) -> None:
    blocks = [content(size) for size in (1, 0, 300_000, 1 << 20, 5)]
    files = [("file", (str(number), block)) for number, block in enumerate(blocks)]
    lines = post(daemon, "block/put", files=files).text.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["Key"] for answer in answers] == [raw_cid(sha256(block)) for block in blocks]
    assert [answer["Size"] for answer in answers] == [len(block) for block in blocks]
    assert [client.block.get(answer["Key"]) for answer in answers] == blocks


def test_blocks_over_two_mib_are_refused(client: Any) -> None:
    with pytest.raises(ErrorResponse, match="over 2097152 bytes"):
        client.block.put(io.BytesIO(bytes(2_097_153)))


def test_pins_come_and_go(client: Any) -> None:
    first, second = put(client, b"first", b"second")
    assert client.pin.ls()["Keys"].as_json() == {}
    with pytest.raises(ErrorResponse, match="is not pinned"):
        client.pin.ls(first)
    assert client.pin.add(first, second, recursive=False)["Pins"] == [first, second]
    assert client.pin.ls(first, type="direct")["Keys"][first]["Type"] == "direct"
    assert client.pin.ls()["Keys"].as_json().keys() == {first, second}
    assert client.pin.rm(first, second)["Pins"] == [first, second]
    with pytest.raises(ErrorResponse, match="not pinned or pinned indirectly"):
        client.pin.rm(first)
    assert client.block.get(first) == b"first"


def test_the_two_kinds_of_pins_are_kept_apart(client: Any) -> None:
    (cid,) = put(client, b"pinned", pin="true")
    assert client.pin.ls(cid)["Keys"][cid]["Type"] == "recursive"
    with pytest.raises(ErrorResponse, match="already pinned recursively"):
        client.pin.add(cid, recursive=False)
    with pytest.raises(ErrorResponse, match="is pinned recursively"):
        client.pin.rm(cid, recursive=False)
    with pytest.raises(ErrorResponse, match="is not pinned"):
        client.pin.ls(cid, type="direct")
    client.pin.rm(cid)
    client.pin.add(cid, recursive=False)
    client.pin.add(cid)
    assert client.pin.ls(cid)["Keys"][cid]["Type"] == "recursive"


def test_pins_are_streamed_one_a_line(daemon: DevIpfsDaemon, client: Any) -> None:
    put(client, HELLO_TEXT, pin="true")
    answer = post(daemon, "pin/ls", params={"stream": "true", "type": "recursive"})
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"Cid": HELLO, "Type": "recursive"}
    ]


def test_what_is_not_here_cannot_be_pinned(client: Any) -> None:
    (here,) = put(client, b"here")
    with pytest.raises(ErrorResponse, match="could not find"):
        client.pin.add(here, MISSING, recursive=False)


def test_blocks_are_removed_unless_they_are_pinned(daemon: DevIpfsDaemon, client: Any) -> None:
    free, pinned = put(client, b"free", b"pinned")
    client.pin.add(pinned, recursive=False)
    for force, missing in (
        ("false", [{"Hash": free, "Error": f"ipld: could not find {free}"}]),
        ("true", []),
    ):
        put(client, b"free")
        for gone in (False, True):
            answer = post(
                daemon, "block/rm", params={"arg": [free, pinned], "force": force}
            ).text.splitlines()
            removed = missing if gone else [{"Hash": free}]
            assert [json.loads(line) for line in answer] == [
                *removed,
                {"Hash": pinned, "Error": "pinned: direct"},
            ]
    assert client.block.get(pinned) == b"pinned"
    with pytest.raises(ErrorResponse, match="could not find"):
        client.block.get(free)


def test_it_tells_who_it_is(client: Any, daemon: DevIpfsDaemon) -> None:
    peer = client.id()["ID"]
    assert peer.startswith("12D3KooW")
    daemon.stop()
    daemon.start()
    assert client.id()["ID"] == peer
    assert client.version()["Version"].startswith("0.8.0")
    put(client, content(300_000), content(5))
    stat = client.repo.stat()
    assert (stat["NumObjects"], stat["RepoSize"]) == (2, 300_005)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mhtype": "blake3"}, "mhtype is not supported"),
        ({"cid-codec": "dag-pb"}, "cid-codec is not supported"),
        ({"format": "v0"}, "format is not supported"),
        ({"pin": "maybe"}, "could not convert value 'maybe'"),
    ],
)
def test_options_that_would_change_the_result_are_refused(
    daemon: DevIpfsDaemon, options: dict[str, str], said: str
) -> None:
    answer = post(daemon, "block/put", params=options, files={"file": HELLO_TEXT})
    assert answer.status_code in (400, 500)
    assert said in message(answer)


@pytest.mark.parametrize(
    "path", ["/api/v0/add", "/api/v0/cat", "/api/v0/dag/put", "/ipfs/" + HELLO]
)
def test_files_and_dags_are_not_served(daemon: DevIpfsDaemon, path: str) -> None:
    assert requests.post(daemon.url + path, timeout=10).status_code == 404


@pytest.mark.parametrize("command", ["block/get", "block/stat", "block/rm", "pin/add", "pin/rm"])
def test_a_command_without_its_argument_is_a_bad_request(
    daemon: DevIpfsDaemon, command: str
) -> None:
    answer = post(daemon, command)
    assert answer.status_code == 400
    assert "is required" in message(answer)


@pytest.mark.parametrize("command", ["block/get", "block/stat", "pin/add"])
def test_missing_and_malformed_cids_are_errors(daemon: DevIpfsDaemon, command: str) -> None:
    for arg, said in (
        (MISSING, "could not find"),
        (MISSING.upper(), "invalid cid"),
        ("x", "invalid cid"),
    ):
        answer = post(daemon, command, params={"arg": arg})
        assert answer.status_code == 500
        assert said in message(answer)


def test_a_damaged_block_is_an_error(daemon: DevIpfsDaemon, client: Any) -> None:
    put(client, HELLO_TEXT)
    daemon.repo.block_path(digest_of_raw_cid(HELLO)).write_bytes(b"hello World\n")
    with pytest.raises(ErrorResponse, match="different hash than requested"):
        client.block.get(HELLO)
    put(client, HELLO_TEXT)  # storing it again mends it
    assert client.block.get(HELLO) == HELLO_TEXT


def test_the_rpc_takes_post_only(daemon: DevIpfsDaemon) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = requests.request(method, f"{daemon.url}/api/v0/version", timeout=10)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/api/v0/nonsense", "/api/v0/", "/", "/api/v1/block/put"])
def test_unknown_commands_are_not_found(daemon: DevIpfsDaemon, path: str) -> None:
    assert requests.post(daemon.url + path, timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://[malformed"}, 403),
        ({"Referer": "https://evil.example/page"}, 403),
        ({"User-Agent": "Mozilla/5.0"}, 403),
        ({"Origin": "http://127.0.0.1:3000", "User-Agent": "Mozilla/5.0"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({}, 200),
    ],
)
def test_pages_of_other_sites_are_kept_out(
    daemon: DevIpfsDaemon, headers: dict[str, str], status: int
) -> None:
    answer = post(daemon, "block/put", headers=headers, files={"file": HELLO_TEXT})
    assert answer.status_code == status
    assert daemon.repo.count().blocks == (1 if status == 200 else 0)


def test_a_connection_goes_on_after_errors(daemon: DevIpfsDaemon) -> None:
    with requests.Session() as session:
        for _ in range(3):
            refused = session.post(
                f"{daemon.url}/api/v0/block/put",
                params={"mhtype": "blake3"},
                files={"file": content(500_000)},
                timeout=10,
            )
            assert refused.status_code == 500
            stored = session.post(
                f"{daemon.url}/api/v0/block/put", files={"file": HELLO_TEXT}, timeout=10
            )
            assert stored.json()["Key"] == HELLO


def raw_exchange(daemon: DevIpfsDaemon, request: bytes) -> bytes:
    address = ApiAddress.parse(daemon.url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_two_requests_on_one_connection_are_both_answered(daemon: DevIpfsDaemon) -> None:
    one = b"POST /api/v0/version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert raw_exchange(daemon, one + one).count(b'"Version"') == 2


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: -4\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5\r\n\r\n--b\r\n",
    ],
)
def test_malformed_bodies_are_bad_requests(daemon: DevIpfsDaemon, framing: bytes) -> None:
    answer = raw_exchange(daemon, b"POST /api/v0/block/put HTTP/1.1\r\nHost: x\r\n" + framing)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_many_uploads_at_once_all_arrive(daemon: DevIpfsDaemon) -> None:
    blocks = [content(300_000 + number) for number in range(12)]

    def upload(block: bytes) -> str:
        answer = post(daemon, "block/put", params={"pin": "true"}, files={"file": block})
        return str(answer.json()["Key"])

    with ThreadPoolExecutor(12) as pool:
        cids = list(pool.map(upload, blocks))
    for cid, block in zip(cids, blocks, strict=True):
        assert post(daemon, "block/get", params={"arg": cid}).content == block
    assert len(daemon.repo.pins()) == len(blocks)


def test_blocks_and_pins_are_there_after_a_restart(daemon: DevIpfsDaemon, client: Any) -> None:
    (cid,) = put(client, content(300_000), pin="true")
    client.close()
    daemon.stop()
    daemon.start()
    with Client(ApiAddress.parse(daemon.url).multiaddr) as again:
        assert again.block.get(cid) == content(300_000)
        assert again.pin.ls(cid)["Keys"][cid]["Type"] == "recursive"


def test_stopping_ends_open_connections(daemon: DevIpfsDaemon) -> None:
    with requests.Session() as session:
        session.post(f"{daemon.url}/api/v0/version", timeout=10)
        daemon.stop()
        with pytest.raises(requests.ConnectionError):
            session.post(f"{daemon.url}/api/v0/version", timeout=10)
    daemon.stop()  # harmless


def test_a_folder_serves_one_daemon_at_a_time(daemon: DevIpfsDaemon) -> None:
    with pytest.raises(Misconfigured, match="in use by another"):
        DevIpfsDaemon(daemon.repo.folder).start()


def test_a_port_serves_one_daemon_at_a_time(daemon: DevIpfsDaemon, tmp_path: Path) -> None:
    port = ApiAddress.parse(daemon.url).port
    second = DevIpfsDaemon(tmp_path / "second", port=port)
    with pytest.raises(Misconfigured, match=f"cannot listen on 127.0.0.1 port {port}"):
        second.start()
    with DevIpfsDaemon(tmp_path / "second"):
        pass  # the folder was let go


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot hold an IPFS repository"):
        DevIpfsDaemon(tmp_path / "file").start()
