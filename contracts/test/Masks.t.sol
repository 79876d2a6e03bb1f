// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Masks} from "./kit/Masks.sol";
import {Test} from "./kit/Test.sol";

/// @dev tests/vectors/masking.json, which Python holds protocol/ to, against the library.
contract MasksTest is Test {
    string private json = vm.readFile("../tests/vectors/masking.json");

    /// @notice Each stream of the vectors is what is taken away from nothing, or added to it.
    function test_Streams() public view {
        uint256 count = vm.parseJsonUint(json, ".stream_count");
        vm.assertGt(count, 4, "streams");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".streams[", vm.toString(i), "].");
            bytes32 seed = vm.parseJsonBytes32(json, string.concat(key, "seed"));
            uint32 leaf = uint32(vm.parseJsonUint(json, string.concat(key, "leaf")));
            bytes memory stream = vm.parseJsonBytes(json, string.concat(key, "stream"));
            uint256[] memory sums = Masks.empty();
            Masks.remove(sums, seed, leaf, false);
            vm.assertEq(Masks.packed(sums), stream, key);
            Masks.remove(sums, seed, leaf, true);
            vm.assertEq(Masks.packed(sums), new bytes(1024), key);
            Masks.remove(sums, seed, leaf, true);
            this.addTo(sums, stream, key);
        }
    }

    /// @notice What the opened seeds leave of the accepted leaves is the sum of the vectors.
    function test_Sums() public view {
        uint256 count = vm.parseJsonUint(json, ".case_count");
        vm.assertGt(count, 3, "cases");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            bytes[] memory masked = vm.parseJsonBytesArray(json, string.concat(key, "masked_bytes"));
            uint256[] memory accepted = vm.parseJsonUintArray(json, string.concat(key, "accepted"));
            bytes[] memory leaves = new bytes[](accepted.length);
            for (uint256 k = 0; k < accepted.length; ++k) {
                leaves[k] = masked[accepted[k]];
            }
            bytes32[] memory seeds = vm.parseJsonBytes32Array(json, string.concat(key, "opened_seeds"));
            int256[] memory signs = vm.parseJsonIntArray(json, string.concat(key, "opened_signs"));
            uint32 leaf = uint32(vm.parseJsonUint(json, string.concat(key, "leaf")));
            bytes memory left = this.sumOf(leaves, seeds, signs, leaf);
            vm.assertEq(left, vm.parseJsonBytes(json, string.concat(key, "sum_bytes")), key);
            signs[0] = -signs[0];
            vm.assertTrue(keccak256(this.sumOf(leaves, seeds, signs, leaf)) != keccak256(left), key);
        }
    }

    function addTo(uint256[] memory sums, bytes calldata stream, string calldata key) external pure {
        Masks.add(sums, stream);
        vm.assertEq(Masks.packed(sums), new bytes(1024), key);
    }

    function sumOf(bytes[] calldata leaves, bytes32[] calldata seeds, int256[] calldata signs, uint32 leaf)
        external
        view
        returns (bytes memory)
    {
        uint256[] memory sums = Masks.empty();
        for (uint256 i = 0; i < leaves.length; ++i) {
            Masks.add(sums, leaves[i]);
        }
        for (uint256 i = 0; i < seeds.length; ++i) {
            Masks.remove(sums, seeds[i], leaf, signs[i] > 0);
        }
        return Masks.packed(sums);
    }
}
