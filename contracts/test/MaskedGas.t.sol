// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {MaskedWorld} from "./kit/MaskedWorld.sol";
import {Metered} from "./kit/Metered.sol";
import {Trees} from "./kit/Trees.sol";
import {World} from "./kit/World.sol";

/// @dev What the transactions of a masked round cost, with all updates in the set and with a third that were never
///      revealed. Figures go to snapshots/Gas.json, beside those of Gas.t.sol.
/// forge-config: default.isolate = true
contract MaskedGasTest is Metered, MaskedWorld {
    uint256 private constant LEAF = 4321;
    uint256 private constant FIRST_MODEL = 1000; // numbers of leaves beside those of updates
    uint256 private constant NEW_MODEL = 1001;
    uint256 private constant BYTES = 1024;
    uint256 private constant MOST_BYTES = 70_000; // of a transaction; a pool takes 131,072
    uint256 private constant MOST_GAS = 16_000_000;

    uint8 private depth = 13;
    mapping(uint256 i => bytes32 root) private roots; // kept: to hash a leaf is a call

    function _terms() internal view override(Metered, MaskedWorld) returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.identity.leafCount = uint32((1 << depth) - 1);
        terms.identity.treeDepth = depth;
        if (roots[FIRST_MODEL] != 0) terms.identity.initialModelRoot = roots[FIRST_MODEL];
        terms.seats.roundSeats = 32;
    }

    function _root(uint256 round, uint256 i) internal view override returns (bytes32) {
        return roots[i] == 0 ? super._root(round, i) : roots[i];
    }

    function _manifest(uint256 round, uint256 i) internal view override(World, MaskedWorld) returns (bytes32) {
        return MaskedWorld._manifest(round, i);
    }

    /// @notice Rounds of 4.
    function test_Of4() public {
        _measureRound(4, 0);
    }

    /// @notice Rounds of 4, of which one revealed nothing.
    function test_Of4AndOneGone() public {
        _measureRound(4, 1);
    }

    /// @notice Rounds of 16: the secrets of a member cost at most 80,000 gas, a dispute at most 1,200,000.
    function test_Of16() public {
        (uint256 unmaskGas, uint256 disputeGas) = _measureRound(16, 0);
        vm.assertLe(unmaskGas, 80_000, "unmask");
        vm.assertLe(disputeGas, 1_200_000, "challengeSum");
    }

    /// @notice Rounds of 16, of which a third revealed nothing.
    function test_Of16AndAThirdGone() public {
        (uint256 unmaskGas, uint256 disputeGas) = _measureRound(16, 5);
        vm.assertLe(unmaskGas, 80_000, "unmask");
        vm.assertLe(disputeGas, 1_700_000, "challengeSum");
    }

    /// @notice The largest rounds.
    function test_Of32() public {
        (uint256 unmaskGas, uint256 disputeGas) = _measureRound(32, 0);
        vm.assertLe(unmaskGas, 120_000, "unmask");
        vm.assertLe(disputeGas, 2_400_000, "challengeSum");
    }

    /// @notice The largest rounds, of which a third revealed nothing: as many streams as there can be, less 30.
    function test_Of32AndAThirdGone() public {
        (uint256 unmaskGas, uint256 disputeGas) = _measureRound(32, 10);
        vm.assertLe(unmaskGas, 120_000, "unmask");
        vm.assertLe(disputeGas, 4_800_000, "challengeSum");
    }

    /// @notice The largest dispute there can be fits into a transaction: 32 under the deepest tree, whoever is gone.
    function test_TheLargestDisputesFit() public {
        depth = 24;
        for (uint256 gone = 0; gone <= 15; gone += 5) {
            for (uint256 i = 0; i < 32; ++i) {
                (hasMissed[i], isOpen[i]) = (false, false);
            }
            (uint256 used, uint256 size) = _dispute(32, gone);
            vm.assertLe(size, MOST_BYTES, "bytes");
            vm.assertLe(used, MOST_GAS, "gas");
            if (gone == 15) vm.snapshotValue("Gas", "challengeSum, most streams", used);
        }
    }

    // --------------------------------------------------------------- helpers

    /// @dev Every call of a round but the dispute is made in a second round: the first writes slots that later ones only
    ///      change.
    function _measureRound(uint256 count, uint256 gone) private returns (uint256 unmaskGas, uint256 disputeGas) {
        (disputeGas,) = _dispute(count, gone);
        _record("challengeSum", count, gone, disputeGas);
        for (uint256 i = 0; i < count; ++i) {
            isOpen[i] = false;
        }
        federation = _deploy(_terms());
        _prepare(count);
        unmaskGas = _playRound(count, gone);
    }

    function _prepare(uint256 count) private {
        _fund(2 * _price());
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        _join(ACTIVE);
        _mine();
        members = count;
    }

    /// @dev Those that are gone stand between the others.
    function _leaveOut(uint256 count, uint256 gone) private {
        members = count;
        for (uint256 k = 0; k < gone; ++k) {
            hasMissed[1 + k * (count / gone)] = true;
        }
        vm.assertEq(_missed(), gone, "gone");
    }

    function _playRound(uint256 count, uint256 gone) private returns (uint256 unmaskGas) {
        address at = address(federation);
        vm.prank(aggregators[0]);
        uint256 round = federation.openRound();
        _mine();
        _askAllOf(round, count);
        federation.fixSeed(round);
        uint256 most = 0;
        for (uint256 i = 0; i < count; ++i) {
            bytes memory call =
                abi.encodeCall(IFederation.commitMasked, (round, _maskedCommitment(round, i), _publicKey(round, i)));
            uint256 used = _measure(_participant(i), at, call);
            if (used > most) most = used;
        }
        _record("commitMasked", count, gone, most);
        if (federation.status(round) == IFederation.Status.Commit) vm.warp(federation.getRound(round).commitDeadline);
        most = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (hasMissed[i]) continue;
            bytes memory call = abi.encodeCall(IFederation.revealMasked, (round, _maskedReveal(round, i)));
            uint256 used = _measure(_participant(i), at, call);
            if (used > most) most = used;
        }
        _record("revealMasked", count, gone, most);
        vm.warp(federation.getRound(round).revealDeadline);
        most = _measure(aggregators[0], at, abi.encodeCall(IFederation.sealSet, (round, _sealVerdicts(round))));
        _record("sealSet", count, gone, most);
        _mine();
        most = _measure(stranger, at, abi.encodeCall(IFederation.fixSketch, (round)));
        if (count == 16 && gone == 0) _record("fixSketch", count, 0, most);
        for (uint256 i = 0; i < count; ++i) {
            if (hasMissed[i]) continue;
            bytes memory call = abi.encodeCall(IFederation.unmask, (round, _secrets(round, i), _sketch(round, i)));
            uint256 used = _measure(_participant(i), at, call);
            isOpen[i] = true;
            if (used > unmaskGas) unmaskGas = used;
        }
        _record("unmask", count, gone, unmaskGas);
    }

    /// @dev A challenge of a leaf without a zero byte, a standby taking over.
    function _dispute(uint256 count, uint256 gone) private returns (uint256 used, uint256 size) {
        for (uint256 i = 0; i < count; ++i) {
            _keepRoot(i);
        }
        _keepRoot(FIRST_MODEL);
        _keepRoot(NEW_MODEL);
        federation = _deploy(_terms());
        _leaveOut(count, gone);
        uint256 round = _summedWith(count);
        bytes32 root = roots[NEW_MODEL];
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
        bytes memory call = abi.encodeCall(
            IFederation.challengeSum, (round, LEAF, verdicts, _records(round), _leaf(FIRST_MODEL), _leaf(NEW_MODEL))
        );
        used = _measure(stranger, address(federation), call);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        return (used, call.length);
    }

    function _records(uint256 round) private view returns (bytes memory records) {
        for (uint256 i = 0; i < members; ++i) {
            if (_isOutside(i)) continue;
            IFederation.Leaf memory leaf = _leaf(i);
            records = abi.encodePacked(
                records, leaf.values, leaf.proof, _binding(round, i), _examples(i), _ownSeed(round, i), _seeds(round, i)
            );
        }
    }

    function _keepRoot(uint256 i) private {
        IFederation.Leaf memory leaf = _leaf(i);
        roots[i] = Trees.fold(leaf.values, LEAF, leaf.proof);
    }

    function _leaf(uint256 i) private view returns (IFederation.Leaf memory leaf) {
        leaf.values = new bytes(BYTES);
        for (uint256 k = 0; k < BYTES; ++k) {
            leaf.values[k] = bytes1(uint8(1 + (i + 7 * k) % 255));
        }
        leaf.proof = new bytes32[](depth);
        for (uint256 level = 0; level < depth; ++level) {
            leaf.proof[level] = keccak256(abi.encode(i, level));
        }
    }

    function _record(string memory name, uint256 count, uint256 gone, uint256 used) private {
        string memory size = vm.toString(count);
        if (gone != 0) size = string.concat(size, ", ", vm.toString(gone), " gone");
        vm.snapshotValue("Gas", string.concat(name, " (", size, ")"), used);
    }
}
