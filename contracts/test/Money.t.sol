// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev fund
///      ├── zero: ZeroAmount
///      ├── no allowance: the token's error, nothing changed
///      └── anybody: the escrow grows, Funded
///      refund
///      ├── rounds can still be opened, or one is open: FederationNotOver
///      ├── nothing in escrow: ZeroAmount
///      └── over: the sponsor is credited whoever calls, Refunded; again when a late penalty comes in
///      withdraw
///      ├── no credit: NothingToWithdraw
///      ├── credit: paid once, Withdrawn
///      └── stake unbonded: released with it, StakeReleased
contract MoneyTest is World {
    function test_FundGrowsTheEscrow() public {
        _give(stranger, 70);
        vm.expectEmit(address(federation));
        emit IFederation.Funded(stranger, 70);
        vm.prank(stranger);
        federation.fund(70);
        _fund(30);
        vm.assertEq(federation.escrow(), 100);
        vm.assertEq(token.balanceOf(address(federation)), 100);
        vm.assertEq(token.balanceOf(stranger), 0);
    }

    function test_RevertWhen_FundingNothing() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.fund(0);
    }

    function test_RevertWhen_FundingWithoutAllowance() public {
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(federation), 0, 5)
        );
        vm.prank(stranger);
        federation.fund(5);
        vm.assertEq(federation.escrow(), 0);
    }

    function test_RefundWhenTimeIsOver() public {
        _fund(100);
        _close();
        vm.expectEmit(address(federation));
        emit IFederation.Refunded(sponsor, 100);
        vm.prank(stranger);
        federation.refund();
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.creditOf(sponsor), 100);
        vm.assertEq(federation.creditOf(stranger), 0);
    }

    function test_RefundWhenEveryRoundIsUsed() public {
        IFederation.Terms memory terms = _terms();
        terms.rounds = 1;
        federation = _deploy(terms);
        uint256 round = _finalizedWith(1);
        vm.assertTrue(federation.isOver(), "over");
        _fund(40);
        federation.refund();
        vm.assertEq(federation.creditOf(sponsor), 40);
        vm.assertEq(round, 1);
    }

    function test_RevertWhen_RefundingAFederationThatIsNotOver() public {
        _fund(100);
        vm.warp(START + 99_999);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, 0, START + 100_000));
        vm.prank(sponsor);
        federation.refund();
    }

    function test_RevertWhen_RefundingUnderAnOpenRound() public {
        _openWith(1);
        _close();
        vm.assertTrue(!federation.isOver(), "a round is open");
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, 1, START + 100_000));
        federation.refund();
    }

    function test_RevertWhen_ThereIsNothingToRefund() public {
        _close();
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.refund();
    }

    function test_APenaltyAfterTheEndIsRefundedToo() public {
        uint256 round = _openWith(1);
        _commit(round, 0);
        _close();
        federation.abandon(round);
        federation.refund();
        federation.penalize(round, _participant(0));
        federation.refund();
        vm.assertEq(federation.creditOf(sponsor), REWARD + FEE + PENALTY);
    }

    function test_WithdrawPaysOnce() public {
        _finalizedWith(1);
        address account = _participant(0);
        vm.expectEmit(address(federation));
        emit IFederation.Withdrawn(account, REWARD);
        vm.prank(account);
        vm.assertEq(federation.withdraw(), REWARD);
        vm.assertEq(token.balanceOf(account), REWARD);
        vm.assertEq(federation.creditOf(account), 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, account));
        vm.prank(account);
        federation.withdraw();
    }

    function test_WithdrawReleasesTheStakeToTheSecond() public {
        _join(1);
        address account = _participant(0);
        vm.prank(account);
        federation.leave();
        vm.warp(START + UNBONDING - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, account));
        vm.prank(account);
        federation.withdraw();
        vm.warp(START + UNBONDING);
        vm.expectEmit(address(federation));
        emit IFederation.StakeReleased(account, STAKE);
        vm.expectEmit(address(federation));
        emit IFederation.Withdrawn(account, STAKE);
        vm.prank(account);
        vm.assertEq(federation.withdraw(), STAKE);
        vm.assertEq(token.balanceOf(account), STAKE);
        vm.assertEq(abi.encode(federation.getParticipant(account)), new bytes(128));
    }

    function test_WithdrawPaysCreditAndStakeTogether() public {
        _finalizedWith(1);
        address account = _participant(0);
        vm.prank(account);
        federation.leave();
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(account);
        vm.assertEq(federation.withdraw(), REWARD + STAKE);
    }

    function test_CreditCanBeWithdrawnWhileTheStakeIsBound() public {
        _finalizedWith(1);
        address account = _participant(0);
        vm.prank(account);
        federation.leave();
        vm.prank(account);
        vm.assertEq(federation.withdraw(), REWARD);
        vm.assertEq(federation.getParticipant(account).stake, STAKE);
    }

    function test_RevertWhen_AStrangerWithdraws() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, stranger));
        vm.prank(stranger);
        federation.withdraw();
    }

    function testFuzz_WhatGoesInComesOut(uint128 first, uint128 second) public {
        first = uint128(_bound(first, 1, type(uint64).max));
        second = uint128(_bound(second, 1, type(uint64).max));
        _fund(first);
        _fund(second);
        _close();
        federation.refund();
        vm.prank(sponsor);
        federation.withdraw();
        vm.assertEq(token.balanceOf(sponsor), uint256(first) + second);
        vm.assertEq(token.balanceOf(address(federation)), 0);
    }
}
