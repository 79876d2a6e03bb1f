// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "../src/Average.sol";
import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {Tree} from "../src/Tree.sol";
import {Trees} from "./kit/Trees.sol";
import {World} from "./kit/World.sol";

/// @dev The golden vectors of tests/vectors, which Python holds protocol/ to, against the contract itself.
contract VectorsTest is World {
    // Slot of _rounds, and of a round's seed within it: see storageLayout in artifacts/Federation.json.
    uint256 private constant ROUNDS_SLOT = 7;
    uint256 private constant SEED_OFFSET = 1;

    function test_Commitments() public {
        string memory json = vm.readFile("../tests/vectors/commitments.json");
        uint256 count = _count(json);
        uint256 onContract = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_checkCommitment(json, _case(i))) onContract += 1;
        }
        vm.assertGt(onContract, 1, "commitments that the contract can be asked about");
    }

    function test_Eligibility() public {
        string memory json = vm.readFile("../tests/vectors/eligibility.json");
        uint256 count = _count(json);
        vm.assertGt(count, 0, "cases");
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(uint256(1), ROUNDS_SLOT))) + SEED_OFFSET);
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            IFederation.Terms memory terms = _terms();
            terms.samplingFraction = uint16(vm.parseJsonUint(json, string.concat(key, "fraction")));
            federation = _deploy(terms);
            bytes32 seed = vm.parseJsonBytes32(json, string.concat(key, "seed"));
            vm.store(address(federation), slot, seed);
            vm.assertEq(federation.getRound(1).seed, seed, "slot of the seed");
            vm.assertEq(
                federation.isEligible(1, vm.parseJsonAddress(json, string.concat(key, "participant"))),
                vm.parseJsonBool(json, string.concat(key, "eligible")),
                key
            );
        }
    }

    function test_Verdicts() public {
        string memory json = vm.readFile("../tests/vectors/verdicts.json");
        uint256 count = _count(json);
        uint256 onContract = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            IFederation.Verdict[] memory verdicts = _readVerdicts(json, key);
            bytes32 expected = vm.parseJsonBytes32(json, string.concat(key, "hash"));
            vm.assertEq(keccak256(abi.encode(verdicts)), expected, key);
            if (verdicts.length == 0 || !_isAscending(verdicts)) continue;
            onContract += 1;
            uint256 round = _proposeVector(REWARD, verdicts);
            vm.assertEq(federation.getRound(round).verdictsHash, expected, key);
        }
        vm.assertGt(onContract, 0, "verdicts that the contract takes in this order");
    }

    function test_Payouts() public {
        string memory json = vm.readFile("../tests/vectors/payouts.json");
        uint256 count = _count(json);
        vm.assertGt(count, 0, "cases");
        for (uint256 i = 0; i < count; ++i) {
            _checkPayouts(json, _case(i));
        }
    }

    function test_Average() public {
        string memory json = vm.readFile("../tests/vectors/average.json");
        uint256 count = _count(json);
        vm.assertGt(count, 0, "cases");
        Libraries libraries = new Libraries();
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
            bytes[] memory updates = vm.parseJsonBytesArray(json, string.concat(key, "update_bytes"));
            bytes memory mean = vm.parseJsonBytes(json, string.concat(key, "mean_bytes"));
            vm.assertTrue(libraries.isMean(updates, weights, mean), key);
            for (uint256 k = 0; k < mean.length; ++k) {
                mean[k] ^= 0x01;
                vm.assertTrue(!libraries.isMean(updates, weights, mean), key);
                mean[k] ^= 0x01;
            }
        }
    }

    function test_Trees() public {
        string memory json = vm.readFile("../tests/vectors/tree.json");
        uint256 count = _count(json);
        uint256 proofs = 0;
        Libraries libraries = new Libraries();
        for (uint256 i = 0; i < count; ++i) {
            bytes32 root = vm.parseJsonBytes32(json, string.concat(_case(i), "root"));
            uint256 depth = vm.parseJsonUint(json, string.concat(_case(i), "depth"));
            uint256 leaves = vm.parseJsonUint(json, string.concat(_case(i), "leaf_count"));
            for (uint256 k = 0;; ++k) {
                string memory key = string.concat(_case(i), "proofs[", vm.toString(k), "]");
                if (!vm.keyExistsJson(json, key)) break;
                key = string.concat(key, ".");
                proofs += 1;
                bytes32[] memory siblings = vm.parseJsonBytes32Array(json, string.concat(key, "siblings"));
                bytes memory leaf = vm.parseJsonBytes(json, string.concat(key, "leaf"));
                uint256 index = vm.parseJsonUint(json, string.concat(key, "index"));
                vm.assertEq(siblings.length, depth, key);
                vm.assertEq(libraries.rootOf(leaf, index, siblings), root, key);
                vm.assertTrue(libraries.isPadded(leaves, index, siblings), key);
            }
        }
        vm.assertGt(proofs, count - 1, "proofs");
    }

    function testFuzz_HonestPaddingIsAccepted(uint256 count, uint256 index, bytes32 seed) public {
        count = _bound(count, 1, 40);
        index = _bound(index, 0, count - 1);
        bytes[] memory leaves = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = abi.encode(seed, i);
        }
        bytes32[] memory siblings = Trees.proof(leaves, index);
        vm.assertTrue(new Libraries().isPadded(count, index, siblings), "honest");
    }

    /// @dev Something stands at one place behind the leaves: the way up from the last leaf shows it.
    function testFuzz_OtherPaddingIsSeenFromTheLastLeaf(uint256 count, uint256 place, bytes32 strange) public {
        count = _bound(count, 2, 40);
        uint256 places = 1;
        while (places < count) places *= 2;
        vm.assume(places != count && strange != 0);
        bytes32[] memory row = new bytes32[](places);
        for (uint256 i = 0; i < count; ++i) {
            row[i] = keccak256(abi.encode(i));
        }
        row[_bound(place, count, places - 1)] = strange;
        bytes32[] memory siblings = Trees.proofOf(row, count - 1);
        vm.assertTrue(!new Libraries().isPadded(count, count - 1, siblings), "strange");
    }

    /// @dev False when the contract's types cannot hold the case; then only the encoding is compared.
    function _checkCommitment(string memory json, string memory key) private returns (bool) {
        uint256 round = vm.parseJsonUint(json, string.concat(key, "round"));
        uint256 examples = vm.parseJsonUint(json, string.concat(key, "examples"));
        address participant = vm.parseJsonAddress(json, string.concat(key, "participant"));
        address at = vm.parseJsonAddress(json, string.concat(key, "federation"));
        bytes32 root = vm.parseJsonBytes32(json, string.concat(key, "root"));
        bytes32 manifest = vm.parseJsonBytes32(json, string.concat(key, "manifest"));
        bytes32 salt = vm.parseJsonBytes32(json, string.concat(key, "salt"));
        bytes32 commitment = vm.parseJsonBytes32(json, string.concat(key, "commitment"));
        bytes32 digest = vm.parseJsonBytes32(json, string.concat(key, "update_digest"));
        vm.assertEq(keccak256(abi.encode(at, round, participant, root, manifest, examples, salt)), commitment, key);
        vm.assertEq(keccak256(abi.encode(root, manifest, examples)), digest, key);
        if (examples == 0 || examples > type(uint32).max || round > 1000) return false;

        _openRoundAt(at, round, participant);
        vm.prank(participant);
        federation.commit(round, commitment);
        vm.prank(participant);
        federation.reveal(round, root, manifest, uint32(examples), salt);
        vm.assertEq(bytes32(federation.getSubmission(round, participant).digest), bytes32(bytes31(digest)), key);
        return true;
    }

    /// @dev A federation at a given address whose open round has a given number.
    function _openRoundAt(address at, uint256 round, address participant) private {
        IFederation.Terms memory terms = _terms();
        terms.rounds = uint32(round);
        terms.closesAt = type(uint40).max;
        vm.etch(at, abi.encodePacked(type(Federation).creationCode, abi.encode(terms, aggregators)));
        vm.prank(sponsor);
        (bool deployed, bytes memory code) = at.call("");
        vm.assertTrue(deployed, "deployed");
        vm.etch(at, code);
        federation = Federation(at);
        _fund(REWARD + FEE);
        _bond(aggregators[0]);
        _joinOne(participant);
        while (_open() != round) {
            vm.warp(block.timestamp + COMMIT);
            federation.abandon(federation.roundCount());
        }
    }

    function _checkPayouts(string memory json, string memory key) private {
        IFederation.Verdict[] memory verdicts = _readVerdicts(json, key);
        address[] memory participants = vm.parseJsonAddressArray(json, string.concat(key, "participants"));
        uint256[] memory payouts = vm.parseJsonUintArray(json, string.concat(key, "payouts"));
        uint128 reward = uint128(vm.parseJsonUint(json, string.concat(key, "reward")));
        _sort(verdicts);
        uint256 round = _proposeVector(reward, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, verdicts);
        uint256 fee = federation.creditOf(aggregators[0]);
        for (uint256 i = 0; i < participants.length; ++i) {
            vm.assertEq(federation.creditOf(participants[i]), payouts[i], key);
        }
        uint256 remainder = vm.parseJsonUint(json, string.concat(key, "remainder"));
        vm.assertEq(federation.escrow(), remainder + FEE - fee, key);
    }

    /// @dev A fresh federation in which the participants of `verdicts` have revealed, and these are proposed.
    function _proposeVector(uint128 reward, IFederation.Verdict[] memory verdicts) private returns (uint256 round) {
        uint256 accepted = 0;
        uint32 cap = 1;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason == 0) accepted += 1;
            if (verdicts[i].weight > cap) cap = verdicts[i].weight;
        }
        IFederation.Terms memory terms = _terms();
        terms.roundReward = reward;
        terms.maxParticipants = uint16(verdicts.length == 0 ? 1 : verdicts.length);
        terms.weightCap = cap;
        federation = _deploy(terms);
        _fund(uint256(reward) + FEE);
        _bond(aggregators[0]);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            _joinOne(verdicts[i].participant);
        }
        if (verdicts.length == 0) _joinOne(stranger);
        round = _open();
        for (uint256 i = 0; i < verdicts.length; ++i) {
            bytes32 commitment = _commitmentOf(address(federation), round, verdicts[i].participant, round, i);
            vm.prank(verdicts[i].participant);
            federation.commit(round, commitment);
        }
        vm.warp(federation.getRound(round).commitDeadline);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            _revealAs(verdicts[i].participant, round, i);
        }
        if (accepted == 0) {
            vm.prank(aggregators[0]);
            federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, verdicts);
        } else {
            _propose(round, verdicts);
        }
    }

    function _readVerdicts(string memory json, string memory key)
        private
        pure
        returns (IFederation.Verdict[] memory verdicts)
    {
        address[] memory participants = vm.parseJsonAddressArray(json, string.concat(key, "participants"));
        uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
        uint256[] memory scores = vm.parseJsonUintArray(json, string.concat(key, "scores"));
        uint256[] memory reasons = vm.parseJsonUintArray(json, string.concat(key, "reasons"));
        verdicts = new IFederation.Verdict[](participants.length);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            verdicts[i] = IFederation.Verdict({
                participant: participants[i],
                weight: uint32(weights[i]),
                score: uint16(scores[i]),
                reason: uint8(reasons[i])
            });
        }
    }

    function _isAscending(IFederation.Verdict[] memory verdicts) private pure returns (bool) {
        for (uint256 i = 1; i < verdicts.length; ++i) {
            if (verdicts[i].participant <= verdicts[i - 1].participant) return false;
        }
        return true;
    }

    /// @dev By insertion; the vectors are short.
    function _sort(IFederation.Verdict[] memory verdicts) private pure {
        for (uint256 i = 1; i < verdicts.length; ++i) {
            for (uint256 j = i; j > 0 && verdicts[j].participant < verdicts[j - 1].participant; --j) {
                (verdicts[j], verdicts[j - 1]) = (verdicts[j - 1], verdicts[j]);
            }
        }
    }

    function _count(string memory json) private pure returns (uint256) {
        return vm.parseJsonUint(json, ".case_count");
    }

    function _case(uint256 i) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "].");
    }
}

/// @dev The libraries take calldata.
contract Libraries {
    function isMean(bytes[] calldata updates, uint256[] calldata weights, bytes calldata mean)
        external
        pure
        returns (bool)
    {
        uint256[] memory sums = Average.empty(mean.length / 4);
        uint256 total = 0;
        for (uint256 i = 0; i < updates.length; ++i) {
            Average.add(sums, updates[i], weights[i]);
            total += weights[i];
        }
        return Average.isMean(sums, total, mean);
    }

    function rootOf(bytes calldata leaf, uint256 index, bytes32[] calldata proof) external view returns (bytes32) {
        return Tree.rootOf(leaf, index, proof);
    }

    function isPadded(uint256 leafCount, uint256 index, bytes32[] calldata proof) external view returns (bool) {
        return Tree.isPadded(leafCount, index, proof);
    }
}
