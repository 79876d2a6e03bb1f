// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFactory} from "../src/IFactory.sol";
import {IFederation} from "../src/IFederation.sol";
import {Metered} from "./kit/Metered.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev What whole transactions cost: 21,000 and calldata included, every slot cold, as on a chain.
///      The limits are those of docs/protocol.md. Figures go to snapshots/Gas.json.
/// forge-config: default.isolate = true
contract GasTest is Metered {
    uint256 private constant LEAF = 12_345;
    uint256 private constant DEPTH = 14;
    uint256 private constant FIRST_MODEL = 1000; // numbers of trees beside those of updates
    uint256 private constant NEW_MODEL = 1001;
    uint256 private constant UPDATE_BYTES = 256;
    uint256 private constant MODEL_BYTES = 1024;

    mapping(uint256 i => bytes32 root) private realRoots; // of trees whose leaf is opened
    bool private isLastOverpaid;

    function _root(uint256 round, uint256 i) internal view override returns (bytes32) {
        return realRoots[i] == 0 ? super._root(round, i) : realRoots[i];
    }

    function _terms() internal view override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.identity.leafCount = uint32(1 << DEPTH);
        terms.identity.treeDepth = uint8(DEPTH);
        if (realRoots[FIRST_MODEL] != 0) terms.identity.initialModelRoot = realRoots[FIRST_MODEL];
        terms.seats.roundSeats = 64;
    }

    /// @notice No module has more than 20,000 bytes of code.
    function test_NoModuleIsTooLarge() public view {
        string[8] memory modules = [
            "src/Federation.sol:Federation",
            "src/Factory.sol:Factory",
            "src/Membership.sol:Membership",
            "src/Rounds.sol:Rounds",
            "src/Masking.sol:Masking",
            "src/Sums.sol:Sums",
            "src/Disputes.sol:Disputes",
            "src/Availability.sol:Availability"
        ];
        for (uint256 i = 0; i < modules.length; ++i) {
            vm.assertLe(vm.getDeployedCode(modules[i]).length, 20_000, modules[i]);
        }
        vm.assertLe(factory.implementation().code.length, 20_000, "implementation");
        vm.assertLe(address(factory).code.length, 20_000, "factory");
    }

    /// @notice Founding costs at most 700,000 gas.
    function test_Founding() public {
        bytes memory call = abi.encodeCall(IFactory.create, (_terms(), aggregators));
        uint256 used = _measure(sponsor, address(factory), call);
        vm.snapshotValue("Gas", "create", used);
        vm.assertLe(used, 700_000, "create");
    }

    /// @notice An announcement of 120 bytes costs at most 35,000 gas.
    function test_Announcing() public {
        bytes memory line =
            "/dns4/aggregator.commonweight.example.org/tcp/4001/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtP-0123456789ab";
        vm.assertEq(line.length, 120);
        uint256 used = _measure(stranger, address(federation), abi.encodeCall(IFederation.announce, (string(line))));
        vm.snapshotValue("Gas", "announce (120 bytes)", used);
        vm.assertLe(used, 35_000, "announce");
    }

    /// @notice A round of 4 keeps its limits.
    function test_Of4() public {
        _measureRounds(4);
    }

    /// @notice A round of 16 keeps its limits.
    function test_Of16() public {
        _measureRounds(16);
    }

    /// @notice A round of 64 keeps its limits.
    function test_Of64() public {
        _measureRounds(64);
    }

    /// @notice A wrong average of 4 updates.
    function test_ChallengeOf4() public {
        vm.assertLe(_measureChallenge(4), 350_000, "challengeAverage");
    }

    /// @notice A wrong average of 16 updates is shown for at most 750,000 gas.
    function test_ChallengeOf16() public {
        vm.assertLe(_measureChallenge(16), 750_000, "challengeAverage");
    }

    /// @notice A wrong average of 64 updates is shown for at most 2,600,000 gas.
    function test_ChallengeOf64() public {
        vm.assertLe(_measureChallenge(64), 2_600_000, "challengeAverage");
    }

    /// @notice A move too far is shown for at most 160,000 gas.
    function test_ChallengeMove() public {
        uint256 round = _proposedOf(16);
        bytes memory call = abi.encodeCall(
            IFederation.challengeMove, (round, LEAF, _leaf(FIRST_MODEL, MODEL_BYTES), _leaf(NEW_MODEL, MODEL_BYTES))
        );
        uint256 used = _measure(stranger, address(federation), call);
        vm.snapshotValue("Gas", "challengeMove", used);
        vm.assertLe(used, 160_000, "challengeMove");
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice The other disputes of 64 updates.
    function test_VerdictChallengesOf64() public {
        isLastOverpaid = true;
        uint256 round = _proposedOf(64);
        IFederation.Verdict[] memory verdicts = _proposedVerdicts(round, 64);
        uint256 used = _measure(
            stranger,
            address(federation),
            abi.encodeCall(IFederation.challengeVerdict, (round, 63, verdicts, _opening(round, 63)))
        );
        vm.snapshotValue("Gas", "challengeVerdict (64)", used);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);

        isLastOverpaid = false;
        verdicts = _verdicts(round, 64);
        verdicts[63] = _rejection(round, 63, 10);
        _propose(round, verdicts);
        IFederation.Opening[] memory all = new IFederation.Opening[](64);
        for (uint256 i = 0; i < 64; ++i) {
            all[i] = _opening(round, i);
        }
        used = _measure(
            stranger, address(federation), abi.encodeCall(IFederation.challengeOriginal, (round, 63, verdicts, all))
        );
        vm.snapshotValue("Gas", "challengeOriginal (64)", used);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Slashed);
    }

    /// @notice What it takes to request a leaf, to post it and, where nobody does, to settle.
    function test_Availability() public {
        uint256 round = _proposedOf(64);
        _give(stranger, 90 ether);
        address at = address(federation);
        uint256 requestGas = _measure(stranger, at, abi.encodeCall(IFederation.requestModelLeaf, (round, LEAF)));
        IFederation.Verdict[] memory verdicts = _verdicts(round, 64);
        bytes memory call =
            abi.encodeCall(IFederation.requestUpdateLeaf, (round, LEAF, 63, verdicts, _opening(round, 63)));
        uint256 updateGas = _measure(stranger, at, call);
        call = abi.encodeCall(IFederation.requestUpdateLeaf, (round, LEAF, 62, verdicts, _opening(round, 62)));
        _measure(stranger, at, call);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](2);
        answers[0] = IFederation.LeafAnswer(realRoots[NEW_MODEL], LEAF, _leaf(NEW_MODEL, MODEL_BYTES));
        answers[1] = IFederation.LeafAnswer(realRoots[62], LEAF, _leaf(62, UPDATE_BYTES));
        uint256 postGas = _measure(stranger, at, abi.encodeCall(IFederation.postLeaves, (answers)));
        vm.warp(block.timestamp + RESPONSE);
        uint256 settleGas = _measure(stranger, at, abi.encodeCall(IFederation.settleRequest, (realRoots[63], LEAF)));
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.snapshotValue("Gas", "requestModelLeaf", requestGas);
        vm.snapshotValue("Gas", "requestUpdateLeaf (64)", updateGas);
        vm.snapshotValue("Gas", "postLeaves (a model's and an update's)", postGas);
        vm.snapshotValue("Gas", "settleRequest", settleGas);
        vm.assertLe(requestGas, 190_000, "requestModelLeaf");
        vm.assertLe(updateGas, 450_000, "requestUpdateLeaf");
        vm.assertLe(postGas, 220_000, "postLeaves");
        vm.assertLe(settleGas, 200_000, "settleRequest");
    }

    // --------------------------------------------------------------- helpers

    /// @dev A challenge of a leaf without a zero byte under a tree of 2^14 leaves, a standby taking over.
    function _measureChallenge(uint256 count) private returns (uint256 used) {
        uint256 round = _proposedOf(count);
        IFederation.OpenedLeaf[] memory updates = new IFederation.OpenedLeaf[](count);
        for (uint256 i = 0; i < count; ++i) {
            updates[i] = IFederation.OpenedLeaf({opening: _opening(round, i), leaf: _leaf(i, UPDATE_BYTES)});
        }
        bytes memory call = abi.encodeCall(
            IFederation.challengeAverage,
            (
                round,
                LEAF,
                _verdicts(round, count),
                updates,
                _leaf(FIRST_MODEL, MODEL_BYTES),
                _leaf(NEW_MODEL, MODEL_BYTES)
            )
        );
        used = _measure(stranger, address(federation), call);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.snapshotValue("Gas", string.concat("challengeAverage (", vm.toString(count), ")"), used);
    }

    function _proposedOf(uint256 count) private returns (uint256 round) {
        for (uint256 i = 0; i < count; ++i) {
            _keepRoot(i, UPDATE_BYTES);
        }
        _keepRoot(FIRST_MODEL, MODEL_BYTES);
        _keepRoot(NEW_MODEL, MODEL_BYTES);
        federation = _deploy(_terms());
        round = _openWith(count);
        _commitAll(round, count);
        _revealAll(round, count);
        IFederation.Verdict[] memory verdicts = _proposedVerdicts(round, count);
        bytes32 root = realRoots[NEW_MODEL];
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _keepRoot(uint256 i, uint256 length) private {
        IFederation.Leaf memory leaf = _leaf(i, length);
        realRoots[i] = Trees.fold(leaf.values, LEAF, leaf.proof);
    }

    function _proposedVerdicts(uint256 round, uint256 count)
        private
        view
        returns (IFederation.Verdict[] memory verdicts)
    {
        verdicts = _verdicts(round, count);
        if (isLastOverpaid) verdicts[count - 1].weight += 1;
    }

    function _leaf(uint256 i, uint256 length) private pure returns (IFederation.Leaf memory leaf) {
        leaf.values = new bytes(length);
        for (uint256 k = 0; k < length; ++k) {
            leaf.values[k] = bytes1(uint8(1 + (i + 7 * k) % 126));
        }
        leaf.proof = new bytes32[](DEPTH);
        for (uint256 level = 0; level < DEPTH; ++level) {
            leaf.proof[level] = keccak256(abi.encode(i, level));
        }
    }

    /// @dev Two rounds, since the first writes slots that later ones only change. 128 seats are active, of which the
    ///      first ones take part: drawing them is paid for.
    function _measureRounds(uint256 count) private {
        string memory suffix = string.concat(" (", vm.toString(count), ")");
        _fund(2 * _price());
        _bond(aggregators[0]);
        _join(128);
        _mine();
        uint256 first = _playRound(count, "");
        uint256 finalizeFirst = _settleRound(first, count);
        vm.snapshotValue("Gas", string.concat("finalize, first credit", suffix), finalizeFirst);
        _mine();
        uint256 second = _playRound(count, suffix);
        uint256 finalizeSecond = _settleRound(second, count);
        vm.snapshotValue("Gas", string.concat("finalize", suffix), finalizeSecond);
        vm.assertLe(finalizeSecond, 65_000 + 12_000 * count, "finalize");
    }

    /// @dev Plays a round up to its proposal; asserts and records the dearest call of each kind.
    function _playRound(uint256 count, string memory suffix) private returns (uint256 round) {
        vm.prank(aggregators[0]);
        round = federation.openRound();
        uint256 openGas = _gasUsed();
        _mine();
        _askAllOf(round, count);
        federation.fixSeed(round);
        uint256 seedGas = _gasUsed();
        uint256 commitGas;
        uint256 revealGas;
        for (uint256 i = 0; i < count; ++i) {
            uint256 used = _measure(
                _participant(i), address(federation), abi.encodeCall(IFederation.commit, (round, _commitment(round, i)))
            );
            if (used > commitGas) commitGas = used;
        }
        vm.warp(federation.getRound(round).commitDeadline);
        for (uint256 i = 0; i < count; ++i) {
            bytes memory call = abi.encodeCall(
                IFederation.reveal, (round, _root(round, i), _manifest(round, i), _examples(i), _salt(round, i))
            );
            uint256 used = _measure(_participant(i), address(federation), call);
            if (used > revealGas) revealGas = used;
        }
        if (federation.status(round) == IFederation.Status.Reveal) vm.warp(federation.getRound(round).revealDeadline);
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        uint256 proposeGas = _measure(
            aggregators[0],
            address(federation),
            abi.encodeCall(IFederation.propose, (round, NEW_ROOT, NEW_MANIFEST, verdicts))
        );
        _keepLimits(count, commitGas, revealGas, proposeGas);
        if (bytes(suffix).length == 0) return round;
        vm.snapshotValue("Gas", string.concat("openRound", suffix), openGas);
        vm.snapshotValue("Gas", string.concat("fixSeed", suffix), seedGas);
        vm.snapshotValue("Gas", string.concat("commit", suffix), commitGas);
        vm.snapshotValue("Gas", string.concat("reveal", suffix), revealGas);
        vm.snapshotValue("Gas", string.concat("propose", suffix), proposeGas);
    }

    function _keepLimits(uint256 count, uint256 commitGas, uint256 revealGas, uint256 proposeGas) private pure {
        vm.assertLe(commitGas, 70_000, "commit");
        vm.assertLe(revealGas, 48_000, "reveal");
        vm.assertLe(commitGas + revealGas, 115_000, "commit and reveal");
        vm.assertLe(proposeGas, 130_000 + 7500 * count, "propose");
    }

    function _settleRound(uint256 round, uint256 count) private returns (uint256) {
        vm.warp(federation.getRound(round).nextDeadline);
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        return _measure(stranger, address(federation), abi.encodeCall(IFederation.finalize, (round, verdicts)));
    }
}
