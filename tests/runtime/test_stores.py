"""The section [store] of a role's settings."""

from pathlib import Path

import pytest

from aggregator.settings import AggregatorSettings
from protocol.errors import Misconfigured
from storage.bucket import BucketStore
from storage.gateway import GatewayStore
from storage.ipfs import ContentStore

ID = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
ROLE = 'federation = "federation.json"\nkeystore = "wallet.json"\n'


def load(folder: Path, *lines: str) -> AggregatorSettings:
    file = folder / "aggregator.toml"
    file.write_text(ROLE + "\n".join(("[store]", *lines)) + "\n")
    return AggregatorSettings.load(file)


def test_without_any_the_federations_daemon_is_the_store(tmp_path: Path) -> None:
    file = tmp_path / "aggregator.toml"
    file.write_text(ROLE)
    store = AggregatorSettings.load(file).store
    assert store.whereabouts == ""
    assert store.reader() is None
    own = store.open("http://127.0.0.1:5001", "0x").own
    assert isinstance(own, ContentStore)
    assert own.address == "http://127.0.0.1:5001"
    assert not store.rules.allow_private


def test_a_daemon_of_its_own(tmp_path: Path) -> None:
    store = load(tmp_path, 'ipfs = "http://10.0.0.5:5001"', f'announce = ["{ID}"]').store
    assert store.own("http://127.0.0.1:5001").address == "http://10.0.0.5:5001"
    assert store.whereabouts == ID


def test_a_folder_lies_beside_the_settings(tmp_path: Path) -> None:
    lines = ('bucket = "www/ann"', 'public = "https://ann.example/x/"', f'announce = ["{ID}"]')
    store = load(tmp_path, *lines).store
    own = store.own("http://127.0.0.1:5001")
    assert isinstance(own, BucketStore)
    assert own.address == str(tmp_path / "www" / "ann")
    assert store.whereabouts == f"https://ann.example/x\n{ID}"
    reader = store.reader()
    assert isinstance(reader, GatewayStore)
    assert reader.gateway.line == "https://ann.example/x"


def test_a_proxy_is_for_gateways_and_bucket(tmp_path: Path) -> None:
    store = load(tmp_path, 'proxy = "http://proxy.example:3128"').store
    assert store.rules.proxy == ("proxy.example", 3128)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (('bucket = "s3://b"',), "bucket without public"),
        (('ipfs = "http://h"', 'bucket = "s3://b"', 'public = "https://h"'), "exclude each other"),
        (('public = "ann.example"',), "public: .*names no place"),
        ((f'public = "{ID}"',), "is no web address"),
        (('announce = ["somewhere"]',), "announce.0: .*names no place"),
        ((f"announce = {[f'https://{n}.example' for n in range(5)]}",), "at most 4 places"),
        (('proxy = "http://ann:secret@p:3128"',), "proxy: .*expected http://HOST:PORT"),
        (('proxy = "p:3128"',), "proxy: .*expected http://HOST:PORT"),
        (('gateway = "https://h"',), "gateway: there is no such key; known are ipfs, "),
        (
            ('ipfs = "https://ann:secret@h/prefix"',),
            "store.ipfs: .*without user, password and path",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, lines: tuple[str, ...], words: str
) -> None:
    with pytest.raises(Misconfigured, match=words) as caught:
        load(tmp_path, *lines)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "aggregator.toml" in str(caught.value)
