"""A folder as a store, which others read through a plain web server; the same code puts to S3."""

import builtins
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from protocol.canonical import sha256 as digest_of
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.types import Digest
from protocol.whereabouts import Gateway
from storage.blocks import MAX_BLOCK_BYTES, Store
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.gateway import GatewayStore, Missing
from storage.layers import LayerFolder, Subject, build_manifest, fetch_layers, pin, remove_unused
from tests.storage.content import SHAPES, content, spec_of, values_of


class _Silent(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[Gateway]:
    """Serve the files of `folder` as any web server does; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield Gateway("http", "127.0.0.1", server.server_address[1], "/a")
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> BucketStore:
    return BucketStore(str(tmp_path / "www" / "a"))


@pytest.fixture
def gateway(tmp_path: Path, store: BucketStore) -> Iterator[GatewayStore]:
    with web_server(tmp_path / "www") as address:
        yield GatewayStore(address, DialRules(allow_private=True), timeout_s=5)


def test_blocks_come_back_here_and_by_the_web_server(
    store: BucketStore, gateway: GatewayStore
) -> None:
    blocks = [b"", content(MAX_BLOCK_BYTES), *(b"%d" % number for number in range(40))]
    digests = store.put_blocks(iter(blocks))
    assert digests == [digest_of(block) for block in blocks]
    gateway.probe()
    for digest, block in zip(digests, blocks, strict=True):
        assert store.has(digest)
        for reader in (store, gateway):
            assert reader.get_block(digest) == reader.get_block(digest, len(block)) == block


def test_what_is_not_there(store: BucketStore, gateway: GatewayStore) -> None:
    nowhere = Digest(bytes(32))
    assert not store.has(nowhere)
    with pytest.raises(Unavailable, match=f"does not have {raw_cid(nowhere)}"):
        store.get_block(nowhere)
    with pytest.raises(Missing):
        gateway.get_block(nowhere)
    store.remove_blocks([nowhere, nowhere])


def test_what_was_changed_on_disk_is_not_returned(store: BucketStore, tmp_path: Path) -> None:
    digest = store.put_block(b"one")
    (tmp_path / "www" / "a" / "ipfs" / raw_cid(digest)).write_bytes(b"two")
    with pytest.raises(WrongBytes):
        store.get_block(digest)
    with pytest.raises(Rejected) as caught:
        store.get_block(store.put_block(b"three"), 4)
    assert caught.value.check == Check.DIGESTS


def test_larger_blocks_are_refused(store: BucketStore) -> None:
    with pytest.raises(Misconfigured, match="at most 1048576"):
        store.put_block(bytes(MAX_BLOCK_BYTES + 1))


def test_an_update_goes_when_no_manifest_names_it(
    store: BucketStore, gateway: GatewayStore, tmp_path: Path
) -> None:
    """The same functions as with an IPFS daemon."""
    spec, about = spec_of(*SHAPES), Subject(1, "0x" + "0" * 40, 3, "update")  # type: ignore[arg-type]
    manifests = []
    for seed in (1, 2):
        folder = LayerFolder(tmp_path / str(seed), "update")
        folder.write(spec, values_of(spec, "update", seed))
        manifests.append(build_manifest(folder, spec, about, folder.root(spec)))
        kept: Store = store
        assert pin(kept, folder, manifests[-1]) == manifests[-1].digest()
    first, second = manifests
    fetched = LayerFolder(tmp_path / "fetched", "update")
    fetch_layers(gateway, first, spec, fetched)
    assert fetched.root(spec) == first.root_digest
    remove_unused(store, [first], [second], spec, also_pinned=False)  # there are no pins
    assert not store.has(first.digest())
    fetch_layers(gateway, second, spec, LayerFolder(tmp_path / "second", "update"))


@pytest.mark.parametrize("address", ["", "relative/folder", "ftp://x/y", "s3://", "http://x/y"])
def test_what_is_no_bucket(address: str) -> None:
    with pytest.raises(Misconfigured, match="bucket") as caught:
        BucketStore(address)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="bucket"):
        BucketStore(str(tmp_path / "file" / "below"))
    store = BucketStore(str(tmp_path / "folder"))
    (tmp_path / "folder" / "ipfs").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        store.put_block(b"one")
    assert str(tmp_path / "folder") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_down_says_so_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDAKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = BucketStore("s3://bucket/prefix", timeout_s=2, allow_http=True)
    with pytest.raises(Unavailable, match="s3://bucket/prefix") as caught:
        store.put_block(b"one")
    said = str(caught.value)
    assert "\n" not in said
    assert "AKID" not in said
    assert "secret" not in said


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("obstore"):
            raise ModuleNotFoundError(name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match=r"pip install 'commonweight\[bucket\]'"):
        BucketStore("s3://bucket")


class _Recorder(BaseHTTPRequestHandler):
    """Takes every object, as an S3 server or as a proxy before one, and says what it was asked."""

    server: "_Recording"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        self.server.signed.append(self.headers.get("Authorization", ""))
        self.send_response(200)
        for name, value in {"ETag": '"1"', "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Recording(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        self.asked: list[str] = []
        self.signed: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Recording]:
    """What stands at the endpoint, which credentials of the environment reach."""
    with _Recording() as endpoint:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "of-the-environment")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{endpoint.server_address[1]}")
        yield endpoint
        endpoint.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_is_what_the_settings_name_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, s3: _Recording, host: str
) -> None:
    """Reads and writes of all stores go the same way, whatever the environment says."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{s3.server_address[1]}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with _Recording() as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        BucketStore("s3://bucket/p", timeout_s=5, allow_http=True).put_block(b"one")
        assert (len(s3.asked), len(proxy.asked)) == (2, 0)
        BucketStore("s3://bucket/p", timeout_s=5, allow_http=True, proxy=url).put_block(b"one")
        assert (len(s3.asked), len(proxy.asked)) == (2, 2)
        proxy.shutdown()


def test_credentials_come_from_the_file_that_aws_tools_read(
    monkeypatch: pytest.MonkeyPatch, s3: _Recording, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = FIRST\naws_secret_access_key = a%b\n"
        "[other]\naws_access_key_id = SECOND\naws_secret_access_key = c\naws_session_token = t\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def put() -> None:
        BucketStore("s3://b/p", timeout_s=5, allow_http=True).put_block(b"one")

    put()
    assert "Credential=of-the-environment/" in s3.signed[-1]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    put()
    assert "Credential=FIRST/" in s3.signed[-1]
    monkeypatch.setenv("AWS_PROFILE", "other")
    put()
    assert "Credential=SECOND/" in s3.signed[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aws_access_key_id = verysecret\n", "MissingSectionHeaderError"),
        ("[default]\naws_access_key_id = verysecret\n", "aws_secret_access_key"),
        ("[another]\n", "default"),
        (None, "No such file"),
    ],
)
def test_a_file_that_has_no_credentials_is_one_line(
    monkeypatch: pytest.MonkeyPatch, s3: _Recording, tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "credentials"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(Misconfigured, match=f"AWS_SHARED_CREDENTIALS_FILE .*{words}") as caught:
        BucketStore("s3://bucket")
    assert "verysecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["", "minio:9000", "https://"])
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(Misconfigured, match="AWS_ENDPOINT_URL in the environment: expected"):
        BucketStore("s3://bucket")
