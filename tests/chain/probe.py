"""A small contract for tests of the dev chain: its source, code and ABI.

The code is solc 0.8.37 with the optimizer (200 runs), EVM version cancun and no metadata, of:

    // SPDX-License-Identifier: Apache-2.0
    pragma solidity ^0.8.0;

    contract Probe {
        error Refused(uint256 wanted, uint256 found);
        event Stored(address indexed who, uint256 indexed value);

        uint256 public value;
        uint256 public storedRandao;
        uint256 public storedTime;
        mapping(uint256 => uint256) private cells;

        function store(uint256 v) external {
            (value, storedRandao, storedTime) = (v, block.prevrandao, block.timestamp);
            emit Stored(msg.sender, v);
        }
        function refuse(uint256 v) external pure { revert Refused(v, 7); }
        function complain() external pure { revert("not today"); }
        function fill(uint256 n) external { for (uint256 i = 0; i < n; i++) cells[i] = i + 1; }
        function nextBlock() external view returns (uint256, uint256, uint256) {
            return (block.timestamp, block.number, block.prevrandao);
        }
    }
"""

from typing import Any

CODE = (
    "0x6080604052348015600e575f5ffd5b506102178061001c5f395ff3fe608060405234801561000f575f5ffd5b50"
    "60043610610085575f3560e01c806383788fce1161005857806383788fce146100d5578063961b1386146100f2"
    "578063a60a07b2146100fa578063cc4c86ab1461010d575f5ffd5b80630687371c146100895780633fa4f24514"
    "6100a55780633fda5389146100ad5780636057361d146100c2575b5f5ffd5b61009260025481565b6040519081"
    "526020015b60405180910390f35b6100925f5481565b6100c06100bb3660046101db565b610116565b005b6100"
    "c06100d03660046101db565b610145565b60408051428152436020820152449181019190915260600161009c56"
    "5b6100c061017f565b6100c06101083660046101db565b6101b8565b61009260015481565b5f5b818110156101"
    "415761012b8160016101f2565b5f82815260036020526040902055600101610118565b5050565b426002554460"
    "01555f818155604051829133917febfcf7c0a1b09f6499e519a8d8bb85ce33cd539ec6cbd964e116cd74943ead"
    "1a9190a350565b60405162461bcd60e51b81526020600482015260096024820152686e6f7420746f64617960b8"
    "1b60448201526064015b60405180910390fd5b604051633d10320f60e21b815260048101829052600760248201"
    "526044016101af565b5f602082840312156101eb575f5ffd5b5035919050565b8082018082111561021157634e"
    "487b7160e01b5f52601160045260245ffd5b9291505056"
)

_NUMBER = {"name": "v", "type": "uint256"}
ABI: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "store",
        "inputs": [_NUMBER],
        "outputs": [],
        "stateMutability": "nonpayable",
    },
    {
        "type": "function",
        "name": "refuse",
        "inputs": [_NUMBER],
        "outputs": [],
        "stateMutability": "pure",
    },
    {
        "type": "function",
        "name": "complain",
        "inputs": [],
        "outputs": [],
        "stateMutability": "pure",
    },
    {
        "type": "function",
        "name": "fill",
        "inputs": [_NUMBER],
        "outputs": [],
        "stateMutability": "nonpayable",
    },
    {
        "type": "function",
        "name": "nextBlock",
        "inputs": [],
        "outputs": [_NUMBER, _NUMBER, _NUMBER],
        "stateMutability": "view",
    },
    {
        "type": "function",
        "name": "value",
        "inputs": [],
        "outputs": [_NUMBER],
        "stateMutability": "view",
    },
    {
        "type": "function",
        "name": "storedRandao",
        "inputs": [],
        "outputs": [_NUMBER],
        "stateMutability": "view",
    },
    {
        "type": "function",
        "name": "storedTime",
        "inputs": [],
        "outputs": [_NUMBER],
        "stateMutability": "view",
    },
    {
        "type": "event",
        "name": "Stored",
        "anonymous": False,
        "inputs": [
            {"name": "who", "type": "address", "indexed": True},
            {"name": "value", "type": "uint256", "indexed": True},
        ],
    },
    {
        "type": "error",
        "name": "Refused",
        "inputs": [
            {"name": "wanted", "type": "uint256"},
            {"name": "found", "type": "uint256"},
        ],
    },
]
