"""A wallet: one Ethereum key that signs, and the keystore file that holds it.

The key leaves the object only into an encrypted keystore (Web3 Secret Storage, scrypt). Keystore
files are readable by their owner alone (mode 0600) and are never overwritten.
"""

import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3.types import TxParams

from protocol.errors import Misconfigured
from protocol.text import parse_json
from protocol.types import Address

SCRYPT_WORK_FACTOR = 2**18  # geth's "standard": about a second and 256 MiB for each attempt

_KEY_BYTES: Final = 32  # that are derived, by the standard: 16 to decrypt, 16 to check
_MOST_WORK: Final = 2 << 30
_MOST_BYTES: Final = 1 << 20  # of a file: keystores have some hundred


class Wallet:
    """One key. `address` is public; the key itself is never shown, pickled or logged."""

    __slots__ = ("_account", "address")

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self.address = Address(account.address)

    @classmethod
    def create(cls) -> "Wallet":
        """Return a wallet with a new random key."""
        return cls(Account.create())

    @classmethod
    def from_key(cls, key: str | bytes) -> "Wallet":
        """Return the wallet of a 32-byte key or its hex digits, for dev chains with public keys.

        Raises Misconfigured, without the key in its text, for anything else.
        """
        try:
            return cls(Account.from_key(key))
        except Exception:
            # Any exception, and without its cause, which would carry the key into a traceback.
            raise Misconfigured(
                "a private key is 64 hex digits: something else was given"
            ) from None

    def sign(self, transaction: TxParams) -> bytes:
        """Return the signed transaction, ready for eth_sendRawTransaction."""
        fields: dict[str, Any] = dict(transaction)
        return bytes(self._account.sign_transaction(fields).raw_transaction)

    def sign_typed_data(
        self, domain: dict[str, Any], types: dict[str, Any], message: dict[str, Any]
    ) -> bytes:
        """Return the signature of a message by EIP-712: r, s and v, 65 bytes."""
        return bytes(self._account.sign_typed_data(domain, types, message).signature)

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wallet is not pickled: it would take its key along")

    def save_keystore(
        self, path: Path, password: str, *, work_factor: int = SCRYPT_WORK_FACTOR
    ) -> None:
        """Write the key, encrypted with `password`, to a new file that only its owner can read.

        The file appears whole or not at all. Raises Misconfigured when it exists already (a key is
        never overwritten), when the password is empty, or when the folder is not writable.
        """
        if not password:
            raise Misconfigured("a keystore needs a password: an empty one was given")
        check_new(path)
        keystore = self._account.encrypt(password, kdf="scrypt", iterations=work_factor)
        _write_new(path, json.dumps(keystore, indent=2).encode() + b"\n")


def check_new(path: Path) -> None:
    """Raise Misconfigured where no new keystore can be written at `path`, before one is made."""
    if path.exists() or path.is_symlink():
        raise Misconfigured(f"{path} exists already: a key is never overwritten")
    if not path.absolute().parent.is_dir():
        raise Misconfigured(f"the keystore {path} cannot be written: there is no such folder")


def load_keystore(path: Path, password: str) -> Wallet:
    """Return the wallet in a keystore file.

    Raises a one-line Misconfigured when there is no such file, when anyone but its owner can read
    it, when it is not a keystore, or when the password is wrong.
    """
    try:
        keystore = parse_json(_read_private(path))
    except ValueError as error:
        raise Misconfigured(f"{path} is not a keystore file: it is not JSON") from error
    try:
        _check_work(keystore)
        key = Account.decrypt(keystore, password)
    except Exception as error:
        # Any exception: the library reads the file's fields as they come.
        if "MAC mismatch" in str(error):
            raise Misconfigured(f"the password does not open {path}") from None
        raise Misconfigured(f"{path} is not a keystore file: {str(error)[:200]}") from None
    return Wallet.from_key(bytes(key))


def keystore_address(path: Path) -> Address:
    """Return the address of a keystore file's key, without its password.

    Raises Misconfigured as `load_keystore` does.
    """
    try:
        return Address(to_checksum_address(parse_json(_read_private(path))["address"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{path} is not a keystore file: it names no address") from error


def read_password(file: Path | None) -> str:
    """Return the password in `file`, without the newline at its end; blanks belong to it.

    Raises Misconfigured when there is no such file, when anyone but its owner can read it, or when
    it is empty.
    """
    if file is None:
        raise Misconfigured("no password: name its file as password_file in the settings")
    try:
        password = _read_private(file, "password file").decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        reason = "it is not text"
        raise Misconfigured(f"the password file {file} cannot be read: {reason}") from error
    if not password:
        raise Misconfigured(f"the password file {file} is empty")
    return password


def _check_work(keystore: Any) -> None:
    """Raise ValueError for a keystore whose key would take all memory or hours to derive."""
    crypto = keystore.get("crypto") or keystore["Crypto"]
    given = crypto["kdfparams"]
    if given["dklen"] != _KEY_BYTES:
        raise ValueError(f"a key of {_KEY_BYTES} bytes was expected")
    if crypto["kdf"] == "scrypt":
        work = 128 * int(given["n"]) * int(given["r"]) * int(given["p"])
    else:
        work = 128 * int(given["c"])  # as much time as so many bytes of scrypt, about
    if not 0 < work <= _MOST_WORK:
        raise ValueError(f"its key takes {work:,} bytes to derive, more than {_MOST_WORK:,}")


def _read_private(path: Path, what: str = "keystore") -> bytes:
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that it cannot be swapped in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Misconfigured(f"{path} is not a file: a {what} was expected")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise Misconfigured(
                    f"{path} can be read by others (mode {mode:04o}): run chmod 600 {path}"
                )
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise Misconfigured(f"the {what} {path} cannot be read: {error.strerror}") from error


def _write_new(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Private from the first moment: a chmod afterwards would leave a gap to read it in.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename, this fails when the name is taken
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name as well, which a crash could lose
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise Misconfigured(f"{path} exists already: a key is never overwritten") from error
    except OSError as error:
        raise Misconfigured(f"the keystore {path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
