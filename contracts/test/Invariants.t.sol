// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {Handler} from "./kit/Handler.sol";
import {Trees} from "./kit/Trees.sol";
import {World} from "./kit/World.sol";

/// @dev What holds after any sequence of calls by any role. Handler.sol checks at each call that nobody honest loses
///      anything, that nobody is paid twice or another price than the posted one, and that no status moves backwards.
/// forge-config: default.invariant.fail-on-revert = true
/// forge-config: default.invariant.runs = 20
/// forge-config: default.invariant.depth = 60
/// forge-config: deep.invariant.runs = 500
/// forge-config: deep.invariant.depth = 100
contract InvariantsTest is World {
    Handler internal handler;
    bytes internal firstModel;

    function setUp() public override {
        firstModel = _firstModel();
        super.setUp();
        _start();
    }

    function _terms() internal view virtual override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.identity.initialModelRoot = sha256(bytes.concat(hex"00", firstModel));
        terms.identity.leafCount = 1;
        terms.identity.treeDepth = 0;
        terms.identity.gridBits = 22;
        terms.identity.gridEvery = 2;
        terms.seats.maxParticipants = 5;
        terms.seats.minParticipants = 2;
        terms.seats.roundTarget = 4;
        terms.seats.roundSeats = 4;
        terms.seats.weightCap = 5;
        terms.seats.byInvitation = true;
        terms.seats.rounds = 12;
        terms.money.missedRevealPenalty = 300; // two misses take more than the stake
    }

    function _firstModel() private pure returns (bytes memory leaf) {
        leaf = new bytes(1024);
        for (uint256 k = 0; k < 256; ++k) {
            Trees.put(leaf, k, k % 4 == 0 ? Trees.LARGEST - int256(k) : int256(k) * 1000 - 100_000);
        }
    }

    function _handler() internal virtual returns (Handler) {
        return new Handler(federation, token, SPONSOR_KEY, firstModel);
    }

    function _start() internal {
        handler = _handler();
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

    /// @dev Read by forge: what it may call, the step of an honest world as often as all others together.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector({target: address(handler), selectors: _withSteps(_selectors())});
    }

    function _selectors() internal pure virtual returns (bytes4[] memory selectors) {
        bytes4[31] memory all = [
            Handler.fund.selector,
            Handler.refund.selector,
            Handler.close.selector,
            Handler.join.selector,
            Handler.leave.selector,
            Handler.evict.selector,
            Handler.withdraw.selector,
            Handler.withdrawTo.selector,
            Handler.announce.selector,
            Handler.commit.selector,
            Handler.reveal.selector,
            Handler.penalize.selector,
            Handler.bond.selector,
            Handler.unbond.selector,
            Handler.openRound.selector,
            Handler.fixSeed.selector,
            Handler.propose.selector,
            Handler.finalize.selector,
            Handler.abandon.selector,
            Handler.replaceAggregator.selector,
            Handler.challengeAverage.selector,
            Handler.challengeMove.selector,
            Handler.challengeVerdict.selector,
            Handler.challengeDuplicate.selector,
            Handler.challengeOriginal.selector,
            Handler.requestModel.selector,
            Handler.requestUpdate.selector,
            Handler.postLeaves.selector,
            Handler.settleRequest.selector,
            Handler.wait_.selector,
            Handler.mine.selector
        ];
        selectors = new bytes4[](31);
        for (uint256 i = 0; i < 31; ++i) {
            selectors[i] = all[i];
        }
    }

    /// @dev Those, and the step of an honest world as often as all of them but six.
    function _withSteps(bytes4[] memory selectors) private pure returns (bytes4[] memory all) {
        all = new bytes4[](2 * selectors.length - 6);
        for (uint256 i = 0; i < all.length; ++i) {
            all[i] = i < selectors.length ? selectors[i] : Handler.goOn.selector;
        }
    }

    /// @notice Tokens in = credited + escrowed + staked + bonded + deposited + withdrawn + burned, and every count is that
    ///         of what it counts, after any sequence of calls.
    function invariant_TheBooksAreRight() public view virtual {
        _checkTokens();
        _checkRequests();
        _checkOpenRound();
        _checkCounts();
    }

    /// @dev Run by forge at the end of every sequence: everybody gets what is theirs, and what is left is burned.
    function afterInvariant() public {
        handler.takeEverythingOut();
    }

    function _checkTokens() private view {
        uint256 bonded = handler.bondedAggregators() * BOND;
        uint256 held = handler.credited() + federation.escrow() + handler.staked() + bonded + federation.deposits()
            + federation.burned();
        vm.assertEq(handler.tokensIn(), held + handler.tokensOut(), "in and out");
        vm.assertEq(token.balanceOf(address(federation)), held, "held");
    }

    /// @dev Every request is counted once in the deposits and, while it can be answered, in its round.
    function _checkRequests() private view {
        vm.assertEq(federation.deposits(), handler.deposited(), "deposits");
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            IFederation.Round memory facts = federation.getRound(round);
            // Requests of a void round are given back one by one, and its count is no longer looked at.
            if (federation.status(round) == IFederation.Status.Void) continue;
            if (facts.stage == IFederation.Stage.Proposed || facts.stage == IFederation.Stage.Finalized) {
                vm.assertEq(facts.openRequests, handler.openRequests(round), "open requests");
            }
            vm.assertLe(facts.proposals, 3, "one proposal an aggregator");
        }
    }

    /// @dev What an open round will cost is in escrow until it ends, and somebody answers for it with a bond.
    function _checkOpenRound() private view {
        uint256 round = federation.roundCount();
        if (round == 0 || federation.getRound(round).stage >= IFederation.Stage.Finalized) return;
        vm.assertGe(federation.escrow(), 4 * uint256(REWARD) + FEE, "escrow");
        vm.assertEq(
            uint8(federation.aggregatorState(federation.currentAggregator())),
            uint8(IFederation.AggregatorState.Bonded),
            "somebody answers for the round"
        );
    }

    function _checkCounts() private view {
        vm.assertEq(federation.activeCount(), handler.activeParticipants(), "active");
        vm.assertEq(federation.bondedCount(), handler.bondedAggregators(), "bonded");
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            IFederation.Round memory r = federation.getRound(round);
            vm.assertLe(r.committed, r.active, "committed");
            vm.assertLe(r.committed, 4, "seats of a round");
            vm.assertLe(r.revealed, r.committed, "revealed");
            vm.assertEq(r.revealedWeight, uint256(r.revealed) * 5, "weight");
        }
    }

    /// @dev What a handler must get through to the contract.
    function _reached() internal pure virtual returns (bytes4[] memory reached) {
        bytes4[28] memory all = [
            IFederation.fund.selector,
            IFederation.refund.selector,
            IFederation.close.selector,
            IFederation.join.selector,
            IFederation.leave.selector,
            IFederation.evict.selector,
            IFederation.withdraw.selector,
            IFederation.withdrawTo.selector,
            IFederation.announce.selector,
            IFederation.commit.selector,
            IFederation.reveal.selector,
            IFederation.penalize.selector,
            IFederation.bond.selector,
            IFederation.unbond.selector,
            IFederation.openRound.selector,
            IFederation.fixSeed.selector,
            IFederation.propose.selector,
            IFederation.finalize.selector,
            IFederation.abandon.selector,
            IFederation.replaceAggregator.selector,
            IFederation.challengeAverage.selector,
            IFederation.challengeMove.selector,
            IFederation.challengeVerdict.selector,
            IFederation.challengeOriginal.selector,
            IFederation.requestModelLeaf.selector,
            IFederation.requestUpdateLeaf.selector,
            IFederation.postLeaves.selector,
            IFederation.settleRequest.selector
        ];
        reached = new bytes4[](28);
        for (uint256 i = 0; i < 28; ++i) {
            reached[i] = all[i];
        }
    }

    /// @notice The handler is worth something only if its calls go through.
    function test_TheHandlerReachesEverything() public {
        bytes4[] memory reached = _reached();
        uint256[] memory times = new uint256[](reached.length);
        uint256 finalized = 0;
        for (uint256 run = 0; run < 18; ++run) {
            vm.warp(START);
            federation = _deploy(_terms());
            _start();
            _play(run);
            handler.takeEverythingOut();
            for (uint256 i = 0; i < reached.length; ++i) {
                times[i] += handler.done(reached[i]);
            }
            finalized += handler.done(IFederation.finalize.selector);
        }
        for (uint256 i = 0; i < reached.length; ++i) {
            vm.assertGt(times[i], 0, vm.toString(i));
        }
        vm.assertGe(finalized, _leastFinalized(), "finalized");
    }

    /// @dev Of 18 histories.
    function _leastFinalized() internal pure virtual returns (uint256) {
        return 19;
    }

    /// @dev In which most of the rounds of a history are played.
    function _steps() internal pure virtual returns (uint256) {
        return 200;
    }

    function _play(uint256 run) private {
        bytes4[] memory selectors = _withSteps(_selectors());
        for (uint256 i = 0; i < _steps(); ++i) {
            uint256 seed = uint256(keccak256(abi.encode(run, i)));
            bytes4 selector = selectors[seed % selectors.length];
            bytes memory arguments = abi.encode(seed >> 8, seed >> 16, seed >> 24);
            (bool succeeded, bytes memory answer) = address(handler).call(abi.encodePacked(selector, arguments));
            vm.assertTrue(succeeded, string(answer)); // its own words
            if (i % 12 == 0) invariant_TheBooksAreRight();
        }
    }
}
