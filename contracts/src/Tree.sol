// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The tree over leaves: docs/protocol.md §4
/// @notice leaf digest = SHA-256(0x00 | leaf), node digest = SHA-256(0x01 | left | right).
/// @dev Golden vectors: tests/vectors/tree.json.
library Tree {
    /// @notice The root of the tree in which `leaf` is number `index`; `index` must be below 2^proof.length.
    /// @param proof Siblings on the way up, the lowest first
    /// @dev A dispute hashes a thousand nodes: nothing of what is hashed is kept in memory, which only grows.
    // slither-disable-next-line assembly
    function rootOf(bytes calldata leaf, uint256 index, bytes32[] calldata proof) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let free := mload(0x40) // written beyond the end of what is allocated, and not allocated
            mstore8(free, 0x00)
            calldatacopy(add(free, 1), leaf.offset, leaf.length)
            // Precompile 2 fails only for want of gas; then the whole call must.
            if iszero(staticcall(gas(), 2, free, add(leaf.length, 1), 0x00, 32)) { revert(0, 0) }
            mstore8(free, 0x01)
            for { let level := 0 } lt(level, proof.length) { level := add(level, 1) } {
                let side := shl(5, and(shr(level, index), 1)) // 32 where the way comes from the right
                mstore(add(add(free, 1), side), mload(0x00))
                mstore(sub(add(free, 33), side), calldataload(add(proof.offset, shl(5, level))))
                if iszero(staticcall(gas(), 2, free, 65, 0x00, 32)) { revert(0, 0) }
            }
            root := mload(0x00)
        }
    }

    /// @notice Whether every sibling that covers no leaf of the first `leafCount` is the digest of such a place.
    /// @dev The way up from the last leaf passes all of them: a tree padded in another way has no proof of that leaf
    ///      that this accepts.
    function isPadded(uint256 leafCount, uint256 index, bytes32[] calldata proof) internal view returns (bool) {
        bytes32 empty = 0;
        for (uint256 level = 0; level < proof.length; ++level) {
            // Where a sibling on the right begins; where the path itself does when its sibling is on the left.
            uint256 begin = ((index >> level) | 1) << level;
            if (begin >= leafCount && proof[level] != empty) return false;
            empty = _node(empty, empty);
        }
        return true;
    }

    /// @dev sha256(abi.encodePacked(bytes1(0x01), left, right)), without keeping the 65 bytes.
    // slither-disable-next-line assembly
    function _node(bytes32 left, bytes32 right) private view returns (bytes32 digest) {
        assembly ("memory-safe") {
            let free := mload(0x40) // written beyond the end of what is allocated, and not allocated
            mstore8(free, 0x01)
            mstore(add(free, 1), left)
            mstore(add(free, 33), right)
            // Precompile 2 fails only for want of gas; then the whole call must.
            if iszero(staticcall(gas(), 2, free, 65, 0x00, 32)) { revert(0, 0) }
            digest := mload(0x00)
        }
    }
}
