// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {Handler} from "./kit/Handler.sol";
import {World} from "./kit/World.sol";

/// @dev What holds after any sequence of calls by any role. Handler.sol checks at each call that nobody is paid
///      twice or for a round that is not settleable, and that no status moves backwards.
/// forge-config: default.invariant.fail-on-revert = true
contract InvariantsTest is World {
    Handler private handler;

    function setUp() public override {
        super.setUp();
        IFederation.Terms memory terms = _terms();
        terms.rounds = 5;
        terms.missedRevealPenalty = 300; // two misses take more than the stake
        terms.leafCount = 1;
        terms.treeDepth = 0;
        terms.leafValues = 8;
        federation = _deploy(terms);
        handler = new Handler(federation, token);
        for (uint256 i = 0; i < 9; ++i) {
            require(token.transfer(handler.accounts(i), 1_000_000));
        }
    }

    /// @dev Read by forge: the only contract to call.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    struct FuzzSelector {
        address target;
        bytes4[] selectors;
    }

    /// @dev Read by forge: what it may call, twice where runs should spend their time.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](30);
        selectors[0] = Handler.fund.selector;
        selectors[1] = Handler.refund.selector;
        selectors[2] = Handler.join.selector;
        selectors[3] = Handler.leave.selector;
        selectors[4] = Handler.withdraw.selector;
        selectors[5] = Handler.commit.selector;
        selectors[6] = Handler.reveal.selector;
        selectors[7] = Handler.penalize.selector;
        selectors[8] = Handler.bond.selector;
        selectors[9] = Handler.unbond.selector;
        selectors[10] = Handler.openRound.selector;
        selectors[11] = Handler.propose.selector;
        selectors[12] = Handler.finalize.selector;
        selectors[13] = Handler.abandon.selector;
        selectors[14] = Handler.replaceAggregator.selector;
        selectors[15] = Handler.wait_.selector;
        selectors[16] = Handler.challengeAverage.selector;
        selectors[17] = Handler.challengeVerdict.selector;
        selectors[18] = Handler.challengeModel.selector;
        selectors[19] = Handler.challengeUpdate.selector;
        selectors[20] = Handler.postLeaf.selector;
        selectors[21] = Handler.settleAvailability.selector;
        for (uint256 i = 22; i < 30; ++i) {
            selectors[i] = Handler.goOn.selector;
        }
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector({target: address(handler), selectors: selectors});
    }

    function invariant_TheBooksAreRight() public view {
        _checkTokens();
        _checkRequests();
        _checkOpenRound();
        _checkCounts();
    }

    /// @dev Run by forge at the end of every sequence.
    function afterInvariant() public {
        handler.takeEverythingOut();
    }

    /// @dev Tokens in = credited + escrowed + staked + bonded + deposited + withdrawn, and the contract holds all but the last.
    function _checkTokens() private view {
        uint256 held =
            handler.credited() + federation.escrow() + handler.staked() + handler.bonded() + federation.deposits();
        vm.assertEq(handler.tokensIn(), held + handler.tokensOut(), "in and out");
        vm.assertEq(token.balanceOf(address(federation)), held, "held");
    }

    /// @dev Every request is counted once in the deposits and, while it can be answered, in its round.
    function _checkRequests() private view {
        vm.assertEq(federation.deposits(), handler.deposited(), "deposits");
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            vm.assertEq(federation.getRound(round).openRequests, handler.openRequests(round), "open requests");
            vm.assertLe(federation.getRound(round).proposals, 3, "one proposal an aggregator");
        }
    }

    /// @dev What an open round will cost is in escrow until it ends.
    function _checkOpenRound() private view {
        uint256 round = federation.roundCount();
        if (round == 0 || federation.getRound(round).outcome != IFederation.Outcome.Open) return;
        vm.assertGe(federation.escrow(), REWARD + FEE, "escrow");
        vm.assertEq(
            uint8(federation.aggregatorState(federation.currentAggregator())),
            uint8(IFederation.AggregatorState.Bonded),
            "somebody answers for the round"
        );
    }

    function _checkCounts() private view {
        vm.assertEq(federation.activeCount(), handler.activeParticipants(), "active");
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            IFederation.Round memory r = federation.getRound(round);
            vm.assertLe(r.committed, r.expected, "committed");
            vm.assertLe(r.revealed, r.committed, "revealed");
        }
    }

    /// @dev The handler is worth something only if its calls go through.
    function test_TheHandlerReachesEverything() public {
        bytes4[21] memory reached = [
            Federation.fund.selector,
            Federation.refund.selector,
            Federation.withdraw.selector,
            Federation.join.selector,
            Federation.leave.selector,
            Federation.commit.selector,
            Federation.reveal.selector,
            Federation.penalize.selector,
            Federation.bond.selector,
            Federation.unbond.selector,
            Federation.openRound.selector,
            Federation.propose.selector,
            Federation.finalize.selector,
            Federation.abandon.selector,
            Federation.replaceAggregator.selector,
            Federation.challengeAverage.selector,
            Federation.challengeVerdict.selector,
            Federation.challengeModelAvailability.selector,
            Federation.challengeUpdateAvailability.selector,
            Federation.postLeaf.selector,
            Federation.settleAvailability.selector
        ];
        uint256[21] memory times;
        for (uint256 run = 0; run < 20; ++run) {
            vm.warp(START);
            federation = _deploy(federation.terms());
            handler = new Handler(federation, token);
            _play(run);
            handler.takeEverythingOut();
            for (uint256 i = 0; i < 21; ++i) {
                times[i] += handler.done(reached[i]);
            }
        }
        for (uint256 i = 0; i < 21; ++i) {
            vm.assertGt(times[i], 0, vm.toString(i));
        }
        vm.assertGt(times[12], 20, "finalized more than once a run");
    }

    function _play(uint256 run) private {
        FuzzSelector[] memory targets = this.targetSelectors();
        for (uint256 i = 0; i < 170; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(run, i)));
            bytes4 selector = targets[0].selectors[seed % 30];
            (bool succeeded,) = address(handler).call(abi.encodePacked(selector, seed >> 8, (seed >> 16) % 2));
            vm.assertTrue(succeeded, "handler");
        }
    }
}
