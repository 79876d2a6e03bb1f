// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "../src/Average.sol";
import {Masks} from "../src/Masks.sol";
import {MaskedTrees} from "./kit/MaskedTrees.sol";
import {Test} from "./kit/Test.sol";

/// @dev The vectors of docs/protocol.md §13, which Python holds protocol/ to, against the library and the EVM's hashes.
contract MasksTest is Test {
    string private json = _vectors("masking");

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
            vm.assertEq(MaskedTrees.packed(sums), stream, key);
            Masks.remove(sums, seed, leaf, true);
            vm.assertEq(MaskedTrees.packed(sums), new bytes(1024), key);
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

    /// @notice Sums of every golden average, made of weighted leaves under masks that cancel, average as clear ones do; those
    ///         that leave +-127 times the weights are held there.
    function test_Averages() public view {
        string memory averages = _vectors("average");
        uint256 count = vm.parseJsonUint(averages, ".case_count");
        vm.assertGt(count, 14, "averages");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            uint256[] memory weights = vm.parseJsonUintArray(averages, string.concat(key, "weights"));
            bytes[] memory updates = vm.parseJsonBytesArray(averages, string.concat(key, "update_bytes"));
            uint256 total = 0;
            bytes[] memory leaves = new bytes[](updates.length);
            for (uint256 k = 0; k < updates.length; ++k) {
                leaves[k] = MaskedTrees.weighted(updates[k], int256(weights[k]));
                total += weights[k];
            }
            uint256 shift = 24 - vm.parseJsonUint(averages, string.concat(key, "grid"));
            bytes memory start = vm.parseJsonBytes(averages, string.concat(key, "before_bytes"));
            bytes memory model = vm.parseJsonBytes(averages, string.concat(key, "after_bytes"));
            vm.assertTrue(this.isAverage(leaves, total, shift, start, model), key);
            for (uint256 k = i % 7; k < 256; k += 31) {
                model[4 * k + 3] ^= 0x01;
                vm.assertFalse(this.isAverage(leaves, total, shift, start, model), key);
                model[4 * k + 3] ^= 0x01;
            }
        }
    }

    /// @notice Commitments to a masked round, over the key as it is published.
    function test_Commitments() public view {
        string memory keys = _vectors("pair_keys");
        uint256 count = vm.parseJsonUint(keys, ".commitment_count");
        vm.assertGt(count, 2, "commitments");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".commitments[", vm.toString(i), "].");
            bytes memory encoded = abi.encode(
                vm.parseJsonAddress(keys, string.concat(key, "federation")),
                vm.parseJsonUint(keys, string.concat(key, "round")),
                vm.parseJsonAddress(keys, string.concat(key, "participant")),
                vm.parseJsonBytes32(keys, string.concat(key, "public_key")),
                vm.parseJsonUint(keys, string.concat(key, "examples")),
                vm.parseJsonBytes32(keys, string.concat(key, "salt"))
            );
            vm.assertEq(keccak256(encoded), vm.parseJsonBytes32(keys, string.concat(key, "commitment")), key);
        }
    }

    /// @notice The digest of a bundle's secrets, from the secrets: b, then those of the pairs.
    function test_Secrets() public view {
        string memory bundles = _vectors("bundles");
        uint256 count = vm.parseJsonUint(bundles, ".case_count");
        vm.assertGt(count, 1, "bundles");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            bytes32 own = vm.parseJsonBytes32(bundles, string.concat(key, "own_seed"));
            bytes32[] memory pairs = vm.parseJsonBytes32Array(bundles, string.concat(key, "pair_seeds"));
            bytes memory commitments = abi.encode(keccak256(abi.encode(own)));
            for (uint256 k = 0; k < pairs.length; ++k) {
                commitments = bytes.concat(commitments, keccak256(abi.encode(pairs[k])));
            }
            vm.assertEq(keccak256(commitments), vm.parseJsonBytes32(bundles, string.concat(key, "secrets")), key);
        }
    }

    /// @notice What sketches are drawn from.
    function test_SketchSeeds() public view {
        string memory sketches = _vectors("sketches");
        uint256 count = vm.parseJsonUint(sketches, ".seed_count");
        vm.assertGt(count, 2, "seeds");
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".seeds[", vm.toString(i), "].");
            bytes memory encoded = abi.encode(
                vm.parseJsonBytes32(sketches, string.concat(key, "block_hash")),
                vm.parseJsonUint(sketches, string.concat(key, "prevrandao"))
            );
            vm.assertEq(keccak256(encoded), vm.parseJsonBytes32(sketches, string.concat(key, "z")), key);
        }
    }

    function addTo(uint256[] memory sums, bytes calldata stream, string calldata key) external pure {
        Masks.add(sums, stream);
        vm.assertEq(MaskedTrees.packed(sums), new bytes(1024), key);
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
        return MaskedTrees.packed(sums);
    }

    function isAverage(
        bytes[] calldata leaves,
        uint256 total,
        uint256 shift,
        bytes calldata start,
        bytes calldata model
    ) external view returns (bool) {
        uint256[] memory sums = Masks.empty();
        for (uint256 i = 0; i < leaves.length; ++i) {
            Masks.add(sums, leaves[i]);
            Masks.remove(sums, keccak256(abi.encode(i)), 3, i % 2 == 0);
            Masks.remove(sums, keccak256(abi.encode(i)), 3, i % 2 != 0);
        }
        return Average.isAverage(Masks.held(sums, total), total, shift, start, model);
    }

    function _vectors(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("../tests/vectors/", name, ".json"));
    }
}
