"""The dev daemon, through ipfshttpclient and through plain HTTP."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from ipfshttpclient.client import Client
from ipfshttpclient.exceptions import ErrorResponse

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.errors import Misconfigured
from storage.cid import Cid
from storage.download import ApiAddress
from tests.storage.content import content

HELLO = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
HELLO_V0 = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
HELLO_TEXT = b"hello world\n"
MISSING = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
V1 = {"cid-version": "1", "raw-leaves": "true"}

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


def test_add_gives_kubos_default_and_its_version_1(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "hello.txt"
    path.write_bytes(HELLO_TEXT)
    added = client.add(path)
    assert (added["Name"], added["Hash"], added["Size"]) == ("hello.txt", HELLO_V0, "20")
    assert client.add(path, cid_version=1, raw_leaves=True)["Hash"] == HELLO
    assert client.add_bytes(HELLO_TEXT) == HELLO_V0
    assert client.add_bytes(HELLO_TEXT, opts={"cid-version": "1"}) == HELLO


def test_cat_returns_all_or_a_range(client: Any) -> None:
    data = content(700_000)
    cid = client.add_bytes(data, opts=V1)
    assert client.cat(cid) == data
    assert client.cat(f"/ipfs/{cid}") == data
    assert client.cat(cid, offset=262_140, length=10) == data[262_140:262_150]
    assert client.cat(cid, offset=699_999, length=10) == data[-1:]
    assert client.cat(cid, offset=800_000) == b""
    with client.cat(cid, stream=True) as pieces:
        assert b"".join(pieces) == data


def test_an_empty_file_is_a_file(client: Any) -> None:
    assert client.add_bytes(b"") == "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    assert client.cat("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH") == b""


def test_blocks_are_put_and_read_under_both_codecs(client: Any) -> None:
    put = client.block.put(io.BytesIO(HELLO_TEXT), opts={"cid-codec": "raw"})
    assert (put["Key"], put["Size"]) == (HELLO, 12)
    assert client.block.put(io.BytesIO(HELLO_TEXT), opts={"format": "raw"})["Key"] == HELLO
    assert client.block.get(HELLO) == HELLO_TEXT
    assert client.block.stat(HELLO).as_json() == {"Key": HELLO, "Size": 12}
    node = bytes.fromhex("0a0408021800")
    key = client.block.put(io.BytesIO(node), opts={"format": "v0"})["Key"]
    assert key == "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    key = client.block.put(io.BytesIO(node), opts={"cid-codec": "dag-pb"})["Key"]
    assert key == "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"


def test_blocks_over_two_mib_are_refused(client: Any) -> None:
    with pytest.raises(ErrorResponse, match="over 2097152 bytes"):
        client.block.put(io.BytesIO(bytes(2_097_153)))


def test_pins_come_and_go(client: Any) -> None:
    cid = client.add_bytes(content(300_000), opts={**V1, "pin": "false"})
    assert client.pin.ls()["Keys"].as_json() == {}
    with pytest.raises(ErrorResponse, match="is not pinned"):
        client.pin.ls(cid)
    assert client.pin.add(cid)["Pins"] == [cid]
    assert client.pin.ls(cid, type="recursive")["Keys"][cid]["Type"] == "recursive"
    kinds = sorted(pin["Type"] for pin in client.pin.ls()["Keys"].as_json().values())
    assert kinds == ["indirect", "indirect", "recursive"]
    assert client.pin.rm(cid)["Pins"] == [cid]
    with pytest.raises(ErrorResponse, match="not pinned or pinned indirectly"):
        client.pin.rm(cid)
    assert client.cat(cid) == content(300_000)


def test_a_leaf_of_a_pinned_file_is_pinned_indirectly(client: Any) -> None:
    data = content(300_000)
    root = client.add_bytes(data, opts=V1)
    leaf = str(Cid(1, 0x55, sha256(data[:262_144]).digest()))
    assert client.pin.ls(leaf)["Keys"][leaf]["Type"] == "indirect"
    with pytest.raises(ErrorResponse, match="is not pinned"):
        client.pin.ls(leaf, type="recursive")
    assert client.pin.ls(type="recursive")["Keys"].as_json().keys() == {root}


def test_pins_are_streamed_one_a_line(daemon: DevIpfsDaemon, client: Any) -> None:
    client.add_bytes(HELLO_TEXT, opts=V1)
    answer = post(daemon, "pin/ls", params={"stream": "true", "type": "recursive"})
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"Cid": HELLO, "Type": "recursive"}
    ]


def test_what_is_not_here_cannot_be_pinned(client: Any) -> None:
    with pytest.raises(ErrorResponse, match="could not find"):
        client.pin.add(MISSING)


def test_a_file_with_a_block_missing_cannot_be_pinned(daemon: DevIpfsDaemon, client: Any) -> None:
    cid = client.add_bytes(content(600_000), opts={**V1, "pin": "false"})
    daemon.repo.block_path(Cid(1, 0x55, sha256(content(600_000)[524_288:]).digest())).unlink()
    with pytest.raises(ErrorResponse, match="could not find"):
        client.pin.add(cid)
    assert client.pin.add(cid, recursive=False)["Pins"] == [cid]
    assert client.pin.ls(cid)["Keys"][cid]["Type"] == "direct"


def test_only_hash_stores_nothing(client: Any) -> None:
    assert client.add_bytes(HELLO_TEXT, opts={**V1, "only-hash": "true"}) == HELLO
    assert client.repo.stat()["NumObjects"] == 0


def test_it_tells_who_it_is(client: Any, daemon: DevIpfsDaemon) -> None:
    peer = client.id()["ID"]
    assert peer.startswith("12D3KooW")
    daemon.stop()
    daemon.start()
    assert client.id()["ID"] == peer
    assert client.version()["Version"].startswith("0.8.0")
    client.add_bytes(content(300_000), opts=V1)
    stat = client.repo.stat()
    assert stat["NumObjects"] == 3
    assert 300_000 < stat["RepoSize"] < 300_300


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wrap-with-directory": "true"}, "wrap-with-directory is not supported"),
        ({"trickle": "true"}, "trickle is not supported"),
        ({"hash": "blake3"}, "hash is not supported"),
        ({"max-file-links": "1024"}, "max-file-links is not supported"),
        ({"chunker": "rabin"}, "only size-N"),
        ({"chunker": "size-0"}, "1 to"),
        ({"cid-version": "2"}, "unknown CID version"),
        ({"pin": "maybe"}, "could not convert value 'maybe'"),
    ],
)
def test_options_that_would_change_the_result_are_refused(
    daemon: DevIpfsDaemon, options: dict[str, str], said: str
) -> None:
    answer = post(daemon, "add", params=options, files={"file": HELLO_TEXT})
    assert answer.status_code in (400, 500)
    assert said in message(answer)


@pytest.mark.parametrize("command", ["cat", "block/get", "block/stat", "pin/add", "pin/rm"])
def test_a_command_without_its_argument_is_a_bad_request(
    daemon: DevIpfsDaemon, command: str
) -> None:
    answer = post(daemon, command)
    assert answer.status_code == 400
    assert "is required" in message(answer)


@pytest.mark.parametrize("command", ["cat", "block/get", "block/stat"])
def test_missing_and_malformed_cids_are_errors(daemon: DevIpfsDaemon, command: str) -> None:
    for arg, said in ((MISSING, "could not find"), ("nonsense", "invalid cid")):
        answer = post(daemon, command, params={"arg": arg})
        assert answer.status_code == 500
        assert said in message(answer)


def test_a_damaged_block_is_an_error(daemon: DevIpfsDaemon, client: Any) -> None:
    cid = client.add_bytes(HELLO_TEXT, opts=V1)
    daemon.repo.block_path(Cid.parse(cid)).write_bytes(b"hello World\n")
    for read in (client.cat, client.block.get):
        with pytest.raises(ErrorResponse, match="different hash than requested"):
            read(cid)
    client.add_bytes(HELLO_TEXT, opts=V1)  # storing it again mends it
    assert client.cat(cid) == HELLO_TEXT


def test_a_file_that_turns_out_damaged_breaks_off(daemon: DevIpfsDaemon, client: Any) -> None:
    data = content(600_000)
    cid = client.add_bytes(data, opts=V1)
    last = Cid(1, 0x55, sha256(data[524_288:]).digest())
    daemon.repo.block_path(last).unlink()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.cat(cid)


def test_the_rpc_takes_post_only(daemon: DevIpfsDaemon) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = requests.request(method, f"{daemon.url}/api/v0/version", timeout=10)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/api/v0/nonsense", "/api/v0/", "/", "/api/v1/add"])
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
    answer = post(daemon, "add", headers=headers, files={"file": HELLO_TEXT})
    assert answer.status_code == status
    assert daemon.repo.count().blocks == (1 if status == 200 else 0)


def test_the_gateway_serves_files_as_mere_bytes(daemon: DevIpfsDaemon, client: Any) -> None:
    page = b"<script>alert(1)</script>" * 20_000
    cid = client.add_bytes(page, opts=V1)
    answer = requests.get(f"{daemon.url}/ipfs/{cid}", timeout=10)
    assert answer.content == page
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert requests.head(f"{daemon.url}/ipfs/{cid}", timeout=10).headers["Content-Length"] == str(
        len(page)
    )
    assert requests.get(f"{daemon.url}/ipfs/{MISSING}", timeout=10).status_code == 404
    assert requests.get(f"{daemon.url}/ipfs/nonsense", timeout=10).status_code == 400


def test_a_connection_goes_on_after_errors(daemon: DevIpfsDaemon) -> None:
    with requests.Session() as session:
        for _ in range(3):
            refused = session.post(
                f"{daemon.url}/api/v0/add",
                params={"trickle": "true"},
                files={"file": content(500_000)},
                timeout=10,
            )
            assert refused.status_code == 500
            added = session.post(
                f"{daemon.url}/api/v0/add", params=V1, files={"file": HELLO_TEXT}, timeout=10
            )
            assert added.json()["Hash"] == HELLO


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
    answer = raw_exchange(daemon, b"POST /api/v0/add HTTP/1.1\r\nHost: x\r\n" + framing)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_many_adds_at_once_all_arrive(daemon: DevIpfsDaemon) -> None:
    files = [content(300_000 + number) for number in range(12)]
    answers: dict[int, str] = {}

    def add(number: int) -> None:
        answer = post(daemon, "add", params=V1, files={"file": files[number]})
        answers[number] = answer.json()["Hash"]

    threads = [threading.Thread(target=add, args=(number,)) for number in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, data in enumerate(files):
        assert post(daemon, "cat", params={"arg": answers[number]}).content == data
    assert len(daemon.repo.pins()) == len(files)


def test_blocks_and_pins_are_there_after_a_restart(daemon: DevIpfsDaemon, client: Any) -> None:
    cid = client.add_bytes(content(300_000), opts=V1)
    client.close()
    daemon.stop()
    daemon.start()
    with Client(ApiAddress.parse(daemon.url).multiaddr) as again:
        assert again.cat(cid) == content(300_000)
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
