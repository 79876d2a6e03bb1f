"""Wallets: the key is shown to nobody, and rests in a file that only its owner can read."""

import copy
import json
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from ethereum.wallet import SCRYPT_WORK_FACTOR, Wallet, load_keystore
from protocol.errors import Misconfigured

# The first account of the mnemonic that Hardhat and Foundry document.
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
FAST = 2**4


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.from_key(KEY)


def test_addresses() -> None:
    assert Wallet.from_key(KEY).address == ADDRESS
    assert Wallet.from_key("0x" + KEY).address == ADDRESS
    assert Wallet.from_key(bytes.fromhex(KEY)).address == ADDRESS
    assert Wallet.create().address != Wallet.create().address


def test_signature_is_of_the_wallet(wallet: Wallet) -> None:
    transaction: Any = {"to": "0x" + "11" * 20, "nonce": 0, "gas": 21_000, "value": 7}
    transaction |= {"maxFeePerGas": 1, "maxPriorityFeePerGas": 1, "chainId": 5}
    raw = wallet.sign(transaction)
    assert Account.recover_transaction(raw) == ADDRESS


def test_key_is_never_shown(wallet: Wallet) -> None:
    for shown in (repr(wallet), str(wallet), f"{wallet}"):
        assert shown == f"Wallet({ADDRESS})"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leak(wallet)
    assert not hasattr(wallet, "__dict__")


@pytest.mark.parametrize("bad", [KEY[:-1] + "g", KEY[:-2], "", "0x", "00" * 32])
def test_bad_key_is_not_repeated(bad: str) -> None:
    with pytest.raises(Misconfigured, match="64 hex digits") as caught:
        Wallet.from_key(bad)
    assert caught.value.__suppress_context__
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY[:40] not in shown


def test_keystore_round_trip(wallet: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "participant.json"
    old = os.umask(0)
    try:
        wallet.save_keystore(path, "pässword ключ", work_factor=FAST)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["participant.json"]
    assert KEY not in path.read_text()
    assert load_keystore(path, "pässword ключ").address == ADDRESS
    assert Account.decrypt(json.loads(path.read_text()), "pässword ключ").hex() == KEY


def test_keystore_is_scrypt_at_full_strength(wallet: Wallet, tmp_path: Path) -> None:
    wallet.save_keystore(tmp_path / "key.json", "x")
    crypto = json.loads((tmp_path / "key.json").read_text())["crypto"]
    assert crypto["kdf"] == "scrypt"
    assert crypto["kdfparams"]["n"] == SCRYPT_WORK_FACTOR == 262_144


def test_key_is_never_overwritten(wallet: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("another key")
    with pytest.raises(Misconfigured, match="exists already"):
        wallet.save_keystore(path, "x", work_factor=FAST)
    assert path.read_text() == "another key"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_nothing(
    wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Misconfigured, match="cannot be written: No space left"):
        wallet.save_keystore(tmp_path / "key.json", "x", work_factor=FAST)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_and_passwordless_keystores(wallet: Wallet, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written: there is no such folder"):
        wallet.save_keystore(tmp_path / "none" / "key.json", "x", work_factor=FAST)
    with pytest.raises(Misconfigured, match="needs a password"):
        wallet.save_keystore(tmp_path / "key.json", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_keystore_that_others_reach_is_refused(wallet: Wallet, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    wallet.save_keystore(path, "x", work_factor=FAST)
    path.chmod(mode)
    with pytest.raises(Misconfigured, match=f"mode 0{mode:o}.*chmod 600"):
        load_keystore(path, "x")
    path.chmod(0o400)
    assert load_keystore(path, "x").address == ADDRESS


def test_wrong_password(wallet: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wallet.save_keystore(path, "right", work_factor=FAST)
    with pytest.raises(Misconfigured, match="the password does not open"):
        load_keystore(path, "wrong")


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '"text"', '{"version": 3}', "\0"])
def test_what_is_no_keystore(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="is not a keystore file") as caught:
        load_keystore(path, "x")
    assert "\n" not in str(caught.value)


def test_missing_keystore(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read: No such file"):
        load_keystore(tmp_path / "key.json", "x")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_keystore(tmp_path, "x")
