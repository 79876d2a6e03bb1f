"""The dev chain as web3.py and plain HTTP clients see it."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError

from chain.devchain import DEV_ACCOUNTS, DevChain, dev_account, dev_keys
from chain.devchain.ledger import BLOCK_GAS_LIMIT, Ledger
from chain.devchain.server import MAX_BODY_BYTES
from tests.chain.probe import ABI, CODE

GWEI = 10**9
ALICE, BOB, CAROL = dev_account(0), dev_account(1), dev_account(2)


@pytest.fixture(scope="module")
def dev_chain() -> Iterator[DevChain]:
    with DevChain() as running:
        yield running


@pytest.fixture(scope="module")
def w3(dev_chain: DevChain) -> Web3:
    return Web3(Web3.HTTPProvider(dev_chain.url))


@pytest.fixture(scope="module")
def probe(w3: Web3) -> Any:
    sent = w3.eth.contract(abi=ABI, bytecode=CODE).constructor().transact({"from": ALICE.address})
    receipt = w3.eth.wait_for_transaction_receipt(sent)
    return w3.eth.contract(address=receipt["contractAddress"], abi=ABI)


def send(w3: Web3, account: Any, **fields: Any) -> Any:
    """Sign, send and return the receipt."""
    filled = {
        "chainId": 31337,
        "nonce": w3.eth.get_transaction_count(account.address),
        "gas": 200_000,
        "to": BOB.address,
        **fields,
    }
    sent = w3.eth.send_raw_transaction(account.sign_transaction(filled).raw_transaction)
    return w3.eth.get_transaction_receipt(sent)


def refusal(w3: Web3, account: Any, **fields: Any) -> Any:
    """Return the error object that sending such a transaction earns."""
    filled = {"chainId": 31337, "gas": 21_000, "to": BOB.address, "gasPrice": 2 * GWEI, **fields}
    filled.setdefault("nonce", w3.eth.get_transaction_count(account.address))
    return refusal_of(w3, account.sign_transaction(filled).raw_transaction)


def refusal_of(w3: Web3, raw: bytes) -> Any:
    return request(w3, "eth_sendRawTransaction", "0x" + bytes(raw).hex())["error"]


def request(w3: Web3, method: str, *params: Any) -> Any:
    return w3.provider.make_request(method, list(params))  # type: ignore[arg-type]


class TestAccounts:
    def test_dev_accounts_are_those_of_the_public_mnemonic(self, w3: Web3) -> None:
        assert ALICE.address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        assert list(w3.eth.accounts) == [dev_account(n).address for n in range(DEV_ACCOUNTS)]
        assert dev_keys()[1] == bytes(BOB.key)
        assert w3.eth.get_balance(dev_account(19).address, 0) == 10_000 * 10**18

    def test_there_is_no_account_twenty(self) -> None:
        with pytest.raises(ValueError, match="does not exist"):
            dev_account(DEV_ACCOUNTS)


class TestTransactions:
    def test_identity(self, w3: Web3) -> None:
        assert w3.eth.chain_id == 31337
        assert w3.net.version == "31337"
        assert w3.eth.syncing is False
        assert "devchain" in w3.client_version

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"gasPrice": 3 * GWEI}, 0),
            (
                {
                    "gasPrice": 3 * GWEI,
                    "accessList": [{"address": BOB.address, "storageKeys": ["0x" + "01" * 32]}],
                },
                1,
            ),
            ({"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI}, 2),
        ],
    )
    def test_each_type_is_mined_and_charged(
        self, w3: Web3, fields: dict[str, Any], kind: int
    ) -> None:
        before = w3.eth.get_balance(ALICE.address), w3.eth.get_balance(BOB.address)
        receipt = send(w3, ALICE, value=5, **fields)
        found: Any = w3.eth.get_transaction(receipt["transactionHash"])
        base_fee = w3.eth.get_block(receipt["blockNumber"])["baseFeePerGas"]
        price = base_fee + GWEI if kind == 2 else 3 * GWEI
        assert (receipt["status"], receipt["type"], found["type"]) == (1, kind, kind)
        assert (found["from"], found["to"], found["value"]) == (ALICE.address, BOB.address, 5)
        assert found["chainId"] == 31337
        assert receipt["effectiveGasPrice"] == found["gasPrice"] == price
        assert receipt["gasUsed"] == (21_000 if kind != 1 else 21_000 + 2_400 + 1_900)
        assert w3.eth.get_balance(BOB.address) == before[1] + 5
        assert w3.eth.get_balance(ALICE.address) == before[0] - 5 - receipt["gasUsed"] * price

    def test_legacy_without_chain_id_is_taken(self, w3: Web3) -> None:
        fields: dict[str, Any] = {"gasPrice": 2 * GWEI, "gas": 21_000, "to": BOB.address}
        nonce = w3.eth.get_transaction_count(CAROL.address)
        signed = CAROL.sign_transaction({**fields, "nonce": nonce})
        found: Any = w3.eth.get_transaction(w3.eth.send_raw_transaction(signed.raw_transaction))
        assert found["from"] == CAROL.address
        assert "chainId" not in found

    def test_a_contract_is_created_at_its_address(self, w3: Web3, probe: Any) -> None:
        assert len(w3.eth.get_code(probe.address)) > 100
        assert w3.eth.get_code(BOB.address) == b""
        probe.functions.store(77).transact({"from": BOB.address})
        assert probe.functions.value().call() == 77
        assert int.from_bytes(w3.eth.get_storage_at(probe.address, 0), "big") == 77

    def test_code_above_the_size_limit_is_not_created(self, w3: Web3) -> None:
        largest = 24_576  # EIP-170
        for size, status in ((largest, 1), (largest + 1, 0)):
            code = bytes.fromhex(f"61{size:04x}5ff3")
            sent = send(w3, ALICE, to="", data=code, gas=6_000_000, gasPrice=2 * GWEI)
            assert sent["status"] == status

    def test_a_transaction_of_16_million_gas_is_mined(self, w3: Web3, probe: Any) -> None:
        sent = probe.functions.fill(730).transact({"from": ALICE.address, "gas": 16_700_000})
        receipt = w3.eth.get_transaction_receipt(sent)
        assert receipt["status"] == 1
        assert 16_000_000 < receipt["gasUsed"] < 16_700_000

    def test_every_block_passes_py_evms_own_import(self, dev_chain: DevChain, w3: Web3) -> None:
        """Blocks must be what any verifier computes, the mix hash included."""
        assert dev_chain._server is not None
        ledger = dev_chain._server.node.ledger
        other = Ledger(31337, ledger.blocks[0].timestamp)
        for block in ledger.blocks[1:6]:
            other.chain.import_block(ledger.chain.get_block_by_hash(block.hash))
        assert other.chain.get_canonical_head().hash == ledger.blocks[5].hash
        assert isinstance(ledger._backend, PyEVMBackend)


class TestRefusals:
    def test_nonce(self, w3: Web3) -> None:
        send(w3, ALICE, gasPrice=2 * GWEI)
        following = w3.eth.get_transaction_count(ALICE.address, "pending")
        low = refusal(w3, ALICE, nonce=following - 1, value=123)
        high = refusal(w3, ALICE, nonce=following + 2)
        assert low == {
            "code": -32000,
            "message": f"nonce too low: next nonce {following}, tx nonce {following - 1}",
        }
        assert high["message"].startswith(f"nonce too high: next nonce {following}")

    def test_known_transaction(self, w3: Web3) -> None:
        nonce = w3.eth.get_transaction_count(ALICE.address)
        fields: dict[str, Any] = {"chainId": 31337, "gas": 21_000, "gasPrice": 2 * GWEI}
        signed = ALICE.sign_transaction({**fields, "nonce": nonce, "to": BOB.address})
        w3.eth.send_raw_transaction(signed.raw_transaction)
        assert refusal_of(w3, signed.raw_transaction) == {
            "code": -32000,
            "message": "already known",
        }
        assert w3.eth.get_transaction_count(ALICE.address) == nonce + 1

    def test_funds(self, w3: Web3) -> None:
        balance = w3.eth.get_balance(dev_account(7).address)
        error = refusal(w3, dev_account(7), value=balance)
        assert error["code"] == -32000
        assert error["message"] == (
            f"insufficient funds for gas * price + value: balance {balance},"
            f" tx cost {balance + 21_000 * 2 * GWEI}, overshot {21_000 * 2 * GWEI}"
        )

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"chainId": 1}, "invalid chain id for signer: have 1 want 31337"),
            ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
            ({"gas": BLOCK_GAS_LIMIT + 1}, "exceeds block gas limit"),
            # EIP-7623: 40 gas for a non-zero byte, though 16 would be the intrinsic cost
            ({"gas": 24_000, "data": b"\1" * 100}, "minimum needed 25000"),
            ({"gasPrice": 1}, "max fee per gas less than block base fee"),
            ({"to": "", "gas": 10**6, "data": bytes(49_153)}, "max initcode size exceeded"),
        ],
    )
    def test_rules(self, w3: Web3, fields: dict[str, Any], words: str) -> None:
        head = w3.eth.block_number
        error = refusal(w3, ALICE, **fields)
        assert error["code"] == -32000
        assert words in error["message"]
        assert w3.eth.block_number == head

    def test_tip_above_fee(self, w3: Web3) -> None:
        fields: dict[str, Any] = {"chainId": 31337, "gas": 21_000, "to": BOB.address}
        fees = {"maxFeePerGas": GWEI, "maxPriorityFeePerGas": 2 * GWEI}
        nonce = w3.eth.get_transaction_count(ALICE.address)
        raw = ALICE.sign_transaction({**fields, **fees, "nonce": nonce}).raw_transaction
        assert "max priority fee per gas higher" in refusal_of(w3, raw)["message"]

    @pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x02\xc0", b"\xf8\x6b" + bytes(20)])
    def test_what_is_no_transaction(self, w3: Web3, raw: bytes) -> None:
        assert refusal_of(w3, raw)["code"] == -32602

    def test_blob_and_set_code_transactions(self, w3: Web3) -> None:
        for kind in (3, 4):
            assert refusal_of(w3, bytes([kind]) + b"\xc0")["message"] == (
                "transaction type not supported"
            )

    def test_a_stranger_cannot_have_transactions_signed(self, w3: Web3) -> None:
        stranger = "0x" + "33" * 20
        error = request(w3, "eth_sendTransaction", {"from": stranger, "to": BOB.address})["error"]
        assert "unknown account 0x3333" in error["message"]


class TestReverts:
    def test_custom_error_comes_with_its_bytes(self, probe: Any) -> None:
        wanted = keccak(b"Refused(uint256,uint256)")[:4] + bytes(31) + b"\4" + bytes(31) + b"\7"
        for action in (probe.functions.refuse(4).call, probe.functions.refuse(4).estimate_gas):
            with pytest.raises(ContractCustomError) as caught:
                action()
            assert caught.value.data == "0x" + wanted.hex()

    def test_error_object(self, w3: Web3, probe: Any) -> None:
        data = probe.functions.refuse(4)._encode_transaction_data()
        error = request(w3, "eth_call", {"to": probe.address, "data": data}, "latest")["error"]
        assert (error["code"], error["message"]) == (3, "execution reverted")
        assert error["data"].startswith("0x" + keccak(b"Refused(uint256,uint256)")[:4].hex())

    def test_reason(self, probe: Any) -> None:
        with pytest.raises(ContractLogicError, match="execution reverted: not today"):
            probe.functions.complain().call()

    def test_a_reverting_transaction_is_mined_with_status_0(self, w3: Web3, probe: Any) -> None:
        data = probe.functions.refuse(4)._encode_transaction_data()
        receipt = send(w3, ALICE, to=probe.address, data=data, gasPrice=2 * GWEI)
        assert (receipt["status"], receipt["logs"]) == (0, [])
        assert receipt["blockNumber"] == w3.eth.block_number
        assert w3.eth.get_transaction_count(ALICE.address) == 1 + w3.eth.get_transaction_count(
            ALICE.address, receipt["blockNumber"] - 1
        )

    def test_out_of_gas_is_told_apart(self, w3: Web3, probe: Any) -> None:
        data = probe.functions.fill(50)._encode_transaction_data()
        call = {"to": probe.address, "data": data, "gas": hex(50_000)}
        assert request(w3, "eth_call", call)["error"] == {"code": -32000, "message": "out of gas"}
        assert (
            "exceeds allowance (50000)" in request(w3, "eth_estimateGas", call)["error"]["message"]
        )


class TestBlocks:
    def test_tags_numbers_and_hashes(self, w3: Web3) -> None:
        latest = w3.eth.get_block("latest")
        for name in ("safe", "finalized", latest["number"], latest["hash"]):
            assert w3.eth.get_block(name)["hash"] == latest["hash"]
        assert w3.eth.get_block("earliest")["number"] == 0
        pending: Any = w3.eth.get_block("pending")
        assert pending["parentHash"] == latest["hash"]
        assert (pending["number"], pending["hash"]) == (latest["number"] + 1, None)
        assert request(w3, "eth_getBlockByNumber", hex(10**6), False)["result"] is None
        assert request(w3, "eth_getBlockByHash", "0x" + "00" * 32, False)["result"] is None

    def test_full_transactions_and_receipts(self, w3: Web3, probe: Any) -> None:
        sent = probe.functions.store(1).transact({"from": ALICE.address})
        block: Any = w3.eth.get_block("latest", full_transactions=True)
        assert [item["hash"] for item in block["transactions"]] == [sent]
        assert w3.eth.get_block("latest")["transactions"] == [sent]
        assert block["transactions"][0] == w3.eth.get_transaction(sent)
        receipts = request(w3, "eth_getBlockReceipts", "latest")["result"]
        assert receipts == [request(w3, "eth_getTransactionReceipt", sent.to_0x_hex())["result"]]
        assert w3.eth.get_block_transaction_count("latest") == 1
        assert w3.eth.get_transaction_by_block(block["number"], 0)["hash"] == sent

    def test_unknown_transaction(self, w3: Web3) -> None:
        assert request(w3, "eth_getTransactionByHash", "0x" + "00" * 32)["result"] is None
        assert request(w3, "eth_getTransactionReceipt", "0x" + "00" * 32)["result"] is None

    def test_state_is_that_of_the_block_asked_for(self, w3: Web3, probe: Any) -> None:
        probe.functions.store(10).transact({"from": ALICE.address})
        at = w3.eth.get_block("latest")
        probe.functions.store(11).transact({"from": ALICE.address})
        assert probe.functions.value().call() == 11
        assert probe.functions.value().call(block_identifier=at["number"]) == 10
        assert probe.functions.value().call(block_identifier=at["hash"]) == 10
        data = probe.functions.value()._encode_transaction_data()
        call = {"to": probe.address, "data": data}
        by_object = request(w3, "eth_call", call, {"blockHash": at["hash"].to_0x_hex()})
        assert int(by_object["result"], 16) == 10

    def test_randao_is_that_of_the_header_and_changes(self, w3: Web3, probe: Any) -> None:
        seen = []
        for _ in range(3):
            probe.functions.store(1).transact({"from": ALICE.address})
            block = w3.eth.get_block("latest")
            assert keccak(block["parentHash"]) == block["mixHash"]
            assert probe.functions.storedRandao().call() == int.from_bytes(block["mixHash"], "big")
            seen.append(block["mixHash"])
        assert len(set(seen)) == 3

    def test_fee_history(self, w3: Web3) -> None:
        sent = send(w3, ALICE, maxFeePerGas=3 * GWEI, maxPriorityFeePerGas=7)
        history: Any = w3.eth.fee_history(2, "latest", [0, 100])
        head = w3.eth.get_block("latest")
        assert history["oldestBlock"] == head["number"] - 1
        assert history["baseFeePerGas"][1] == head["baseFeePerGas"]
        assert history["baseFeePerGas"][2] == w3.eth.get_block("pending")["baseFeePerGas"]
        assert history["gasUsedRatio"][1] == sent["gasUsed"] / BLOCK_GAS_LIMIT
        assert history["reward"][1] == [7, 7]
        assert len(w3.eth.fee_history(10_000, "latest")["gasUsedRatio"]) == head["number"] + 1

    def test_base_fee_follows_eip_1559(self, w3: Web3) -> None:
        w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
        head = w3.eth.get_block("latest")
        following = w3.eth.get_block("pending")["baseFeePerGas"]
        assert following == head["baseFeePerGas"] - head["baseFeePerGas"] // 8
        assert w3.eth.gas_price == following + w3.eth.max_priority_fee

    def test_an_estimate_suffices_and_is_close(self, w3: Web3, probe: Any) -> None:
        call = probe.functions.fill(60 + w3.eth.block_number)
        gas = call.estimate_gas({"from": ALICE.address})
        data = call._encode_transaction_data()
        receipt = send(w3, ALICE, to=probe.address, data=data, gas=gas, gasPrice=2 * GWEI)
        assert receipt["status"] == 1
        assert receipt["gasUsed"] <= gas <= receipt["gasUsed"] * 1.3
        assert w3.eth.estimate_gas({"from": ALICE.address, "to": BOB.address}) == 21_000


class TestLogs:
    def test_selection(self, w3: Web3, probe: Any) -> None:
        first = w3.eth.block_number + 1
        for account, value in ((ALICE, 5), (BOB, 6), (ALICE, 7)):
            probe.functions.store(value).transact({"from": account.address})
        w3.eth.send_transaction({"from": ALICE.address, "to": BOB.address})

        def values(**criteria: Any) -> list[int]:
            found = w3.eth.get_logs({"fromBlock": first, **criteria})  # type: ignore[typeddict-item]
            return [int.from_bytes(log["topics"][2], "big") for log in found]

        def word(value: int) -> str:
            return "0x" + value.to_bytes(32, "big").hex()

        def who(account: Any) -> str:
            return "0x" + "00" * 12 + str(account.address)[2:].lower()

        stored = "0x" + keccak(b"Stored(address,uint256)").hex()
        assert values() == values(topics=[stored]) == values(toBlock="latest") == [5, 6, 7]
        assert values(toBlock=first + 1) == [5, 6]
        assert values(address=probe.address) == values(address=[BOB.address, probe.address])
        assert values(address=BOB.address) == []
        assert values(topics=[None, who(ALICE)]) == [5, 7]
        assert values(topics=[stored, None, [word(6), word(7)]]) == [6, 7]
        assert values(topics=[stored, who(BOB), word(5)]) == []
        assert values(topics=[None, None, None, None]) == []
        assert values(fromBlock=first + 10) == []
        block = w3.eth.get_block(first + 1)
        (log,) = w3.eth.get_logs({"blockHash": block["hash"]})
        assert (log["blockNumber"], log["logIndex"], log["address"]) == (
            first + 1,
            0,
            probe.address,
        )

    def test_web3_events(self, w3: Web3, probe: Any) -> None:
        start = w3.eth.block_number
        watch = probe.events.Stored.create_filter(from_block="latest")
        blocks = w3.eth.filter("latest")
        sent = probe.functions.store(9).transact({"from": BOB.address})
        (event,) = watch.get_new_entries()
        assert dict(event["args"]) == {"who": BOB.address, "value": 9}
        assert event["transactionHash"] == sent
        assert watch.get_new_entries() == []
        found: list[Any] = blocks.get_new_entries()
        assert found == [w3.eth.get_block("latest")["hash"]]
        assert len(probe.events.Stored().get_logs(from_block=start + 1)) == 1
        assert w3.eth.uninstall_filter(watch.filter_id)
        with pytest.raises(Web3RPCError, match="filter not found"):
            watch.get_new_entries()


class Http:
    """A bare HTTP client on one kept-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)

    def post(self, body: bytes | str, **headers: str) -> tuple[int, Any]:
        self.connection.request("POST", "/", body, {"Content-Type": "application/json", **headers})
        response = self.connection.getresponse()
        text = response.read()
        is_json = response.headers["Content-Type"] == "application/json" and text
        return response.status, json.loads(text) if is_json else text


