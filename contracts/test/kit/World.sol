// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {DevToken} from "../../src/DevToken.sol";
import {IFactory} from "../../src/IFactory.sol";
import {IFederation} from "../../src/IFederation.sol";
import {Test} from "./Test.sol";

/// @dev An honest federation, one line a step. A test bends one fact and looks at what comes of it.
///      The contracts are taken from their artifacts: these tests know nothing but the interface.
abstract contract World is Test {
    uint256 internal constant START = 1_700_000_000;
    uint256 internal constant START_BLOCK = 1000;
    uint128 internal constant REWARD = 1000; // for one update of full weight
    uint128 internal constant FEE = 50;
    uint128 internal constant STAKE = 500;
    uint128 internal constant PENALTY = 200;
    uint128 internal constant BOND = 5001; // odd: half of it is rounded down
    uint128 internal constant HALF = 2500;
    uint128 internal constant DEPOSIT = 30;
    uint32 internal constant COMMIT = 100;
    uint32 internal constant REVEAL = 200;
    uint32 internal constant SEAL = 110; // where updates are masked
    uint32 internal constant UNMASK = 120;
    uint32 internal constant ASSIST = 130;
    uint32 internal constant PROPOSE = 300;
    uint32 internal constant CHALLENGE = 400;
    uint32 internal constant RESPONSE = 100;
    uint32 internal constant UNBONDING = 1000;
    uint40 internal constant CLOSES_AT = uint40(START + 100_000);
    uint16 internal constant SEATS = 8;
    uint32 internal constant WEIGHT_CAP = 1000;
    uint16 internal constant FULL = 10_000;
    uint256 internal constant ESCROW = uint256(SEATS) * REWARD + FEE; // what opening a round takes

    bytes32 internal constant INITIAL_ROOT = keccak256("initial root");
    bytes32 internal constant INITIAL_MANIFEST = keccak256("initial manifest");
    bytes32 internal constant NEW_ROOT = keccak256("new root");
    bytes32 internal constant NEW_MANIFEST = keccak256("new manifest");
    bytes32 internal constant ZERO_ROOT = keccak256("zero root");

    uint256 internal constant SPONSOR_KEY = uint256(keccak256("sponsor's key"));

    IERC20 internal token;
    IFactory internal factory;
    IFederation internal federation;
    address internal sponsor = vm.addr(SPONSOR_KEY);
    address internal stranger = _account("stranger");
    address[] internal aggregators;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(START_BLOCK);
        token = new DevToken(type(uint128).max);
        factory = IFactory(vm.deployCode("src/Factory.sol:Factory"));
        for (uint256 i = 0; i < 3; ++i) {
            aggregators.push(_account(string.concat("aggregator ", vm.toString(i))));
        }
        federation = _deploy(_terms());
    }

    // ---------------------------------------------------------------- founding

    function _terms() internal view virtual returns (IFederation.Terms memory terms) {
        terms.identity = IFederation.Identity({
            specDigest: keccak256("spec"),
            initialModelRoot: INITIAL_ROOT,
            initialModelManifest: INITIAL_MANIFEST,
            zeroRoot: ZERO_ROOT,
            leafCount: 300,
            treeDepth: 9,
            gridBits: 13,
            gridEvery: 0
        });
        terms.seats = IFederation.Seats({
            maxParticipants: SEATS,
            minParticipants: 1,
            roundTarget: SEATS,
            roundSeats: SEATS,
            maxMissed: 2,
            byInvitation: false,
            weightCap: WEIGHT_CAP,
            rounds: 10
        });
        terms.money = IFederation.Money({
            token: IERC20(address(token)),
            updateReward: REWARD,
            aggregatorFee: FEE,
            participantStake: STAKE,
            missedRevealPenalty: PENALTY,
            aggregatorBond: BOND,
            availabilityDeposit: DEPOSIT
        });
        terms.windows = IFederation.Windows({
            commitSeconds: COMMIT,
            revealSeconds: REVEAL,
            sealSeconds: 0,
            unmaskSeconds: 0,
            assistSeconds: 0,
            proposeSeconds: PROPOSE,
            challengeSeconds: CHALLENGE,
            responseSeconds: RESPONSE,
            unbondingSeconds: UNBONDING,
            closesAt: CLOSES_AT
        });
        terms.rules =
            IFederation.Rules({privacy: IFederation.Privacy.Clear, scoring: IFederation.Scoring.Equal, minSet: 0});
    }

    /// @dev The same federation, of which only sums are opened.
    function _maskedTerms() internal view returns (IFederation.Terms memory terms) {
        return _masked(_terms());
    }

    function _masked(IFederation.Terms memory terms) internal pure returns (IFederation.Terms memory) {
        terms.seats.minParticipants = 3;
        terms.windows.sealSeconds = SEAL;
        terms.windows.unmaskSeconds = UNMASK;
        terms.windows.assistSeconds = ASSIST;
        terms.rules.privacy = IFederation.Privacy.Masked;
        terms.rules.minSet = 3;
        return terms;
    }

    function _deploy(IFederation.Terms memory terms) internal returns (IFederation) {
        vm.prank(sponsor);
        return IFederation(factory.create(terms, aggregators));
    }

    // --------------------------------------------------------------- accounts

    /// @dev Participants in ascending order of address, with as many non-zero bytes as real ones.
    function _participant(uint256 i) internal view virtual returns (address) {
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
        _give(aggregator, federation.terms().money.aggregatorBond);
        vm.prank(aggregator);
        federation.bond();
    }

    function _join(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _joinOne(_participant(i));
        }
    }

    function _joinOne(address account) internal {
        _give(account, federation.terms().money.participantStake);
        _joinAs(account);
    }

    /// @dev The stake, if any is to be paid, is there already.
    function _joinAs(address account) internal {
        vm.prank(account);
        federation.join(0, "");
    }

    function _leave(address account) internal {
        vm.prank(account);
        federation.leave();
    }

    function _withdraw(address account) internal returns (uint256) {
        vm.prank(account);
        return federation.withdraw();
    }

    function _mine() internal {
        vm.roll(block.number + 1);
    }

    // ---------------------------------------------------------------- a round

    /// @dev What opening the next round takes, for all seats of a round.
    function _price() internal view returns (uint256) {
        IFederation.Terms memory terms = federation.terms();
        return uint256(terms.seats.roundSeats) * terms.money.updateReward + terms.money.aggregatorFee;
    }

    /// @dev Funded, bonded (lead and first standby), joined.
    function _ready(uint256 participants) internal {
        _fund(_price());
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        _join(participants);
        _mine();
    }

    function _openWith(uint256 participants) internal returns (uint256 round) {
        _ready(participants);
        return _open();
    }

    /// @dev Open for commitments: its seed is fixed in the block after the opening.
    function _open() internal returns (uint256 round) {
        round = _openUnseeded();
        _mine();
        federation.fixSeed(round);
    }

    function _openUnseeded() internal returns (uint256 round) {
        vm.prank(federation.currentAggregator());
        return federation.openRound();
    }

    function _root(uint256 round, uint256 i) internal view virtual returns (bytes32) {
        return keccak256(abi.encode("root", round, i));
    }

    function _manifest(uint256 round, uint256 i) internal view virtual returns (bytes32) {
        return keccak256(abi.encode("manifest", round, i));
    }

    function _salt(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", round, i));
    }

    function _examples(uint256 i) internal view virtual returns (uint32) {
        return uint32(100 + i);
    }

    function _weight(uint256 i) internal view returns (uint32) {
        uint32 cap = federation.terms().seats.weightCap;
        return _examples(i) < cap ? _examples(i) : cap;
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
        address account = _participant(i);
        vm.prank(account);
        federation.commit(round, commitment);
    }

    function _reveal(uint256 round, uint256 i) internal {
        _revealAs(_participant(i), round, i);
    }

    function _revealAs(address account, uint256 round, uint256 i) internal {
        (bytes32 root, bytes32 manifest, uint32 examples) = (_root(round, i), _manifest(round, i), _examples(i));
        vm.prank(account);
        federation.reveal(round, root, manifest, examples, _salt(round, i));
    }

    function _commitAll(uint256 round, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _commit(round, i);
        }
    }

    /// @dev From whatever phase before: the reveal phase is entered first.
    function _revealAll(uint256 round, uint256 count) internal {
        if (federation.status(round) == IFederation.Status.Commit) vm.warp(federation.getRound(round).commitDeadline);
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

    function _digest(uint256 round, uint256 i) internal view returns (bytes30) {
        return bytes30(keccak256(abi.encode(_root(round, i), _manifest(round, i), uint256(_examples(i)))));
    }

    function _opening(uint256 round, uint256 i) internal view returns (IFederation.Opening memory) {
        return IFederation.Opening({root: _root(round, i), manifest: _manifest(round, i), examples: _examples(i)});
    }

    function _verdict(uint256 round, uint256 i) internal view returns (IFederation.Verdict memory) {
        return IFederation.Verdict({
            participant: _participant(i), revealed: _digest(round, i), weight: _weight(i), score: FULL, reason: 0
        });
    }

    function _rejection(uint256 round, uint256 i, uint8 reason) internal view returns (IFederation.Verdict memory) {
        return IFederation.Verdict({
            participant: _participant(i), revealed: _digest(round, i), weight: 0, score: 0, reason: reason
        });
    }

    function _verdicts(uint256 round, uint256 count) internal view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = new IFederation.Verdict[](count);
        for (uint256 i = 0; i < count; ++i) {
            verdicts[i] = _verdict(round, i);
        }
    }

    function _rejections(uint256 round, uint256 count, uint8 reason)
        internal
        view
        returns (IFederation.Verdict[] memory verdicts)
    {
        verdicts = new IFederation.Verdict[](count);
        for (uint256 i = 0; i < count; ++i) {
            verdicts[i] = _rejection(round, i, reason);
        }
    }

    function _propose(uint256 round, IFederation.Verdict[] memory verdicts) internal {
        _proposeAs(federation.currentAggregator(), round, verdicts);
    }

    function _proposeAs(address aggregator, uint256 round, IFederation.Verdict[] memory verdicts) internal {
        vm.prank(aggregator);
        federation.propose(round, NEW_ROOT, NEW_MANIFEST, verdicts);
    }

    /// @dev Every update rejected: the model stays.
    function _proposeNothing(uint256 round, uint256 count, uint8 reason) internal {
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        IFederation.Verdict[] memory verdicts = _rejections(round, count, reason);
        vm.prank(federation.currentAggregator());
        federation.propose(round, root, manifest, verdicts);
    }

    function _proposedWith(uint256 participants) internal returns (uint256 round) {
        round = _revealedWith(participants);
        _propose(round, _verdicts(round, participants));
    }

    function _finalizedWith(uint256 participants) internal returns (uint256 round) {
        round = _proposedWith(participants);
        _finalize(round, _verdicts(round, participants));
    }

    function _finalize(uint256 round, IFederation.Verdict[] memory verdicts) internal {
        vm.warp(federation.getRound(round).nextDeadline);
        federation.finalize(round, verdicts);
    }

    /// @dev A round more, of those who joined: opened, played and settled.
    function _another(uint256 participants) internal returns (uint256 round) {
        _mine();
        round = _open();
        _commitAll(round, participants);
        _revealAll(round, participants);
        _propose(round, _verdicts(round, participants));
        _finalize(round, _verdicts(round, participants));
    }

    /// @dev Past the point where any round can be opened; the round that is open, if any, stays so.
    function _close() internal {
        vm.warp(federation.terms().windows.closesAt);
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

    function _expectWrongAggregator(
        address account,
        IFederation.AggregatorState required,
        IFederation.AggregatorState actual
    ) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.WrongAggregatorState.selector, account, required, actual));
    }
}
