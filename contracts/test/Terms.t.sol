// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IFactory} from "../src/IFactory.sol";
import {IFederation} from "../src/IFederation.sol";
import {Vm} from "./kit/Test.sol";
import {World} from "./kit/World.sol";

/// @dev The factory, and every check of the terms at both of its edges.
contract TermsTest is World {
    // ---------------------------------------------------------------- founding

    /// @notice What was founded is read back, and nothing else is on record.
    function test_WhatWasFoundedIsReadBack() public view {
        vm.assertEq(abi.encode(federation.terms()), abi.encode(_terms()));
        vm.assertEq(federation.sponsor(), sponsor);
        vm.assertEq(federation.createdAt(), START);
        vm.assertEq(federation.idleSince(), START);
        vm.assertEq(federation.aggregators(), aggregators);
        vm.assertEq(federation.currentAggregator(), aggregators[0]);
        vm.assertEq(federation.currentAggregatorIndex(), 0);
        for (uint256 i = 0; i < aggregators.length; ++i) {
            _assertAggregator(aggregators[i], IFederation.AggregatorState.Listed);
        }
        _assertAggregator(sponsor, IFederation.AggregatorState.Unlisted);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
        vm.assertEq(manifest, INITIAL_MANIFEST);
        vm.assertEq(federation.roundCount(), 0);
        vm.assertEq(federation.lastFinalizedRound(), 0);
        vm.assertEq(federation.activeCount(), 0);
        vm.assertEq(federation.bondedCount(), 0);
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.deposits(), 0);
        vm.assertEq(federation.burned(), 0);
        vm.assertFalse(federation.isClosed(), "closed");
        vm.assertFalse(federation.isOver(), "over");
    }

    /// @notice Each founding is announced with the federation, its sponsor and the spec.
    function test_EachFoundingIsAnnounced() public {
        vm.recordLogs();
        federation = _deploy(_terms());
        vm.assertTrue(_isAnnounced(address(federation), sponsor, _terms().identity.specDigest), "announced");
        vm.prank(stranger);
        address other = factory.create(_terms(), aggregators);
        vm.assertEq(IFederation(other).sponsor(), stranger);
        vm.assertNotEq(other, address(federation));
    }

    /// @notice A federation is a minimal proxy of the factory's implementation.
    function test_AFederationIsAMinimalProxy() public view {
        bytes memory code = address(federation).code;
        bytes memory head =
            abi.encodePacked(hex"363d3d373d3d3d363d73", factory.implementation(), hex"5af43d82803e903d91602b57fd5bf3");
        vm.assertGt(code.length, head.length, "terms stand behind the proxy's code");
        for (uint256 i = 0; i < head.length; ++i) {
            vm.assertEq(uint8(code[i]), uint8(head[i]));
        }
    }

    /// @notice Nobody does anything with the implementation itself: no money, no seat, no round.
    function test_TheImplementationItselfIsNoFederation() public {
        IFederation implementation = IFederation(factory.implementation());
        bytes[6] memory calls = [
            abi.encodeCall(IFederation.fund, (1)),
            abi.encodeCall(IFederation.join, (0, "")),
            abi.encodeCall(IFederation.bond, ()),
            abi.encodeCall(IFederation.openRound, ()),
            abi.encodeCall(IFederation.close, ()),
            abi.encodeCall(IFederation.withdraw, ())
        ];
        for (uint256 i = 0; i < 6; ++i) {
            vm.prank(sponsor);
            (bool isDone,) = address(implementation).call{gas: 1_000_000}(calls[i]); // it may loop over nonsense
            vm.assertFalse(isDone, vm.toString(i));
        }
    }

    /// @notice Up to eight aggregators stand by in the order given.
    function test_UpToEightAggregators() public {
        for (uint256 i = 3; i < 8; ++i) {
            aggregators.push(_account(string.concat("aggregator ", vm.toString(i))));
        }
        federation = _deploy(_terms());
        vm.assertEq(federation.aggregators(), aggregators);
        _assertAggregator(aggregators[7], IFederation.AggregatorState.Listed);
        _give(aggregators[7], BOND);
        vm.prank(aggregators[7]);
        federation.bond();
        aggregators.push(_account("one too many"));
        _refuse(_terms(), "aggregators", 9);
        delete aggregators;
        _refuse(_terms(), "aggregators", 0);
    }

    /// @notice No aggregator is the zero address or listed twice.
    function test_RevertWhen_AnAggregatorIsNobodyOrTwice() public {
        aggregators[1] = address(0);
        vm.expectRevert(abi.encodeWithSelector(IFactory.InvalidAggregator.selector, address(0)));
        factory.create(_terms(), aggregators);
        aggregators[1] = aggregators[0];
        vm.expectRevert(abi.encodeWithSelector(IFactory.InvalidAggregator.selector, aggregators[0]));
        factory.create(_terms(), aggregators);
        aggregators[1] = aggregators[2];
        vm.expectRevert(abi.encodeWithSelector(IFactory.InvalidAggregator.selector, aggregators[2]));
        factory.create(_terms(), aggregators);
    }

    /// @notice Whatever terms pass are read back bit for bit.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_TermsArePackedWithoutLoss(uint256 seed, bytes32[4] memory digests, uint128[6] memory money)
        public
    {
        IFederation.Terms memory terms = _terms();
        for (uint256 i = 0; i < 4; ++i) {
            if (digests[i] == 0) digests[i] = keccak256(abi.encode(seed, i));
        }
        terms.identity.specDigest = digests[0];
        terms.identity.initialModelRoot = digests[1];
        terms.identity.initialModelManifest = digests[2];
        terms.identity.zeroRoot = digests[3];
        terms.identity.treeDepth = uint8(_part(seed, 0, 0, 32));
        uint256 largest = 1 << terms.identity.treeDepth;
        if (largest > type(uint32).max) largest = type(uint32).max;
        terms.identity.leafCount = uint32(
            terms.identity.treeDepth == 0
                ? 1
                : _part(seed, 1, (uint256(1) << terms.identity.treeDepth) / 2 + 1, largest)
        );
        terms.identity.gridBits = uint8(_part(seed, 2, 0, 24));
        terms.identity.gridEvery = uint32(_part(seed, 3, 0, type(uint32).max));
        terms.seats.maxParticipants = uint16(_part(seed, 4, 1, 512));
        terms.seats.minParticipants = uint16(_part(seed, 5, 1, terms.seats.maxParticipants));
        terms.seats.roundSeats = uint16(_part(seed, 6, 1, 64));
        terms.seats.roundTarget = uint16(_part(seed, 7, 1, terms.seats.maxParticipants));
        terms.seats.maxMissed = uint8(_part(seed, 8, 1, 255));
        terms.seats.byInvitation = _part(seed, 9, 0, 1) == 1;
        terms.seats.weightCap = uint32(_part(seed, 10, 1, ((1 << 24) - 1) / terms.seats.roundSeats));
        terms.seats.rounds = uint32(_part(seed, 11, 1, type(uint32).max));
        _setMoney(terms, money);
        _setWindows(terms, seed);
        terms.rules.scoring = IFederation.Scoring(_part(seed, 12, 0, 1));
        federation = _deploy(terms);
        vm.assertEq(abi.encode(federation.terms()), abi.encode(terms));
        vm.assertEq(federation.sponsor(), sponsor);
        vm.assertEq(federation.aggregators(), aggregators);
    }

    // --------------------------------------------------------------- identity

    /// @notice No digest of the identity is zero.
    function test_RevertWhen_ADigestIsZero() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.specDigest = 0;
        _refuse(terms, "specDigest", 0);
        terms = _terms();
        terms.identity.initialModelRoot = 0;
        _refuse(terms, "initialModelRoot", 0);
        terms = _terms();
        terms.identity.initialModelManifest = 0;
        _refuse(terms, "initialModelManifest", 0);
        terms = _terms();
        terms.identity.zeroRoot = 0;
        _refuse(terms, "zeroRoot", 0);
    }

    /// @notice There is a leaf, and the depth is the smallest that holds every leaf.
    function test_TheDepthIsTheSmallestThatHoldsEveryLeaf() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.leafCount = 0;
        _refuse(terms, "leafCount", 0);
        uint32[8] memory counts = [1, 2, 3, 4, 5, uint32(1 << 31), uint32(1 << 31) + 1, type(uint32).max];
        uint8[8] memory depths = [0, 1, 2, 2, 3, 31, 32, 32];
        for (uint256 i = 0; i < 8; ++i) {
            _accept(_withTree(counts[i], depths[i]));
            _refuse(_withTree(counts[i], depths[i] + 1), "treeDepth", depths[i] + 1);
            if (depths[i] != 0) _refuse(_withTree(counts[i], depths[i] - 1), "treeDepth", depths[i] - 1);
            _refuse(_withTree(counts[i], 255), "treeDepth", 255);
        }
    }

    /// @notice The grid has at most 24 bits.
    function test_TheGridHasAtMost24Bits() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.gridBits = 0;
        _accept(terms);
        terms.identity.gridBits = 24;
        terms.identity.gridEvery = type(uint32).max;
        _accept(terms);
        terms.identity.gridBits = 25;
        _refuse(terms, "gridBits", 25);
    }

    // ------------------------------------------------------------------ seats

    /// @notice 1 to 512 seats, of which at least one makes a round and no more than there are.
    function test_Seats() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.maxParticipants = 0;
        _refuse(terms, "maxParticipants", 0);
        terms.seats.maxParticipants = 513;
        _refuse(terms, "maxParticipants", 513);
        terms.seats.maxParticipants = 512;
        _accept(terms);
        terms = _terms();
        terms.seats.minParticipants = 0;
        _refuse(terms, "minParticipants", 0);
        terms.seats.minParticipants = SEATS;
        _accept(terms);
        terms.seats.minParticipants = SEATS + 1;
        _refuse(terms, "minParticipants", SEATS + 1);
    }

    /// @notice At least one seat is asked, 1 to 64 enter a round, and a seat may miss at least one.
    function test_RoundSeats() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 0;
        _refuse(terms, "roundTarget", 0);
        terms.seats.roundTarget = 1;
        _accept(terms);
        terms = _terms();
        terms.seats.roundSeats = 0;
        _refuse(terms, "roundSeats", 0);
        terms.seats.roundSeats = 65;
        _refuse(terms, "roundSeats", 65);
        terms.seats.roundSeats = 64;
        _accept(terms);
        terms = _terms();
        terms.seats.maxMissed = 0;
        _refuse(terms, "maxMissed", 0);
        terms.seats.maxMissed = 1;
        _accept(terms);
        terms.seats.maxMissed = 255;
        _accept(terms);
    }

    /// @notice All weights of a round together stay below 2^24.
    function test_WeightsStayBelow2To24() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.weightCap = 0;
        _refuse(terms, "weightCap", 0);
        terms.seats.roundSeats = 64;
        terms.seats.weightCap = (1 << 18) - 1;
        _accept(terms);
        terms.seats.weightCap = 1 << 18;
        _refuse(terms, "weightCap", 1 << 18);
        terms.seats.weightCap = type(uint32).max; // the product is made in 256 bits
        _refuse(terms, "weightCap", type(uint32).max);
    }

    /// @notice There is a round.
    function test_Rounds() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.rounds = 0;
        _refuse(terms, "rounds", 0);
        terms.seats.rounds = type(uint32).max;
        _accept(terms);
    }

    // ------------------------------------------------------------------ money

    /// @notice The token is a contract.
    function test_RevertWhen_TheTokenIsNoContract() public {
        IFederation.Terms memory terms = _terms();
        terms.money.token = IERC20(stranger);
        _refuse(terms, "token", uint160(stranger));
    }

    /// @notice There is a stake and a bond; the penalty is at most the stake.
    function test_StakesAndBonds() public {
        IFederation.Terms memory terms = _terms();
        terms.money.participantStake = 0;
        terms.money.missedRevealPenalty = 0;
        _refuse(terms, "participantStake", 0);
        terms = _terms();
        terms.money.aggregatorBond = 0;
        _refuse(terms, "aggregatorBond", 0);
        terms = _terms();
        terms.money.missedRevealPenalty = STAKE;
        _accept(terms);
        terms.money.missedRevealPenalty = STAKE + 1;
        _refuse(terms, "missedRevealPenalty", STAKE + 1);
        terms.money.missedRevealPenalty = 0;
        _accept(terms);
    }

    /// @notice No amount is 2^112 or more, so that what is burned and escrowed adds up in 128 bits.
    function test_AmountsStayBelow2To112() public {
        string[6] memory names = [
            "updateReward",
            "aggregatorFee",
            "participantStake",
            "missedRevealPenalty",
            "aggregatorBond",
            "availabilityDeposit"
        ];
        uint128 most = (1 << 112) - 1;
        IFederation.Terms memory terms = _terms();
        _setAmounts(terms, [most, most, most, most, most, most]);
        _accept(terms);
        for (uint256 i = 0; i < 6; ++i) {
            uint128[6] memory money = [REWARD, FEE, STAKE, PENALTY, BOND, DEPOSIT];
            money[i] = most + 1;
            if (i == 3) money[2] = most; // a penalty is part of a stake
            _setAmounts(terms, money);
            _refuse(terms, bytes32(bytes(names[i])), most + 1);
        }
        terms = _terms();
        terms.windows.responseSeconds = 0; // deposits are limited where they are never asked for, too
        terms.money.availabilityDeposit = type(uint128).max;
        _refuse(terms, "availabilityDeposit", type(uint128).max);
    }

    /// @notice Rewards and fees may be nothing: some federations train for the model.
    function test_RewardAndFeeMayBeNothing() public {
        IFederation.Terms memory terms = _terms();
        terms.money.updateReward = 0;
        terms.money.aggregatorFee = 0;
        _accept(terms);
    }

    /// @notice With leaf requests there is a deposit, and a request leaves time for an answer and a dispute.
    function test_LeafRequests() public {
        IFederation.Terms memory terms = _terms();
        terms.money.availabilityDeposit = 0;
        _refuse(terms, "availabilityDeposit", 0);
        terms.windows.responseSeconds = 0;
        _accept(terms);
        terms = _terms();
        terms.windows.challengeSeconds = 3 * RESPONSE;
        _accept(terms);
        terms.windows.challengeSeconds = 3 * RESPONSE - 1;
        _refuse(terms, "responseSeconds", RESPONSE);
    }

    // ---------------------------------------------------------------- windows

    /// @notice Each window has a second, and at most 30 days.
    function test_WindowsAreBounded() public {
        string[4] memory names = ["commitSeconds", "revealSeconds", "proposeSeconds", "challengeSeconds"];
        for (uint256 i = 0; i < 4; ++i) {
            IFederation.Terms memory terms = _longTerms();
            _setWindow(terms, i, 0);
            terms.windows.responseSeconds = 0;
            if (i < 3) _refuse(terms, bytes32(bytes(names[i])), 0);
            _setWindow(terms, i, 30 days);
            if (i == 3) _accept(terms);
            _setWindow(terms, i, 30 days + 1);
            _refuse(terms, bytes32(bytes(names[i])), 30 days + 1);
        }
        IFederation.Terms memory longest = _longTerms();
        longest.windows.responseSeconds = 10 days;
        longest.windows.challengeSeconds = 30 days;
        longest.windows.unbondingSeconds = 30 days;
        longest.windows.commitSeconds = longest.windows.revealSeconds = longest.windows.proposeSeconds = 10 days;
        _accept(longest);
        longest.windows.unbondingSeconds = 30 days + 1;
        _refuse(longest, "unbondingSeconds", 30 days + 1);
    }

    /// @notice Without a challenge window a proposal could be settled in its own block: there is one.
    function test_RevertWhen_ThereIsNoChallengeWindow() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.responseSeconds = 0;
        terms.windows.challengeSeconds = 0;
        _refuse(terms, "challengeSeconds", 0);
    }

    /// @notice A stake outlasts every commitment it stands for.
    function test_AStakeOutlastsARound() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.unbondingSeconds = COMMIT + REVEAL + PROPOSE;
        _accept(terms);
        terms.windows.unbondingSeconds -= 1;
        _refuse(terms, "unbondingSeconds", COMMIT + REVEAL + PROPOSE - 1);
    }

    /// @notice The federation closes in the future, at most five years away.
    function test_TheClosingDateIsBounded() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.closesAt = uint40(START);
        _refuse(terms, "closesAt", START);
        terms.windows.closesAt = uint40(START + 1);
        _accept(terms);
        terms.windows.closesAt = uint40(START + 5 * 365 days);
        _accept(terms);
        terms.windows.closesAt = uint40(START + 5 * 366 days + 1);
        _refuse(terms, "closesAt", START + 5 * 366 days + 1);
        terms.windows.closesAt = type(uint40).max;
        _refuse(terms, "closesAt", type(uint40).max);
    }

    // ------------------------------------------------------------------ rules

    /// @notice Clear updates are paid by either rule, and know none of what only sums need.
    function test_ClearTermsHaveNoPhasesOfSums() public {
        IFederation.Terms memory terms = _terms();
        terms.rules.scoring = IFederation.Scoring.HeldOut;
        _accept(terms);
        terms.rules.minSet = 3;
        _refuse(terms, "minSet", 3);
        terms = _terms();
        terms.windows.sealSeconds = 1;
        _refuse(terms, "sealSeconds", 1);
        terms = _terms();
        terms.windows.unmaskSeconds = 1;
        _refuse(terms, "unmaskSeconds", 1);
        terms = _terms();
        terms.windows.assistSeconds = 1;
        _refuse(terms, "assistSeconds", 1);
    }

    /// @notice Private, or paid by measured help: a masked update cannot be measured by itself.
    function test_MaskedUpdatesAreAllWorthTheSame() public {
        IFederation.Terms memory terms = _maskedTerms();
        _accept(terms);
        terms.rules.scoring = IFederation.Scoring.HeldOut;
        _refuse(terms, "scoring", 1);
    }

    /// @notice A sum is of three updates at least, and no more than a round that opens can have.
    function test_TheLeastSetIsBounded() public {
        IFederation.Terms memory terms = _maskedTerms();
        terms.rules.minSet = 2;
        _refuse(terms, "minSet", 2);
        terms.rules.minSet = 3;
        _accept(terms);
        terms.seats.minParticipants = SEATS;
        terms.rules.minSet = uint8(SEATS);
        _accept(terms);
        terms.rules.minSet = uint8(SEATS) + 1;
        _refuse(terms, "minSet", SEATS + 1);
        terms.rules.minSet = uint8(SEATS);
        terms.seats.minParticipants = SEATS - 1;
        _refuse(terms, "minSet", SEATS);
        terms.seats.minParticipants = SEATS;
        terms.seats.roundSeats = SEATS - 1;
        _refuse(terms, "minSet", SEATS);
    }

    /// @notice At most 32 masked updates a round, of fewer than 2^24 leaves.
    function test_MaskedRoundsAreBounded() public {
        IFederation.Terms memory terms = _maskedTerms();
        terms.seats.roundSeats = 32;
        _accept(terms);
        terms.seats.roundSeats = 33;
        _refuse(terms, "roundSeats", 33);
        terms = _maskedTerms();
        terms.identity.leafCount = (1 << 24) - 1;
        terms.identity.treeDepth = 24;
        _accept(terms);
        terms.identity.leafCount = 1 << 24;
        _refuse(terms, "leafCount", 1 << 24);
        terms.rules.privacy = IFederation.Privacy.Clear;
        terms.rules.minSet = 0;
        terms.windows.sealSeconds = terms.windows.unmaskSeconds = terms.windows.assistSeconds = 0;
        _accept(terms);
    }

    /// @notice Each phase of a sum has a second, at most 30 days, and the stake outlasts them.
    function test_MaskedWindowsAreBounded() public {
        string[3] memory names = ["sealSeconds", "unmaskSeconds", "assistSeconds"];
        for (uint256 i = 0; i < 3; ++i) {
            IFederation.Terms memory terms = _maskedTerms();
            _setMaskedWindow(terms, i, 0);
            _refuse(terms, bytes32(bytes(names[i])), 0);
            _setMaskedWindow(terms, i, 1);
            _accept(terms);
            _setMaskedWindow(terms, i, 30 days);
            _refuse(terms, "unbondingSeconds", UNBONDING);
            _setMaskedWindow(terms, i, 30 days + 1);
            _refuse(terms, bytes32(bytes(names[i])), 30 days + 1);
        }
        IFederation.Terms memory least = _maskedTerms();
        least.windows.unbondingSeconds = COMMIT + REVEAL + SEAL + UNMASK + ASSIST + PROPOSE;
        _accept(least);
        least.windows.unbondingSeconds -= 1;
        _refuse(least, "unbondingSeconds", least.windows.unbondingSeconds);
    }

    /// @notice Masked terms are read back bit for bit, each from its place.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_MaskedTermsArePackedWithoutLoss(uint256 seed) public {
        IFederation.Terms memory terms = _maskedTerms();
        terms.seats.roundSeats = uint16(_part(seed, 0, 3, 32));
        terms.seats.maxParticipants = uint16(_part(seed, 1, terms.seats.roundSeats, 512));
        terms.seats.minParticipants = uint16(_part(seed, 2, 3, terms.seats.maxParticipants));
        uint256 most = terms.seats.roundSeats;
        if (most > terms.seats.minParticipants) most = terms.seats.minParticipants;
        terms.rules.minSet = uint8(_part(seed, 3, 3, most));
        terms.windows.sealSeconds = uint32(_part(seed, 4, 1, 9 days));
        terms.windows.unmaskSeconds = uint32(_part(seed, 5, 1, 9 days));
        terms.windows.assistSeconds = uint32(_part(seed, 6, 1, 9 days));
        terms.windows.unbondingSeconds = uint32(_part(seed, 7, 28 days, 30 days));
        _accept(terms);
        vm.assertEq(federation.sponsor(), sponsor);
        vm.assertEq(federation.createdAt(), block.timestamp);
        vm.assertEq(federation.aggregators(), aggregators);
    }

    // --------------------------------------------------------------- helpers

    function _accept(IFederation.Terms memory terms) private {
        federation = _deploy(terms);
        vm.assertEq(abi.encode(federation.terms()), abi.encode(terms));
    }

    function _refuse(IFederation.Terms memory terms, bytes32 term, uint256 value) private {
        vm.expectRevert(abi.encodeWithSelector(IFactory.InvalidTerm.selector, term, value));
        factory.create(terms, aggregators);
    }

    function _withTree(uint32 leafCount, uint8 depth) private view returns (IFederation.Terms memory terms) {
        terms = _terms();
        terms.identity.leafCount = leafCount;
        terms.identity.treeDepth = depth;
    }

    /// @dev Room for one window of 30 days... but the sum of the first three is bounded by the unbonding.
    function _longTerms() private view returns (IFederation.Terms memory terms) {
        terms = _terms();
        terms.windows.unbondingSeconds = 30 days;
    }

    function _setMaskedWindow(IFederation.Terms memory terms, uint256 i, uint32 value) private pure {
        if (i == 0) terms.windows.sealSeconds = value;
        if (i == 1) terms.windows.unmaskSeconds = value;
        if (i == 2) terms.windows.assistSeconds = value;
    }

    function _setWindow(IFederation.Terms memory terms, uint256 i, uint32 value) private pure {
        if (i == 0) terms.windows.commitSeconds = value;
        if (i == 1) terms.windows.revealSeconds = value;
        if (i == 2) terms.windows.proposeSeconds = value;
        if (i == 3) terms.windows.challengeSeconds = value;
    }

    /// @dev Drawn amounts brought into range.
    function _setMoney(IFederation.Terms memory terms, uint128[6] memory money) private pure {
        for (uint256 i = 0; i < 6; ++i) {
            money[i] = uint128(_bound(money[i], i == 0 || i == 1 ? 0 : 1, (1 << 112) - 1));
        }
        money[3] = uint128(_bound(money[3], 0, money[2]));
        _setAmounts(terms, money);
    }

    function _setAmounts(IFederation.Terms memory terms, uint128[6] memory money) private pure {
        terms.money.updateReward = money[0];
        terms.money.aggregatorFee = money[1];
        terms.money.participantStake = money[2];
        terms.money.missedRevealPenalty = money[3];
        terms.money.aggregatorBond = money[4];
        terms.money.availabilityDeposit = money[5];
    }

    function _setWindows(IFederation.Terms memory terms, uint256 seed) private pure {
        terms.windows.commitSeconds = uint32(_part(seed, 20, 1, 10 days));
        terms.windows.revealSeconds = uint32(_part(seed, 21, 1, 10 days));
        terms.windows.proposeSeconds = uint32(_part(seed, 22, 1, 10 days));
        uint256 sum = uint256(terms.windows.commitSeconds) + terms.windows.revealSeconds + terms.windows.proposeSeconds;
        terms.windows.unbondingSeconds = uint32(_part(seed, 23, sum, 30 days));
        terms.windows.challengeSeconds = uint32(_part(seed, 24, 3, 30 days));
        terms.windows.responseSeconds = uint32(_part(seed, 25, 0, terms.windows.challengeSeconds / 3));
        terms.windows.closesAt = uint40(_part(seed, 26, START + 1, START + 5 * 365 days));
    }

    function _part(uint256 seed, uint256 i, uint256 low, uint256 high) private pure returns (uint256) {
        uint256 drawn = uint256(keccak256(abi.encode(seed, i)));
        if (drawn % 16 == 0) return low;
        if (drawn % 16 == 1) return high;
        return _bound(drawn >> 8, low, high);
    }

    function _isAnnounced(address at, address by, bytes32 spec) private returns (bool) {
        bytes32[4] memory expected =
            [IFactory.FederationCreated.selector, bytes32(uint256(uint160(at))), bytes32(uint256(uint160(by))), spec];
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(factory) || logs[i].topics.length != 4) continue;
            bool isEqual = true;
            for (uint256 k = 0; k < 4; ++k) {
                isEqual = isEqual && logs[i].topics[k] == expected[k];
            }
            if (isEqual) return true;
        }
        return false;
    }
}

