// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {AvailabilityWorld} from "./kit/AvailabilityWorld.sol";
import {FalseToken, ReentrantToken} from "./kit/HostileTokens.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev What a cheat would try with demands and deposits, each attempt as one test (docs/threat-model.md).
contract AvailabilityAttacksTest is AvailabilityWorld {
    // Against an honest aggregator.

    function test_AFloodOfDemandsIsPaidForByTheFlooder() public {
        uint256 round = _proposedModel(COUNT);
        uint256 deadline = federation.getRound(round).challengeDeadline;
        vm.warp(deadline - 2 * RESPONSE);
        _demandEverything(round);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _postModelAs(aggregators[0], leaf);
        }
        vm.assertEq(federation.creditOf(aggregators[0]), LEAVES * DEPOSIT);
        vm.assertEq(token.balanceOf(challenger), PURSE - LEAVES * DEPOSIT);
        vm.warp(deadline);
        federation.finalize(round, _verdicts(COUNT)); // not a second later than without
        vm.assertEq(federation.creditOf(challenger), 0);
    }

    function test_AnAnswerCopiedFromThePoolAnswersAllTheSame() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 1);
        _postModelAs(stranger, 1); // first into the block
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 1);
        _expectNotDemanded(root, 1);
        vm.prank(aggregators[0]);
        federation.postLeaf(root, 1, leaf);
        vm.assertEq(federation.creditOf(stranger), DEPOSIT);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        vm.warp(START + CHALLENGE);
        federation.finalize(round, _verdicts(COUNT));
    }

    function test_WhoeverAnswersItselfGainsNothing() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 1);
        _postModelAs(challenger, 1);
        vm.prank(challenger);
        vm.assertEq(federation.withdraw(), DEPOSIT);
        vm.assertEq(token.balanceOf(challenger), PURSE);
        vm.warp(START + RESPONSE);
        bytes32 root = Trees.root(modelLeaves);
        _expectNotDemanded(root, 1);
        federation.settleAvailability(root, 1);
    }

    /// @dev Of a round that ended, of a proposal that was refuted, of another round's root.
    function test_AnOldDemandSlashesNobody() public {
        _fund(10_000);
        uint256 first = _proposedModel(COUNT);
        _demandUpdate(first, 0, 0);
        _demandModel(first, 0);
        _demandModel(first, 1);
        vm.warp(START + RESPONSE);
        bytes32 root = _modelRoot(first);
        _settle(root, 0);
        _proposeModel(first, _verdicts(COUNT));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(first, _verdicts(COUNT));

        uint256 second = _open();
        _commitAll(second, COUNT);
        _revealAll(second, COUNT); // the same roots once more
        _proposeModel(second, _verdicts(COUNT));
        vm.assertEq(federation.getRound(second).proposals, 1); // as the number in the old requests
        _settle(rootOf[0], 0);
        _settle(root, 1);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        _assertStatus(second, IFederation.Status.Challenge);
        vm.assertEq(federation.creditOf(challenger), 3 * DEPOSIT + BOND / 2);
        _assertOpen(second, 0);
    }

    // By the aggregator.

    /// @dev Its own demand shuts out nobody else's: the same deadline, the same loss.
    function test_AnAggregatorCannotHideBehindItsOwnDemand() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _give(aggregators[0], DEPOSIT);
        _demandModelAs(aggregators[0], round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyDemanded.selector, root, 2));
        _demandModel(round, 2);
        _demandModel(round, 3); // any other leaf is free
        vm.warp(START + RESPONSE);
        _settle(root, 2);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.creditOf(aggregators[0]), DEPOSIT + BOND / 2); // half is what a lie costs at least
        _settle(root, 3);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT);
    }

    function test_AStandbyWithTheSameWithheldRootLosesItsBondToo() public {
        uint256 round = _proposedModel(COUNT);
        for (uint256 k = 0; k < 2; ++k) {
            _demandModel(round, 4);
            vm.warp(block.timestamp + RESPONSE);
            _settle(Trees.root(modelLeaves), 4);
            _assertAggregator(aggregators[k], IFederation.AggregatorState.Slashed);
            if (k == 0) _proposeModel(round, _verdicts(COUNT));
        }
        _assertStatus(round, IFederation.Status.Abandoned);
    }

    function test_ALeafThatNobodyPostsIsNoReasonToWait() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 4);
        vm.warp(START + CHALLENGE);
        vm.prank(aggregators[0]);
        (bool isReplaced,) = address(federation).call(abi.encodeCall(Federation.replaceAggregator, ()));
        vm.assertTrue(!isReplaced, "settled first");
        vm.prank(aggregators[0]);
        (bool isUnbonded,) = address(federation).call(abi.encodeCall(Federation.unbond, ()));
        vm.assertTrue(!isUnbonded, "no way out with the bond");
        _settle(_modelRoot(round), 4);
        vm.warp(block.timestamp + PROPOSE);
        federation.abandon(round); // the standby was silent
        _assertStatus(round, IFederation.Status.Abandoned);
    }

    // With the deposits.

    function test_ManyOverdueLeavesCostOneBond() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        uint256 held = token.balanceOf(address(federation));
        _demandEverything(round);
        vm.warp(START + RESPONSE);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _settle(root, leaf);
            vm.assertEq(federation.creditOf(challenger), (leaf + 1) * DEPOSIT + BOND / 2);
        }
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.deposits(), 0);
        vm.prank(challenger);
        federation.withdraw();
        vm.assertEq(token.balanceOf(challenger), PURSE + BOND / 2);
        vm.assertEq(token.balanceOf(address(federation)), held - BOND / 2);
    }

    /// @dev Escrow, stakes and bonds all leave; what is left is the deposits, and they are paid.
    function test_NobodyElseIsPaidOutOfDeposits() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _demandEverything(round);
        vm.warp(START + RESPONSE);
        _settle(root, 0);
        vm.warp(block.timestamp + PROPOSE);
        federation.abandon(round);
        _close();
        federation.refund();
        _withdraw(sponsor);
        _withdraw(challenger);
        for (uint256 i = 0; i < COUNT; ++i) {
            vm.prank(_participant(i));
            federation.leave();
        }
        vm.warp(block.timestamp + UNBONDING);
        for (uint256 i = 0; i < COUNT; ++i) {
            _withdraw(_participant(i));
        }
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(token.balanceOf(address(federation)), (LEAVES - 1) * DEPOSIT);
        for (uint256 leaf = 1; leaf < LEAVES; ++leaf) {
            _settle(root, leaf);
        }
        _withdraw(challenger);
        vm.assertEq(token.balanceOf(challenger), PURSE + BOND / 2);
        vm.assertEq(token.balanceOf(address(federation)), 0);
    }

    function test_RevertWhen_TheTokenLiesAboutTheDeposit() public {
        FalseToken liar = new FalseToken();
        _use(address(liar));
        uint256 round = _proposedModel(COUNT);
        liar.startLying();
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(liar)));
        _demandModel(round, 0);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(round, 0);
    }

    // With a token that calls back while the deposit is under way.

    function test_NoGuardedFunctionIsEnteredFromADemand() public {
        bytes[6] memory calls = [
            abi.encodeCall(Federation.withdraw, ()),
            abi.encodeCall(Federation.join, ()),
            abi.encodeCall(Federation.bond, ()),
            abi.encodeCall(Federation.fund, (1)),
            abi.encodeCall(Federation.challengeModelAvailability, (1, 1)),
            _updateDemand(1, 0, 0)
        ];
        bytes[2] memory outer = [abi.encodeCall(Federation.challengeModelAvailability, (1, 0)), _updateDemand(1, 1, 0)];
        for (uint256 i = 0; i < 12; ++i) {
            (ReentrantToken hostile,) = _hostileProposal();
            hostile.arm(calls[i / 2]);
            (bool done,) = hostile.accomplice().act(address(federation), outer[i % 2]);
            vm.assertTrue(done, "the outer call goes through");
            vm.assertTrue(hostile.calledBack() && !hostile.succeeded(), "the inner call does not");
            vm.assertEq(
                hostile.answer(), abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
            );
            vm.assertEq(federation.deposits(), DEPOSIT);
        }
    }

    /// @dev Posting is not guarded, and need not be: the deposit is credited before it has come, and comes.
    function test_AnAnswerInsideItsDemandIsBacked() public {
        (ReentrantToken hostile, uint256 held) = _hostileProposal();
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 0);
        hostile.arm(abi.encodeCall(Federation.postLeaf, (Trees.root(modelLeaves), 0, leaf)));
        hostile.accomplice().act(address(federation), abi.encodeCall(Federation.challengeModelAvailability, (1, 0)));
        vm.assertTrue(hostile.succeeded(), "posted");
        vm.assertEq(federation.creditOf(address(hostile.accomplice())), DEPOSIT);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(1, 0);
        vm.assertEq(token.balanceOf(address(federation)), held + DEPOSIT);
    }

    /// @dev An overdue demand settled inside another voids that one, whose deposit can be taken back.
    function test_ASettlementInsideADemandIsBacked() public {
        (ReentrantToken hostile, uint256 held) = _hostileProposal();
        bytes32 root = Trees.root(modelLeaves);
        _demandModel(1, 3);
        vm.warp(START + RESPONSE);
        hostile.arm(abi.encodeCall(Federation.settleAvailability, (root, 3)));
        hostile.accomplice().act(address(federation), abi.encodeCall(Federation.challengeModelAvailability, (1, 0)));
        vm.assertTrue(hostile.succeeded(), "settled");
        _assertStatus(1, IFederation.Status.Propose);
        _assertOpen(1, 0);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _settle(root, 0);
        vm.assertEq(federation.creditOf(address(hostile.accomplice())), DEPOSIT);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + BOND / 2);
        vm.assertEq(token.balanceOf(address(federation)), held + 2 * DEPOSIT);
    }

    // --------------------------------------------------------------- helpers

    function _demandEverything(uint256 round) private {
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _demandModel(round, leaf);
        }
    }

    function _withdraw(address account) private {
        vm.prank(account);
        federation.withdraw();
    }

    function _updateDemand(uint256 round, uint256 i, uint256 leaf) private view returns (bytes memory) {
        return abi.encodeCall(
            Federation.challengeUpdateAvailability,
            (round, leaf, i, _verdicts(COUNT), rootOf[i], _manifest(round, i), _examples(i))
        );
    }

    function _use(address hostile) private {
        IFederation.Terms memory terms = _terms();
        terms.token = IERC20(hostile);
        token = IERC20(hostile);
        federation = _deploy(terms);
        _give(challenger, PURSE);
    }

    /// @dev A proposal in a federation whose token can call back; and what the federation holds.
    function _hostileProposal() private returns (ReentrantToken hostile, uint256 held) {
        vm.warp(START);
        hostile = new ReentrantToken();
        _use(address(hostile));
        _give(address(hostile.accomplice()), PURSE);
        _proposedModel(COUNT);
        held = token.balanceOf(address(federation));
    }
}
