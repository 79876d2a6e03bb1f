// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "../../src/Average.sol";
import {Tree} from "../../src/Tree.sol";

/// @dev Average and Tree behind external functions: they take calldata.
contract Libraries {
    function isAverage(
        bytes[] calldata updates,
        uint256[] calldata weights,
        uint256 shift,
        bytes calldata start,
        bytes calldata model
    ) external pure returns (bool) {
        uint256[] memory sums = Average.empty();
        uint256 total = 0;
        for (uint256 i = 0; i < updates.length; ++i) {
            Average.add(sums, updates[i], weights[i]);
            total += weights[i];
        }
        return Average.isAverage(sums, total, shift, start, model);
    }

    function isBounded(uint256 shift, bytes calldata start, bytes calldata model) external pure returns (bool) {
        return Average.isBounded(shift, start, model);
    }

    function rootOf(bytes calldata leaf, uint256 index, bytes32[] calldata proof) external view returns (bytes32) {
        return Tree.rootOf(leaf, index, proof);
    }

    function isPadded(uint256 leafCount, uint256 index, bytes32[] calldata proof) external view returns (bool) {
        return Tree.isPadded(leafCount, index, proof);
    }
}
