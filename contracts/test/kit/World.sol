// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {DevToken} from "../../src/DevToken.sol";
import {Federation} from "../../src/Federation.sol";
import {IFederation} from "../../src/IFederation.sol";
import {Test} from "./Test.sol";

/// @dev An honest federation, one line a step. A test bends one fact and looks at what comes of it.
abstract contract World is Test {
    uint256 internal constant START = 1_700_000_000;
    uint128 internal constant REWARD = 1000;
    uint128 internal constant FEE = 50;
    uint128 internal constant STAKE = 500;
    uint128 internal constant PENALTY = 200;
    uint128 internal constant BOND = 5000;
    uint128 internal constant DEPOSIT = 30;
    uint32 internal constant COMMIT = 100;
    uint32 internal constant REVEAL = 200;
    uint32 internal constant PROPOSE = 300;
    uint32 internal constant CHALLENGE = 400;
    uint32 internal constant RESPONSE = 100;
    uint32 internal constant UNBONDING = 1000;
    uint16 internal constant SEATS = 8;
    uint32 internal constant WEIGHT_CAP = 1000;
    uint16 internal constant FULL = 10_000;

    bytes32 internal constant INITIAL_ROOT = keccak256("initial root");
    bytes32 internal constant INITIAL_MANIFEST = keccak256("initial manifest");
    bytes32 internal constant NEW_ROOT = keccak256("new root");
    bytes32 internal constant NEW_MANIFEST = keccak256("new manifest");

    IERC20 internal token;
    Federation internal federation;
    address internal sponsor = _account("sponsor");
    address internal stranger = _account("stranger");
    address[] internal aggregators;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(100);
        token = new DevToken(type(uint128).max);
        for (uint256 i = 0; i < 3; ++i) {
            aggregators.push(_account(string.concat("aggregator ", vm.toString(i))));
        }
        federation = _deploy(_terms());
    }

    // ------------------------------------------------------------ deployment

    function _terms() internal view virtual returns (IFederation.Terms memory) {
        return IFederation.Terms({
            token: IERC20(address(token)),
            specDigest: keccak256("spec"),
            initialModelRoot: INITIAL_ROOT,
            initialModelManifest: INITIAL_MANIFEST,
            leafCount: 300,
            treeDepth: 9,
            leafValues: 64,
            maxParticipants: SEATS,
            weightCap: WEIGHT_CAP,
            rounds: 10,
            samplingFraction: FULL,
            roundReward: REWARD,
            aggregatorFee: FEE,
            participantStake: STAKE,
            missedRevealPenalty: PENALTY,
            aggregatorBond: BOND,
            availabilityDeposit: DEPOSIT,
            commitSeconds: COMMIT,
            revealSeconds: REVEAL,
            proposeSeconds: PROPOSE,
            challengeSeconds: CHALLENGE,
            responseSeconds: RESPONSE,
            unbondingSeconds: UNBONDING,
            closesAt: uint40(START + 100_000)
        });
    }

    function _deploy(IFederation.Terms memory terms) internal returns (Federation) {
        vm.prank(sponsor);
        return new Federation(terms, aggregators);
    }

    // --------------------------------------------------------------- accounts

    /// @dev Participants in ascending order of address, with as many non-zero bytes as real ones.
    function _participant(uint256 i) internal pure returns (address) {
        return address(uint160(0x9F3a8f1c2d4e5B6A798897A6b5C4D3e2F1010101) + uint160(i));
    }

    function _give(address account, uint256 amount) internal {
        require(token.transfer(account, amount));
        vm.prank(account);
        token.approve(address(federation), type(uint256).max);
    }

    function _fund(uint256 amount) internal {
        _give(sponsor, amount);
        vm.prank(sponsor);
        federation.fund(amount);
    }

    function _bond(address aggregator) internal {
        _give(aggregator, federation.terms().aggregatorBond);
        vm.prank(aggregator);
        federation.bond();
    }

    function _join(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _joinOne(_participant(i));
        }
    }

    function _joinOne(address account) internal {
        _give(account, federation.terms().participantStake);
        vm.prank(account);
        federation.join();
    }

    // ---------------------------------------------------------------- a round

    /// @dev Funded, bonded (lead and first standby), joined, and open for commitments.
    function _openWith(uint256 participants) internal returns (uint256 round) {
        _fund(uint256(federation.terms().roundReward) + federation.terms().aggregatorFee);
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        _join(participants);
        return _open();
    }

    function _open() internal returns (uint256 round) {
        vm.prank(federation.currentAggregator());
        return federation.openRound();
    }

    function _root(uint256 round, uint256 i) internal view virtual returns (bytes32) {
        return keccak256(abi.encode("root", round, i));
    }

    function _manifest(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("manifest", round, i));
    }

    function _salt(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", round, i));
    }

    function _examples(uint256 i) internal view virtual returns (uint32) {
        return uint32(100 + i);
    }

    function _commitment(uint256 round, uint256 i) internal view returns (bytes32) {
        return _commitmentOf(address(federation), round, _participant(i), round, i);
    }

    /// @dev The commitment of `account` in `inRound` of `target` to the update (`round`, `i`).
    function _commitmentOf(address target, uint256 inRound, address account, uint256 round, uint256 i)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                target, inRound, account, _root(round, i), _manifest(round, i), uint256(_examples(i)), _salt(round, i)
            )
        );
    }

    function _commit(uint256 round, uint256 i) internal {
        bytes32 commitment = _commitment(round, i);
        vm.prank(_participant(i));
        federation.commit(round, commitment);
    }

    function _reveal(uint256 round, uint256 i) internal {
        _revealAs(_participant(i), round, i);
    }

    function _revealAs(address account, uint256 round, uint256 i) internal {
        vm.prank(account);
        federation.reveal(round, _root(round, i), _manifest(round, i), _examples(i), _salt(round, i));
    }

    function _commitAll(uint256 round, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _commit(round, i);
        }
    }

    function _revealAll(uint256 round, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _reveal(round, i);
        }
    }

    /// @dev Opened, and all of `participants` have revealed: the aggregator's turn.
    function _revealedWith(uint256 participants) internal returns (uint256 round) {
        round = _openWith(participants);
        _commitAll(round, participants);
        _revealAll(round, participants);
    }

    function _verdict(uint256 i) internal view returns (IFederation.Verdict memory) {
        return IFederation.Verdict({participant: _participant(i), weight: _examples(i), score: FULL, reason: 0});
    }

    function _rejection(uint256 i, uint8 reason) internal pure returns (IFederation.Verdict memory) {
        return IFederation.Verdict({participant: _participant(i), weight: 0, score: 0, reason: reason});
    }

    function _verdicts(uint256 count) internal view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = new IFederation.Verdict[](count);
        for (uint256 i = 0; i < count; ++i) {
            verdicts[i] = _verdict(i);
        }
    }

    function _propose(uint256 round, IFederation.Verdict[] memory verdicts) internal {
        _proposeAs(federation.currentAggregator(), round, verdicts);
    }

    function _proposeAs(address aggregator, uint256 round, IFederation.Verdict[] memory verdicts) internal {
        vm.prank(aggregator);
        federation.propose(round, NEW_ROOT, NEW_MANIFEST, verdicts);
    }

    function _proposedWith(uint256 participants) internal returns (uint256 round) {
        round = _revealedWith(participants);
        _propose(round, _verdicts(participants));
    }

    function _finalizedWith(uint256 participants) internal returns (uint256 round) {
        round = _proposedWith(participants);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(participants));
    }

    /// @dev Past the point where any round can be opened; the round that is open, if any, stays so.
    function _close() internal {
        vm.warp(federation.terms().closesAt);
    }

    // ------------------------------------------------------------- assertions

    function _assertStatus(uint256 round, IFederation.Status expected) internal view {
        vm.assertEq(uint8(federation.status(round)), uint8(expected), "status");
    }

    function _assertSubmission(uint256 round, address account, IFederation.SubmissionState expected) internal view {
        vm.assertEq(uint8(federation.getSubmission(round, account).state), uint8(expected), "submission");
    }

    function _assertAggregator(address account, IFederation.AggregatorState expected) internal view {
        vm.assertEq(uint8(federation.aggregatorState(account)), uint8(expected), "aggregator");
    }

    function _expectWrongStatus(uint256 round, IFederation.Status required, IFederation.Status actual) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.WrongStatus.selector, round, required, actual));
    }

    function _expectWrongSubmission(
        uint256 round,
        address account,
        IFederation.SubmissionState required,
        IFederation.SubmissionState actual
    ) internal {
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.WrongSubmissionState.selector, round, account, required, actual)
        );
    }
}
