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

    /// @notice Sums of nothing.
    /// @return sums Four words for 32 values: those at places 0, 4, 8, …, then those at 1, 5, 9, …, and so on
    function empty() internal pure returns (uint256[] memory sums) {
        return new uint256[](4 * UPDATE_WORDS);
    }

    /// @notice Adds `weight` times every value of an update's leaf to `sums`. All weights together are below 2^24.
    function add(uint256[] memory sums, bytes calldata values, uint256 weight) internal pure {
        for (uint256 k = 0; k < UPDATE_WORDS; ++k) {
            uint256 word = uint256(bytes32(values[32 * k:])) ^ UPDATE_SIGNS;
            unchecked {
                // No lane can reach the next one: see above.
                sums[4 * k] += ((word >> 24) & LANES) * weight;
                sums[4 * k + 1] += ((word >> 16) & LANES) * weight;
                sums[4 * k + 2] += ((word >> 8) & LANES) * weight;
                sums[4 * k + 3] += (word & LANES) * weight;
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
    function isBounded(uint256 s, bytes calldata before, bytes calldata model) internal pure returns (bool) {
        uint256 most = MOST_STEPS << s;
        for (uint256 k = 0; k < MODEL_WORDS; ++k) {
            uint256 old = _modelWord(before, k);
            uint256 moved = _modelWord(model, k);
            if (old == moved) continue;
            for (uint256 place = 0; place < 256; place += 32) {
                uint256 x = (old >> place) & LANE;
                uint256 y = (moved >> place) & LANE;
                if ((x < y ? y - x : x - y) > most) return false;
            }
        }
        return true;
    }

    /// @dev The word that follows `old`: values 8 * k to 8 * k + 7.
    function _averages(uint256[] memory sums, uint256 k, uint256 total, uint256 s, uint256 old)
        private
        pure
        returns (uint256 word)
    {
        for (uint256 i = 0; i < 8; ++i) {
            uint256 place = 224 - 32 * i;
            // Four sums in a row lie in four words, at the same place.
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
