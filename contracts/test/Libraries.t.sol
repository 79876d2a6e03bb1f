// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "../src/Average.sol";
import {Tree} from "../src/Tree.sol";
import {Test} from "./kit/Test.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev Average and Tree beside the naive reference of the kit, without a federation around them.
contract LibrariesTest is Test {
    uint256 private constant VALUES = 256;

    Libraries private libraries = new Libraries();

    /// @notice Sum, step, division and both bounds agree with §7 in plain 256-bit integers, for every weight and value.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_TheAverageIsThatOfTheProtocol(uint256 seed, uint256 count, uint256 shift) public view {
        count = _bound(count, 1, 8);
        shift = _bound(shift, 0, 24);
        (bytes[] memory updates, uint256[] memory weights, bytes memory start) = _draw(seed, count);
        bytes memory model = Trees.moved(start, updates, weights, shift);
        vm.assertTrue(libraries.isAverage(updates, weights, shift, start, model), "the average");
        uint256 place = seed % (32 * VALUES);
        model[place / 8] ^= bytes1(uint8(1) << uint8(place % 8));
        vm.assertFalse(libraries.isAverage(updates, weights, shift, start, model), "another");
    }

    /// @notice Nothing overflows at the largest sum of weights, whatever the signs.
    function test_TheLargestWeights() public view {
        uint256[] memory weights = new uint256[](64);
        bytes[] memory updates = new bytes[](64);
        for (uint256 sign = 0; sign < 3; ++sign) {
            for (uint256 i = 0; i < 64; ++i) {
                weights[i] = (1 << 18) - 1;
                updates[i] = _fill(sign == 0 ? bytes1(0x7f) : sign == 1 ? bytes1(0x81) : bytes1(0x80));
            }
            for (uint256 shift = 0; shift <= 24; shift += 6) {
                bytes memory start = new bytes(4 * VALUES);
                int256[5] memory olds = [int256(0), Trees.LARGEST, -Trees.LARGEST, -Trees.LARGEST - 1, 12345];
                for (uint256 k = 0; k < VALUES; ++k) {
                    Trees.put(start, k, olds[k % 5]);
                }
                bytes memory model = Trees.moved(start, updates, weights, shift);
                vm.assertTrue(libraries.isAverage(updates, weights, shift, start, model), "the average");
            }
        }
    }

    /// @notice Halves round up, below zero as well: -1.5 becomes -1.
    function test_HalvesRoundUp() public view {
        bytes[] memory updates = new bytes[](2);
        uint256[] memory weights = new uint256[](2);
        (weights[0], weights[1]) = (1, 1);
        (updates[0], updates[1]) = (new bytes(VALUES), new bytes(VALUES));
        int256[4] memory firsts = [int256(1), -1, 3, -3];
        int256[4] memory expected = [int256(1), 0, 2, -1];
        bytes memory model = new bytes(4 * VALUES);
        for (uint256 k = 0; k < 4; ++k) {
            Trees.putDifference(updates[0], k, firsts[k]);
            Trees.put(model, k, expected[k]);
        }
        vm.assertTrue(libraries.isAverage(updates, weights, 0, new bytes(4 * VALUES), model), "halves");
    }

    /// @notice A move is bounded exactly when no value is more than 127 * 2^s away.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_TheBoundIsThatOfTheProtocol(uint256 seed, uint256 shift, int32 to) public view {
        shift = _bound(shift, 0, 24);
        (,, bytes memory start) = _draw(seed, 1);
        bytes memory model = bytes.concat(start);
        uint256 k = seed % VALUES;
        int256 from = Trees.value(start, k);
        int256 limit = 127 * int256(2 ** shift);
        int256 target = seed >> 8 & 1 == 0 ? int256(to) : from + (seed >> 9 & 1 == 0 ? limit : -limit);
        if (seed >> 10 & 1 == 0) target += seed >> 9 & 1 == 0 ? int256(1) : -1;
        if (target > Trees.LARGEST || target < -Trees.LARGEST - 1) target = to;
        Trees.put(model, k, target);
        int256 distance = target < from ? from - target : target - from;
        vm.assertEq(libraries.isBounded(shift, start, model), distance <= limit, "bounded");
    }

    /// @notice Every leaf of every tree leads to its root, and its padding is right.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_EveryLeafLeadsToItsRoot(uint256 count, uint256 index, bytes32 seed) public view {
        count = _bound(count, 1, 40);
        index = _bound(index, 0, count - 1);
        bytes[] memory leaves = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = abi.encode(seed, i);
        }
        bytes32[] memory proof = Trees.proof(leaves, index);
        vm.assertEq(libraries.rootOf(leaves[index], index, proof), Trees.root(leaves));
        vm.assertTrue(libraries.isPadded(count, index, proof), "padding");
    }

    /// @notice Anything at a place behind the leaves is seen on the way up from the last leaf.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_OtherPaddingIsSeenFromTheLastLeaf(uint256 count, uint256 place, bytes32 strange) public view {
        count = _bound(count, 2, 40);
        uint256 places = 1;
        while (places < count) places *= 2;
        vm.assume(places != count && strange != 0);
        bytes32[] memory row = new bytes32[](places);
        for (uint256 i = 0; i < count; ++i) {
            row[i] = keccak256(abi.encode(i));
        }
        row[_bound(place, count, places - 1)] = strange;
        bytes32[] memory proof = Trees.proofOf(row, count - 1);
        vm.assertFalse(libraries.isPadded(count, count - 1, proof), "strange");
    }

    /// @notice The golden vectors of the tree, which Python holds protocol/ to.
    function test_TheVectorsOfTheTree() public view {
        string memory json = vm.readFile("../tests/vectors/tree.json");
        uint256 count = vm.parseJsonUint(json, ".case_count");
        uint256 proofs = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            bytes32 root = vm.parseJsonBytes32(json, string.concat(key, "root"));
            uint256 leaves = vm.parseJsonUint(json, string.concat(key, "leaf_count"));
            for (uint256 k = 0;; ++k) {
                string memory place = string.concat(key, "proofs[", vm.toString(k), "]");
                if (!vm.keyExistsJson(json, place)) break;
                bytes32[] memory siblings = vm.parseJsonBytes32Array(json, string.concat(place, ".siblings"));
                bytes memory leaf = vm.parseJsonBytes(json, string.concat(place, ".leaf"));
                uint256 index = vm.parseJsonUint(json, string.concat(place, ".index"));
                vm.assertEq(libraries.rootOf(leaf, index, siblings), root, place);
                vm.assertTrue(libraries.isPadded(leaves, index, siblings), place);
                proofs += 1;
            }
        }
        vm.assertGt(proofs, count - 1, "proofs");
    }

    // --------------------------------------------------------------- helpers

    function _draw(uint256 seed, uint256 count)
        private
        pure
        returns (bytes[] memory updates, uint256[] memory weights, bytes memory start)
    {
        updates = new bytes[](count);
        weights = new uint256[](count);
        uint256 most = ((1 << 24) - 1) / count;
        for (uint256 i = 0; i < count; ++i) {
            uint256 drawn = uint256(keccak256(abi.encode(seed, i)));
            weights[i] = drawn % 4 == 0 ? most : drawn % 4 == 1 ? 1 : _bound(drawn >> 8, 1, most);
            updates[i] = _random(uint256(keccak256(abi.encode(seed, i, "update"))), VALUES);
            // Agreement, or sums would never come near their bounds.
            if (seed % 3 == 0) updates[i] = _fill(bytes1(uint8(0x7e + (seed >> 8) % 4)));
        }
        start = _random(uint256(keccak256(abi.encode(seed, "start"))), 4 * VALUES);
        int256[4] memory extremes = [Trees.LARGEST, -Trees.LARGEST, 0, -Trees.LARGEST - 1];
        for (uint256 k = 0; k < VALUES; k += 3) {
            Trees.put(start, k, extremes[(seed >> k % 200) % 4]);
        }
    }

    function _random(uint256 seed, uint256 length) private pure returns (bytes memory values) {
        values = "";
        for (uint256 i = 0; i < length / 32; ++i) {
            values = bytes.concat(values, keccak256(abi.encode(seed, i)));
        }
    }

    function _fill(bytes1 value) private pure returns (bytes memory values) {
        values = new bytes(VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            values[k] = value;
        }
    }
}

/// @dev The libraries take calldata.
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
