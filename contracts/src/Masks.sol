// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "./Average.sol";

/// @title Masked leaves and the streams that mask them: docs/protocol.md §13
/// @notice block(seed, leaf, c) = SHA-256(seed | uint32 leaf | uint32 c), of which 32 are a leaf of a stream: 256 values
///         of 32 bits, as many as a masked leaf has.
/// @dev Sums are kept in lanes of 64 bits: of word k of a leaf, word
///      2 * k of the sums holds the values at places 1, 3, 5, 7 and word 2 * k + 1 those at 0, 2, 4, 6. A lane grows by
///      2^32 at a time at most, so that 2^31 additions and subtractions fit; only its low 32 bits count. Golden vectors:
///      tests/vectors/masking.json.
library Masks {
    uint256 private constant LANES = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
    // 2^32 in each lane: what is taken from, so that no lane borrows from the next.
    uint256 private constant BORROWED = 0x0000000100000000000000010000000000000001000000000000000100000000;
    uint256 private constant WORDS = 32;

    /// @notice Sums of nothing.
    function empty() internal pure returns (uint256[] memory sums) {
        return new uint256[](2 * WORDS);
    }

    /// @notice Adds a masked leaf of 1,024 bytes.
    /// @dev In assembly, as Average.add.
    // slither-disable-next-line assembly
    function add(uint256[] memory sums, bytes calldata values) internal pure {
        assembly ("memory-safe") {
            let sum := add(sums, 0x20)
            for { let k := 0 } lt(k, values.length) { k := add(k, 0x20) } {
                let word := calldataload(add(values.offset, k))
                mstore(sum, add(mload(sum), and(word, LANES)))
                sum := add(sum, 0x20)
                mstore(sum, add(mload(sum), and(shr(32, word), LANES)))
                sum := add(sum, 0x20)
            }
        }
    }

    /// @notice Takes away what the owner of an update added: the stream of `seed` in leaf number `leaf`.
    /// @param isAdded False where the owner subtracted it: then it is added
    /// @dev Nothing of what is hashed is kept in memory, which only grows.
    // slither-disable-next-line assembly
    function remove(uint256[] memory sums, bytes32 seed, uint32 leaf, bool isAdded) internal view {
        assembly ("memory-safe") {
            let free := mload(0x40) // written beyond the end of what is allocated, and not allocated
            mstore(free, seed)
            let sum := add(sums, 0x20)
            for { let c := 0 } lt(c, WORDS) { c := add(c, 1) } {
                mstore(add(free, 0x20), or(shl(224, leaf), shl(192, c)))
                // Precompile 2 fails only for want of gas; then the whole call must.
                if iszero(staticcall(gas(), 2, free, 40, 0x00, 32)) { revert(0, 0) }
                let word := mload(0x00)
                let odd := and(word, LANES)
                let even := and(shr(32, word), LANES)
                if isAdded {
                    odd := sub(BORROWED, odd)
                    even := sub(BORROWED, even)
                }
                mstore(sum, add(mload(sum), odd))
                sum := add(sum, 0x20)
                mstore(sum, add(mload(sum), even))
                sum := add(sum, 0x20)
            }
        }
    }

    /// @notice The sums as library Average has them: read as signed numbers of 32 bits, held within +-127 * total, and
    ///         128 * total more.
    /// @param total Sum of the weights, below 2^24
    function held(uint256[] memory sums, uint256 total) internal pure returns (uint256[] memory result) {
        result = Average.empty();
        int256 most = int256(127 * total);
        unchecked {
            // Word `i` of the result has, in 8 lanes, the values at places i % 4, i % 4 + 4, … of 32 in a row; those
            // are four words of the leaf, of two words of sums each.
            for (uint256 i = 0; i < result.length; ++i) {
                uint256 word = 0;
                for (uint256 lane = 0; lane < 8; ++lane) {
                    uint256 place = 4 * (lane % 2) + i % 4; // among the 8 values of a word of the leaf
                    // slither-disable-next-line divide-before-multiply
                    uint256 lanes = sums[2 * (4 * (i / 4) + lane / 2) + 1 - place % 2];
                    // slither-disable-next-line divide-before-multiply
                    int256 sum = int32(uint32(lanes >> (192 - 64 * (place / 2))));
                    if (sum > most) sum = most;
                    if (sum < -most) sum = -most;
                    word = word << 32 | uint256(sum + int256(128 * total));
                }
                result[i] = word;
            }
        }
    }
}
