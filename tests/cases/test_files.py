"""Files as editors, other systems and other people leave them: taken, or refused in one line."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aggregator.settings import AggregatorSettings
from chain.location import FederationLocation
from commonweight.cli.options import new_password
from ethereum.wallet import Wallet, load_keystore, read_password
from node.settings import ParticipantSettings
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.types import RoundId
from runtime.events import NotRemoved
from runtime.logs import _Text
from runtime.progress import Line
from runtime.settings import RoleSettings
from sponsor.config import Config
from tests.fuzz.files import ADDRESS
from training.examples import load

BOM = b"\xef\xbb\xbf"
PARTICIPANT = 'federation = "f.json"\nkeystore = "k.json"\ndata = "d.csv"\nmodel = "m"\n'
AGGREGATOR = 'federation = "f.json"\nkeystore = "k.json"\n'
LOCATION: dict[str, Any] = {
    "version": 2,
    "chain_id": 31337,
    "address": ADDRESS,
    "deployment_block": 7,
    "rpc_url": "http://127.0.0.1:8545",
    "ipfs_url": "http://127.0.0.1:5001",
}


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("kind", "text"), [(ParticipantSettings, PARTICIPANT), (AggregatorSettings, AGGREGATOR)]
)
def test_settings_of_windows_editors(tmp_path: Path, kind: type[RoleSettings], text: str) -> None:
    plain = kind.load(written(tmp_path / "s.toml", text.encode()))
    crlf = text.replace("\n", "\r\n").encode()
    for content in (BOM + text.encode(), crlf, BOM + crlf):
        assert kind.load(written(tmp_path / "s.toml", content)) == plain


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'name = "\xff\xfe"', "not UTF-8 text"),
        ("x = 1".encode("utf-16"), "not UTF-8 text"),
        (b"withdraw_at = inf", "withdraw_at: .*finite"),
        (b"withdraw_at = nan", "withdraw_at: .*(finite|greater)"),
        (b"max_fee_gwei = inf", "max_fee_gwei: .*finite"),
        (b"confirmations = " + b"9" * 5_000, "4300 digits"),
        (b"confirmations = 0x" + b"f" * 5_000, "confirmations: "),
        (b"x = " + b"[" * 100_000, r"."),
        (b"\x1b[2J = 1", "settings"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "text"), [(ParticipantSettings, PARTICIPANT), (AggregatorSettings, AGGREGATOR)]
)
def test_settings_that_are_none(
    tmp_path: Path, kind: type[RoleSettings], text: str, line: bytes, words: str
) -> None:
    path = written(tmp_path / "s.toml", text.encode() + line + b"\n")
    with pytest.raises(Misconfigured, match=words) as caught:
        kind.load(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [b"inf", b"nan", b"9" * 5_000, b'"\xff"'])
def test_a_configuration_that_is_none(tmp_path: Path, value: bytes) -> None:
    path = written(tmp_path / "c.toml", b"[training]\nlearning_rate = " + value + b"\n")
    with pytest.raises(Misconfigured, match="configuration") as caught:
        Config.load(path)
    assert str(caught.value).isprintable()


def test_a_federation_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "f.json", BOM + json.dumps(LOCATION).encode())
    assert FederationLocation.load(path).address == ADDRESS


def test_a_password_is_the_same_for_every_command(tmp_path: Path) -> None:
    """With a line's end of any system, and with blanks that belong to it."""
    for content in (b"secret \n", b"secret \r\n", b"secret "):
        path = written(tmp_path / "pw", content)
        assert read_password(path) == new_password(path) == "secret "


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_password_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "pw", b"secret\n", mode)
    for read in (read_password, new_password):
        with pytest.raises(Misconfigured, match=f"mode 0{mode:o}.: run chmod 600"):
            read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**40},
        {"n": 2**18, "p": 2**20},
        {"dklen": 2**40},
        {"n": 10**400},
        {"n": "x"},
        {"n": None},
    ],
)
def test_a_keystore_that_would_take_all_memory(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "k.json"
    Wallet.create().save_keystore(path, "x", work_factor=2)
    keystore = json.loads(path.read_bytes())
    keystore["crypto"]["kdfparams"] |= change
    written(path, json.dumps(keystore).encode())
    with pytest.raises(Misconfigured, match="is not a keystore file") as caught:
        load_keystore(path, "x")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "row",
    [
        b'{"question": ' + b"9" * 5_000 + b', "answer": "b"}',
        b'{"question": ' + b"[" * 200_000,
        b'{"question": "\xff", "answer": "b"}',
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, row: bytes) -> None:
    path = written(tmp_path / "d.jsonl", b'{"question": "a", "answer": "b"}\n' + row + b"\n")
    with pytest.raises(Misconfigured, match="line 2: ") as caught:
        load(path)
    assert str(caught.value).isprintable()


def test_a_log_line_is_one_line_whatever_it_quotes() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "a \x1b[2J\nb", None, None)
    assert _Text().format(record).endswith("x: a \\x1b[2J\nb")
    record.line = Line(0.0, "ann", NotRemoved(round=RoundId(1), reason="\x1b]0;title\x07"))
    assert _Text().format(record).isprintable()


@pytest.mark.parametrize("kind", [CommonweightError, Unavailable, Misconfigured])
def test_an_error_is_one_line_whatever_it_quotes(kind: type[CommonweightError]) -> None:
    error = kind("the node says \x1b[2J\r\nok: all checks passed\u202e")
    assert str(error) == r"the node says \x1b[2J\r\nok: all checks passed\u202e"
