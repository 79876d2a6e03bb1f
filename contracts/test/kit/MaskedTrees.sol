// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Trees} from "./Trees.sol";

/// @dev Masks as docs/protocol.md §13 has them, written without a look at src/: one value at a time.
library MaskedTrees {
    uint256 private constant VALUES = 256;

    /// @dev The stream of a seed in a leaf, as the values that a masked leaf has.
    function stream(bytes32 seed, uint256 leaf) internal pure returns (bytes memory result) {
        bytes32[] memory blocks = new bytes32[](32);
        for (uint256 c = 0; c < 32; ++c) {
            blocks[c] = sha256(abi.encodePacked(seed, uint32(leaf), uint32(c)));
        }
        return abi.encodePacked(blocks);
    }

    /// @dev The values that library Masks keeps in lanes, as a masked leaf has them: of word k of the leaf, word 2 * k of
    ///      the sums has those at odd places and the next one those at even places.
    function packed(uint256[] memory sums) internal pure returns (bytes memory result) {
        result = new bytes(4 * VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            uint256 word = sums[2 * (k / 8) + 1 - k % 2];
            Trees.put(result, k, int256(int32(uint32(word >> (192 - 64 * (k % 8 / 2))))));
        }
    }

    /// @dev An update's leaf, one byte a value, times its weight: four bytes a value.
    function weighted(bytes memory values, int256 weight) internal pure returns (bytes memory result) {
        result = new bytes(4 * VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            Trees.put(result, k, weight * Trees.difference(values, k));
        }
    }

    /// @dev Adds `sign` times every value, modulo 2^32.
    function add(bytes memory leaf, bytes memory values, int256 sign) internal pure {
        for (uint256 k = 0; k < VALUES; ++k) {
            int256 sum = Trees.value(leaf, k) + sign * Trees.value(values, k);
            Trees.put(leaf, k, int256(int32(uint32(uint256(sum)))));
        }
    }

    /// @dev Leaf of the new model from the signed sum of the updates in the average.
    function moved(bytes memory before, bytes memory sum, int256 total, uint256 shift)
        internal
        pure
        returns (bytes memory result)
    {
        result = new bytes(before.length);
        for (uint256 k = 0; k < VALUES; ++k) {
            Trees.put(result, k, Trees.next(Trees.value(before, k), Trees.value(sum, k), total, shift));
        }
    }
}