@pytest.fixture
def post(dev_chain: DevChain) -> Iterator[Any]:
    client = Http(dev_chain.url)
    yield client.post
    client.connection.close()


class TestJsonRpc:
    @pytest.mark.parametrize("body", ["{", "", "[1,2", b"\xff\xfe", "[" * 100_000])
    def test_malformed_json(self, post: Any, body: Any) -> None:
        status, answer = post(body)
        assert (status, answer["error"]["code"], answer["id"]) == (200, -32700, None)

    @pytest.mark.parametrize(
        "body",
        ["1", "null", "[]", "{}", '{"id":1}', '{"id":1,"method":5}', '{"id":[],"method":"x"}'],
    )
    def test_invalid_request(self, post: Any, body: str) -> None:
        assert post(body)[1]["error"]["code"] == -32600

    def test_unknown_method(self, post: Any) -> None:
        _, answer = post('{"jsonrpc":"2.0","id":"x","method":"eth_mystery","params":[]}')
        assert answer == {
            "jsonrpc": "2.0",
            "id": "x",
            "error": {
                "code": -32601,
                "message": "the method eth_mystery does not exist/is not available",
            },
        }

    @pytest.mark.parametrize(
        ("method", "params"),
        [
            ("eth_getBalance", []),
            ("eth_getBalance", ["0x12", "latest"]),
            ("eth_getBalance", [ALICE.address, "soon"]),
            ("eth_getBalance", [ALICE.address, "latest", 1]),
            ("eth_getBlockByNumber", ["0x0", "yes"]),
            ("eth_getBlockByNumber", ["12", False]),
            ("eth_getBlockByNumber", [-1, False]),
            ("eth_getBlockByNumber", [True, False]),
            ("eth_getTransactionReceipt", ["0x1234"]),
            ("eth_call", ["0x00", "latest"]),
            ("eth_call", [{"to": ALICE.address, "data": "0xabc"}, "latest"]),
            ("eth_call", [{"to": ALICE.address}, "latest", {ALICE.address: {"balance": "0x1"}}]),
            ("eth_sendRawTransaction", ["nothing"]),
            ("eth_getLogs", ["0x0"]),
            ("eth_getLogs", [{"topics": ["0x12"]}]),
            ("eth_getLogs", [{"fromBlock": "0x0", "blockHash": "0x" + "00" * 32}]),
            ("eth_feeHistory", ["0x1", "latest", [50, 20]]),
            ("evm_setNextBlockTimestamp", ["0x1"]),
        ],
    )
    def test_wrong_parameters(self, post: Any, method: str, params: list[Any]) -> None:
        _, answer = post(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        )
        assert answer["error"]["code"] == -32602, answer

    def test_batch(self, post: Any) -> None:
        requests = [
            {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
            {"jsonrpc": "2.0", "method": "eth_blockNumber"},
            {"jsonrpc": "2.0", "id": "b", "method": "eth_nothing"},
            7,
        ]
        _, answers = post(json.dumps(requests))
        assert [answer["id"] for answer in answers] == [1, "b", None]
        assert answers[0]["result"] == "0x7a69"
        assert [answer["error"]["code"] for answer in answers[1:]] == [-32601, -32600]

    def test_notification_gets_no_answer(self, post: Any) -> None:
        assert post('{"jsonrpc":"2.0","method":"eth_chainId"}') == (200, b"")

    def test_web3_batch(self, w3: Web3) -> None:
        with w3.batch_requests() as batch:
            batch.add(w3.eth.get_block(0))
            batch.add(w3.eth.get_block("latest"))
            answers: list[Any] = batch.execute()
        assert [block["number"] for block in answers] == [0, w3.eth.block_number]


class TestHttp:
    CALL = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'

    def test_connection_is_kept(self, dev_chain: DevChain) -> None:
        client = Http(dev_chain.url)
        client.post(self.CALL)
        opened = client.connection.sock
        assert client.post(self.CALL)[1]["result"] == "0x7a69"
        assert opened is not None
        assert client.connection.sock is opened
        client.connection.close()

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("https://evil.example", 403),
            ("null", 403),
            ("http://localhost.evil.example", 403),
            ("http://evil.example/?http://localhost", 403),
            ("http://localhost:5173", 200),
            ("http://127.0.0.1", 200),
            ("chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn", 200),
        ],
    )
    def test_origin(self, post: Any, origin: str, status: int) -> None:
        assert post(self.CALL, Origin=origin)[0] == status

    def test_preflight(self, dev_chain: DevChain) -> None:
        client = Http(dev_chain.url).connection
        for origin, status in (("http://localhost:3000", 204), ("https://evil.example", 403)):
            client.request("OPTIONS", "/", headers={"Origin": origin})
            response = client.getresponse()
            response.read()
            assert response.status == status
            allowed = response.headers["Access-Control-Allow-Origin"]
            assert allowed == (origin if status == 204 else None)
        client.close()

    def test_body_size(self, post: Any) -> None:
        filler = " " * (MAX_BODY_BYTES - len(self.CALL))
        assert post(self.CALL + filler)[0] == 200
        assert post(self.CALL + filler + " ")[0] == 413

    def test_get_is_not_rpc(self, dev_chain: DevChain) -> None:
        client = Http(dev_chain.url).connection
        client.request("GET", "/")
        assert client.getresponse().status == 405
        client.close()

    def test_concurrent_clients(self, dev_chain: DevChain, w3: Web3) -> None:
        """Four clients send at once: each gets its own blocks, and none is lost."""
        start = w3.eth.block_number

        def work(index: int) -> list[Any]:
            mine = Web3(Web3.HTTPProvider(dev_chain.url))
            account = dev_account(10 + index)
            return [send(mine, account, gasPrice=2 * GWEI, value=index + 1) for _ in range(5)]

        with ThreadPoolExecutor(4) as pool:
            receipts = [receipt for group in pool.map(work, range(4)) for receipt in group]
        assert sorted(receipt["blockNumber"] for receipt in receipts) == list(
            range(start + 1, start + 21)
        )
        assert all(receipt["status"] == 1 for receipt in receipts)


def test_journal_is_optional(tmp_path: Path) -> None:
    with DevChain() as forgetful:
        assert forgetful.url.startswith("http://127.0.0.1:")
    assert list(tmp_path.iterdir()) == []
