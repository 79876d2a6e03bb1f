// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The average of updates: docs/protocol.md §7
/// @notice new = old + floor((2^(s+1) * S + W) / (2 * W)), held within +-(2^31 - 1), where S = sum(w*d) is held within
///         +-127 * W, W = sum(w) < 2^24, d is a signed byte of an update, old and new signed 32-bit values of the models.
/// @dev With u = d + 128 the sum is U = S + 128 * W, and the same division gives 128 * 2^s more: nothing is negative, so
///      Solidity's division, which rounds towards zero, rounds down. u is d with its sign bit flipped, as x + 2^31 is a
///      value x with its. As u < 2^8 and W < 2^24, U < 2^32: eight sums fit a word side by side, and one multiplication
///      weights eight values. U <= 255 * W always; U >= W where S is held. Golden vectors: tests/vectors/average.json.
library Average {
    uint256 private constant UPDATE_SIGNS = 0x8080808080808080808080808080808080808080808080808080808080808080;
    uint256 private constant MODEL_SIGNS = 0x8000000080000000800000008000000080000000800000008000000080000000;
    uint256 private constant LANES = 0x000000ff000000ff000000ff000000ff000000ff000000ff000000ff000000ff;
    uint256 private constant LANE = type(uint32).max;
    uint256 private constant UPDATE_WORDS = 8; // of 32 values
    uint256 private constant MODEL_WORDS = 32; // of 8 values
    uint256 private constant MOST_STEPS = 127;
    uint256 private constant WIDE_LANES = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
    uint256 private constant ONES = 0x0000000000000001000000000000000100000000000000010000000000000001;
    uint256 private constant BIAS = 1 << 40;

    /// @notice Sums of nothing.
    /// @return sums Four words for 32 values: those at places 0, 4, 8, …, then those at 1, 5, 9, …, and so on
    function empty() internal pure returns (uint256[] memory sums) {
        return new uint256[](4 * UPDATE_WORDS);
    }

    /// @notice Adds `weight` times every value of an update's leaf to `sums`. All weights together are below 2^24.
    /// @dev In assembly, since this is most of the work of a dispute over many updates. No lane can reach the next one:
    ///      see above.
    // slither-disable-next-line assembly
    function add(uint256[] memory sums, bytes calldata values, uint256 weight) internal pure {
        assembly ("memory-safe") {
            let sum := add(sums, 0x20)
            for { let k := 0 } lt(k, values.length) { k := add(k, 0x20) } {
                let word := xor(calldataload(add(values.offset, k)), UPDATE_SIGNS)
                for { let shift := 24 } lt(shift, 25) { shift := sub(shift, 8) } {
                    mstore(sum, add(mload(sum), mul(and(shr(shift, word), LANES), weight)))
                    sum := add(sum, 0x20)
                }
            }
        }
    }

    /// @notice Whether every value of `model` is what the updates added, whose weights sum up to `total`, make of the
    ///         value of `before`.
    /// @param s Bits of a model's step in an update's
    function isAverage(uint256[] memory sums, uint256 total, uint256 s, bytes calldata before, bytes calldata model)
        internal
        pure
        returns (bool)
    {
        for (uint256 k = 0; k < MODEL_WORDS; ++k) {
            if (_averages(sums, k, total, s, _modelWord(before, k)) != _modelWord(model, k)) return false;
        }
        return true;
    }

    /// @notice Whether no value of `model` is further from that of `before` than an average can move it.
    /// @param s Bits of a model's step in an update's
    /// @dev Four values a word, in lanes of 64 bits. A lane of `reach` is 2^40 more than the bound, so that a lane of
    ///      x + reach - y keeps its bit of 2^40 exactly when y is not too far above x, and so does 2 * reach less that
    ///      when it is not too far below. In assembly, as `add`.
    // slither-disable-next-line assembly
    function isBounded(uint256 s, bytes calldata before, bytes calldata model) internal pure returns (bool) {
        uint256 reach = (BIAS + (MOST_STEPS << s)) * ONES;
        uint256 twice = 2 * reach;
        uint256 near = type(uint256).max;
        assembly ("memory-safe") {
            for { let k := 0 } lt(k, model.length) { k := add(k, 0x20) } {
                let x := xor(calldataload(add(before.offset, k)), MODEL_SIGNS)
                let y := xor(calldataload(add(model.offset, k)), MODEL_SIGNS)
                let way := sub(add(and(x, WIDE_LANES), reach), and(y, WIDE_LANES))
                near := and(near, and(way, sub(twice, way)))
                way := sub(add(and(shr(32, x), WIDE_LANES), reach), and(shr(32, y), WIDE_LANES))
                near := and(near, and(way, sub(twice, way)))
            }
        }
        return near & (BIAS * ONES) == BIAS * ONES;
    }

    /// @dev The word that follows `old`: values 8 * k to 8 * k + 7.
    function _averages(uint256[] memory sums, uint256 k, uint256 total, uint256 s, uint256 old)
        private
        pure
        returns (uint256 word)
    {
        for (uint256 i = 0; i < 8; ++i) {
            uint256 place = 224 - 32 * i;
            // Four sums in a row lie in four words, at the same place. Words are counted whole: rounding is meant.
            // slither-disable-next-line divide-before-multiply
            uint256 sum = (sums[4 * (k / 4) + i % 4] >> (224 - 32 * ((2 * k + i / 4) % 8))) & LANE;
            word |= _average((old >> place) & LANE, sum, total, s) << place;
        }
    }

    /// @dev One value, sign bits flipped: 1 stands for -(2^31 - 1).
    function _average(uint256 old, uint256 sum, uint256 total, uint256 s) private pure returns (uint256) {
        unchecked {
            // Below 2^32 * 2^25 everywhere; total is not 0, since every weight added is positive.
            if (sum < total) sum = total;
            uint256 up = old + ((sum << (s + 1)) + total) / (2 * total);
            uint256 down = 128 << s;
            if (up <= down) return 1;
            return up - down < LANE ? up - down : LANE;
        }
    }

    /// @dev Eight values from value 8 * k on, sign bits flipped.
    function _modelWord(bytes calldata values, uint256 k) private pure returns (uint256) {
        return uint256(bytes32(values[32 * k:])) ^ MODEL_SIGNS;
    }
}
