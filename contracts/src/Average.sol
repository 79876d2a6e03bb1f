// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The weighted mean of leaves: docs/protocol.md §7
/// @notice mean = floor((2 * sum(w*x) + W) / (2 * W)) for signed 32-bit x, with W = sum(w) < 2^31.
/// @dev With u = x + 2^31 the mean of x is floor((2 * sum(w*u) + W) / (2 * W)) - 2^31: nothing is negative, so
///      Solidity's division, which rounds towards zero, rounds down. u is x with its sign bit flipped. As u < 2^32
///      and W < 2^31, a sum stays below 2^63: four of them fit a word side by side, and one multiplication weights
///      four values. Golden vectors: tests/vectors/average.json.
library Average {
    uint256 private constant LANES = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
    uint256 private constant SIGN_BITS = 0x8000000080000000800000008000000080000000800000008000000080000000;
    uint256 private constant LANE = type(uint64).max;
    uint256 private constant WORD_VALUES = 8;

    /// @notice Sums of nothing, for leaves of `leafValues` values.
    /// @return sums Two words for eight values: those at even places, then those at odd ones
    function empty(uint256 leafValues) internal pure returns (uint256[] memory sums) {
        // Words are counted whole before they are doubled: rounding up is what is wanted.
        // slither-disable-next-line divide-before-multiply
        sums = new uint256[](2 * ((leafValues + WORD_VALUES - 1) / WORD_VALUES));
    }

    /// @notice Adds `weight` times every value of a leaf to `sums`. All weights together are below 2^31.
    function add(uint256[] memory sums, bytes calldata values, uint256 weight) internal pure {
        for (uint256 k = 0; k < sums.length; k += 2) {
            uint256 word = _word(values, k);
            unchecked {
                // No lane can reach the next one: see above.
                sums[k] += ((word >> 32) & LANES) * weight;
                sums[k + 1] += (word & LANES) * weight;
            }
        }
    }

    /// @notice Whether every value of `model` is the mean of the leaves added, whose weights sum up to `total`.
    function isMean(uint256[] memory sums, uint256 total, bytes calldata model) internal pure returns (bool) {
        for (uint256 k = 0; k < sums.length; k += 2) {
            uint256 word = _word(model, k);
            if (_means(sums[k], total) != (word >> 32) & LANES) return false;
            if (_means(sums[k + 1], total) != word & LANES) return false;
        }
        return true;
    }

    /// @dev Divides each of the four sums in a word.
    function _means(uint256 sums, uint256 total) private pure returns (uint256 means) {
        for (uint256 shift = 0; shift < 256; shift += 64) {
            uint256 sum = (sums >> shift) & LANE;
            means |= ((2 * sum + total) / (2 * total)) << shift;
        }
    }

    /// @dev Eight values from value 4*k on, sign bits flipped; beyond the end they are zero, and so is their mean.
    function _word(bytes calldata values, uint256 k) private pure returns (uint256) {
        return uint256(bytes32(values[16 * k:])) ^ SIGN_BITS;
    }
}
