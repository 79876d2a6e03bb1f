// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Tree and average as docs/protocol.md §4 and §7 have them, written without a look at src/: whole trees, one value
///      at a time, signed numbers.
library Trees {
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

    /// @dev The leaf of means of `leaves`, which are one leaf of each update.
    function mean(bytes[] memory leaves, uint32[] memory weights) internal pure returns (bytes memory result) {
        result = new bytes(leaves[0].length);
        for (uint256 at = 0; at < result.length; at += 4) {
            int256 sum = 0;
            int256 total = 0;
            for (uint256 i = 0; i < leaves.length; ++i) {
                sum += int256(uint256(weights[i])) * value(leaves[i], at);
                total += int256(uint256(weights[i]));
            }
            put(result, at, _floor(2 * sum + total, 2 * total));
        }
    }

    /// @dev The signed big-endian value that stands at byte `at`.
    function value(bytes memory leaf, uint256 at) internal pure returns (int256) {
        uint32 raw = 0;
        for (uint256 k = 0; k < 4; ++k) {
            raw = raw << 8 | uint8(leaf[at + k]);
        }
        return int32(raw);
    }

    function put(bytes memory leaf, uint256 at, int256 number) internal pure {
        bytes4 raw = bytes4(uint32(int32(number)));
        for (uint256 k = 0; k < 4; ++k) {
            leaf[at + k] = raw[k];
        }
    }

    function _floor(int256 numerator, int256 denominator) private pure returns (int256 quotient) {
        quotient = numerator / denominator;
        if (quotient * denominator > numerator) quotient -= 1;
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
