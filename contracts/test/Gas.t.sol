// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {Trees} from "./kit/Trees.sol";
import {World} from "./kit/World.sol";

/// @dev What whole transactions cost: 21,000 and calldata included, every slot cold, as on a chain.
///      The limits are those of docs/protocol.md. Figures go to snapshots/Gas.json.
/// forge-config: default.isolate = true
contract GasTest is World {
    uint256 private constant LEAF = 12_345;

    mapping(uint256 i => bytes32 root) private realRoots; // of updates whose leaf is opened, the model's the last
    bool private isLastOverpaid;

    function _root(uint256 round, uint256 i) internal view override returns (bytes32) {
        return realRoots[i] == 0 ? super._root(round, i) : realRoots[i];
    }

    function _terms() internal view override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.maxParticipants = 512;
        terms.roundReward = 1000 ether;
        terms.aggregatorFee = 50 ether;
        terms.participantStake = 100 ether;
        terms.missedRevealPenalty = 50 ether;
        terms.aggregatorBond = 5000 ether;
        terms.availabilityDeposit = 30 ether;
        terms.samplingFraction = 9999; // everybody here is drawn, and the drawing is paid for
    }

    /// @dev EIP-170 and EIP-3860.
    function test_TheCodeFitsIntoAContract() public view {
        vm.assertLe(address(federation).code.length, 24_576, "code");
        vm.assertLe(type(Federation).creationCode.length + 32 * 40, 49_152, "creation code and terms");
    }

    function test_Of4() public {
        _measure(4);
    }

    function test_Of16() public {
        _measure(16);
    }

    function test_Of64() public {
        _measure(64);
    }

    function test_Of128() public {
        _measure(128);
    }

    /// @dev A round that did not fit would lock all money: EIP-7825 allows 2^24 gas a transaction.
    function test_TheLargestRoundFitsIntoOneTransaction() public {
        _fund(federation.terms().roundReward + uint256(federation.terms().aggregatorFee));
        _bond(aggregators[0]);
        _join(512);
        uint256 finalizeGas = _finalize(_round(512, ""), 512);
        vm.snapshotValue("Gas", "finalize, first credit (512)", finalizeGas);
        vm.assertLe(finalizeGas, 1 << 24, "finalize");
    }

    function test_ChallengeOf2() public {
        vm.assertLe(_measureChallenge(2, 256), 250_000, "challengeAverage");
    }

    function test_ChallengeOf4() public {
        vm.assertLe(_measureChallenge(4, 256), 400_000, "challengeAverage");
    }

    function test_ChallengeOf16() public {
        vm.assertLe(_measureChallenge(16, 256), 1_200_000, "challengeAverage");
    }

    function test_ChallengeOf64() public {
        vm.assertLe(_measureChallenge(64, 256), 4_800_000, "challengeAverage");
    }

    /// @dev The dearest challenge that the terms allow with all seats taken.
    function test_TheLargestChallengeFitsIntoOneTransaction() public {
        vm.assertLe(_measureChallenge(512, 34), 1 << 24, "challengeAverage");
    }

    function test_VerdictChallengeOf64() public {
        isLastOverpaid = true;
        uint256 round = _proposedOf(64, 256);
        IFederation.Verdict[] memory verdicts = _proposedVerdicts(64);
        bytes32 root = _root(round, 63);
        bytes memory call = abi.encodeCall(
            Federation.challengeVerdict, (round, 63, verdicts, root, _manifest(round, 63), _examples(63))
        );
        uint256 used = _dearer(call);
        vm.snapshotValue("Gas", "challengeVerdict (64)", used);
        vm.assertLe(used, 250_000, "challengeVerdict");
    }

    /// @dev What it takes to demand a leaf, to post it and, where nobody does, to settle. Slots written for the first
    ///      time: the deposits' and the responder's credit.
    function test_Availability() public {
        uint256 round = _proposedOf(64, 256);
        bytes32 root = realRoots[64];
        _give(stranger, 60 ether);
        uint256 demandGas = _dearer(abi.encodeCall(Federation.challengeModelAvailability, (round, LEAF)));
        uint256 postGas = _dearer(abi.encodeCall(Federation.postLeaf, (root, LEAF, _leaf(64, 256))));
        uint256 updateGas = _dearer(_updateDemand(round, 63, 64));
        vm.warp(block.timestamp + RESPONSE);
        uint256 settleGas = _dearer(abi.encodeCall(Federation.settleAvailability, (realRoots[63], LEAF)));
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.snapshotValue("Gas", "challengeModelAvailability", demandGas);
        vm.snapshotValue("Gas", "challengeUpdateAvailability (64)", updateGas);
        vm.snapshotValue("Gas", "postLeaf", postGas);
        vm.snapshotValue("Gas", "settleAvailability", settleGas);
        vm.assertLe(demandGas, 180_000, "challengeModelAvailability");
        vm.assertLe(updateGas, 320_000, "challengeUpdateAvailability");
        vm.assertLe(postGas, 120_000, "postLeaf");
        vm.assertLe(settleGas, 180_000, "settleAvailability");
    }

    /// @dev The largest leaf that the terms allow, with one seat.
    function test_TheLargestLeafFitsIntoOneTransaction() public {
        uint256 round = _proposedOf(1, 49_840);
        _give(stranger, 30 ether);
        _dearer(abi.encodeCall(Federation.challengeModelAvailability, (round, LEAF)));
        uint256 used = _dearer(abi.encodeCall(Federation.postLeaf, (realRoots[1], LEAF, _leaf(1, 49_840))));
        vm.snapshotValue("Gas", "postLeaf, largest", used);
        vm.assertLe(used, 1 << 24, "postLeaf");
    }

    /// @dev A demand for the update of verdict `index` of `count`.
    function _updateDemand(uint256 round, uint256 index, uint256 count) private view returns (bytes memory) {
        bytes32 root = _root(round, index);
        bytes32 manifest = _manifest(round, index);
        return abi.encodeCall(
            Federation.challengeUpdateAvailability,
            (round, LEAF, index, _verdicts(count), root, manifest, _examples(index))
        );
    }

    /// @dev A challenge of a leaf without a zero byte under a tree of 2^14 leaves, a standby taking over.
    function _measureChallenge(uint256 count, uint32 leafValues) private returns (uint256 used) {
        uint256 round = _proposedOf(count, leafValues);
        IFederation.OpenedUpdate[] memory updates = new IFederation.OpenedUpdate[](count);
        for (uint256 i = 0; i < count; ++i) {
            updates[i] = IFederation.OpenedUpdate({
                root: _root(round, i), manifest: _manifest(round, i), examples: _examples(i), leaf: _leaf(i, leafValues)
            });
        }
        IFederation.Leaf memory model = _leaf(count, leafValues);
        used = _dearer(abi.encodeCall(Federation.challengeAverage, (round, LEAF, _verdicts(count), updates, model)));
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        string memory name = string.concat("challengeAverage (", vm.toString(count), ")");
        vm.snapshotValue("Gas", name, used);
    }

    function _proposedOf(uint256 count, uint32 leafValues) private returns (uint256 round) {
        IFederation.Terms memory terms = _terms();
        terms.maxParticipants = uint16(count);
        terms.leafCount = 1 << 14;
        terms.treeDepth = 14;
        terms.leafValues = leafValues;
        federation = _deploy(terms);
        for (uint256 i = 0; i <= count; ++i) {
            realRoots[i] = Trees.fold(_leaf(i, leafValues).values, LEAF, _leaf(i, leafValues).proof);
        }
        round = _openWith(count);
        _commitAll(round, count);
        _revealAll(round, count);
        IFederation.Verdict[] memory verdicts = _proposedVerdicts(count);
        bytes32 root = realRoots[count];
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _proposedVerdicts(uint256 count) private view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = _verdicts(count);
        if (isLastOverpaid) verdicts[count - 1].weight += 1;
    }

    /// @dev What `call` costs: its work, or the floor of EIP-7623 that forge does not know at this EVM version.
    function _dearer(bytes memory call) private returns (uint256) {
        vm.prank(stranger);
        (bool succeeded,) = address(federation).call(call);
        uint256 used = _gasUsed();
        vm.assertTrue(succeeded, "call");
        uint256 floor = 21_000;
        for (uint256 i = 0; i < call.length; ++i) {
            floor += call[i] == 0 ? 10 : 40;
        }
        return used > floor ? used : floor;
    }

    function _leaf(uint256 i, uint32 leafValues) private pure returns (IFederation.Leaf memory leaf) {
        leaf.values = new bytes(4 * leafValues);
        for (uint256 k = 0; k < leaf.values.length; ++k) {
            leaf.values[k] = bytes1(uint8(1 + (i + 7 * k) % 255));
        }
        leaf.proof = new bytes32[](14);
        for (uint256 level = 0; level < 14; ++level) {
            leaf.proof[level] = keccak256(abi.encode(i, level));
        }
    }

    /// @dev Two rounds, since the first writes slots that later ones only change.
    function _measure(uint256 count) private {
        string memory suffix = string.concat(" (", vm.toString(count), ")");
        _fund(2 * (federation.terms().roundReward + uint256(federation.terms().aggregatorFee)));
        _bond(aggregators[0]);
        _join(count);

        uint256 first = _round(count, "");
        uint256 finalizeFirst = _finalize(first, count);
        vm.snapshotValue("Gas", string.concat("finalize, first credit", suffix), finalizeFirst);

        uint256 second = _round(count, suffix);
        uint256 finalizeSecond = _finalize(second, count);
        vm.snapshotValue("Gas", string.concat("finalize", suffix), finalizeSecond);
        vm.assertLe(finalizeSecond, 55_000 + 12_000 * count, "finalize");
    }

    /// @dev Plays a round up to its proposal; asserts and records the dearest call of each kind.
    function _round(uint256 count, string memory suffix) private returns (uint256 round) {
        round = _open();
        uint256 openGas = _gasUsed();
        uint256 commitGas;
        uint256 revealGas;
        for (uint256 i = 0; i < count; ++i) {
            _commit(round, i);
            if (_gasUsed() > commitGas) commitGas = _gasUsed();
        }
        vm.warp(federation.getRound(round).commitDeadline);
        for (uint256 i = 0; i < count; ++i) {
            _reveal(round, i);
            if (_gasUsed() > revealGas) revealGas = _gasUsed();
        }
        _propose(round, _verdicts(count));
        uint256 proposeGas = _gasUsed();
        vm.assertLe(commitGas, 60_000, "commit");
        vm.assertLe(revealGas, 48_000, "reveal");
        vm.assertLe(proposeGas, 120_000 + 6000 * count, "propose");
        if (bytes(suffix).length == 0) return round;
        vm.snapshotValue("Gas", string.concat("openRound", suffix), openGas);
        vm.snapshotValue("Gas", string.concat("commit", suffix), commitGas);
        vm.snapshotValue("Gas", string.concat("reveal", suffix), revealGas);
        vm.snapshotValue("Gas", string.concat("propose", suffix), proposeGas);
    }

    function _finalize(uint256 round, uint256 count) private returns (uint256) {
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(count));
        return _gasUsed();
    }

    function _gasUsed() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }
}
