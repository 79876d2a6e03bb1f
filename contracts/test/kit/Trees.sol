// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Tree and average as docs/protocol.md §4 and §7 have them, written without a look at src/: whole trees, one value
///      at a time, signed numbers of 256 bits.
library Trees {
    int256 internal constant LARGEST = 2 ** 31 - 1;

    function root(bytes[] memory leaves) internal pure returns (bytes32) {
        bytes32[] memory row = _row(leaves);
        while (row.length > 1) row = _above(row);
        return row[0];
    }

    function proof(bytes[] memory leaves, uint256 index) internal pure returns (bytes32[] memory siblings) {
        return proofOf(_row(leaves), index);
    }

    /// @dev The same over the digests of all places, empty ones included.
    function proofOf(bytes32[] memory row, uint256 index) internal pure returns (bytes32[] memory siblings) {
        siblings = new bytes32[](_depth(row.length));
        for (uint256 level = 0; level < siblings.length; ++level) {
            siblings[level] = row[index ^ 1];
            row = _above(row);
            index /= 2;
        }
    }

    /// @dev The root that a leaf and its proof lead to.
    function fold(bytes memory leaf, uint256 index, bytes32[] memory siblings) internal pure returns (bytes32 digest) {
        digest = sha256(bytes.concat(hex"00", leaf));
        for (uint256 level = 0; level < siblings.length; ++level) {
            digest = (index >> level) & 1 == 0
                ? sha256(bytes.concat(hex"01", digest, siblings[level]))
                : sha256(bytes.concat(hex"01", siblings[level], digest));
        }
    }

    /// @dev Leaf of the new model: `before` has four bytes a value, each update one, a difference in steps of 2^shift.
    function moved(bytes memory before, bytes[] memory updates, uint256[] memory weights, uint256 shift)
        internal
        pure
        returns (bytes memory result)
    {
        result = new bytes(before.length);
        int256 total = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            total += int256(weights[i]);
        }
        for (uint256 k = 0; 4 * k < before.length; ++k) {
            int256 sum = 0;
            for (uint256 i = 0; i < updates.length; ++i) {
                sum += int256(weights[i]) * difference(updates[i], k);
            }
            put(result, k, next(value(before, k), sum, total, shift));
        }
    }

    /// @dev new = old + floor((2^(s+1) * S + W) / (2 * W)) with S held within 127 * W, the result within 2^31 - 1.
    function next(int256 old, int256 sum, int256 total, uint256 shift) internal pure returns (int256) {
        sum = hold(sum, 127 * total);
        return hold(old + floor(int256(2 ** (shift + 1)) * sum + total, 2 * total), LARGEST);
    }

    function hold(int256 number, int256 limit) internal pure returns (int256) {
        if (number > limit) return limit;
        return number < -limit ? -limit : number;
    }

    function floor(int256 numerator, int256 denominator) internal pure returns (int256 quotient) {
        quotient = numerator / denominator;
        if (quotient * denominator > numerator) quotient -= 1;
    }

    /// @dev Value `k` of an update's leaf.
    function difference(bytes memory leaf, uint256 k) internal pure returns (int256) {
        return int8(uint8(leaf[k]));
    }

    /// @dev Value `k` of a model's leaf, signed and big-endian.
    function value(bytes memory leaf, uint256 k) internal pure returns (int256) {
        uint32 raw = 0;
        for (uint256 j = 0; j < 4; ++j) {
            raw = raw << 8 | uint8(leaf[4 * k + j]);
        }
        return int32(raw);
    }

    function put(bytes memory leaf, uint256 k, int256 number) internal pure {
        bytes4 raw = bytes4(uint32(int32(number)));
        for (uint256 j = 0; j < 4; ++j) {
            leaf[4 * k + j] = raw[j];
        }
    }

    function putDifference(bytes memory leaf, uint256 k, int256 number) internal pure {
        leaf[k] = bytes1(uint8(int8(number)));
    }

    function _depth(uint256 leaves) private pure returns (uint256 depth) {
        while (1 << depth < leaves) depth += 1;
    }

    function _row(bytes[] memory leaves) private pure returns (bytes32[] memory row) {
        row = new bytes32[](1 << _depth(leaves.length));
        for (uint256 i = 0; i < leaves.length; ++i) {
            row[i] = sha256(bytes.concat(hex"00", leaves[i]));
        }
    }

    function _above(bytes32[] memory row) private pure returns (bytes32[] memory above) {
        above = new bytes32[](row.length / 2);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = sha256(bytes.concat(hex"01", row[2 * i], row[2 * i + 1]));
        }
    }
}
