// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev fund, refund, withdraw and withdrawTo.
contract MoneyTest is World {
    /// @notice Anybody funds; the escrow grows by what came.
    function test_AnybodyFunds() public {
        _give(stranger, 70);
        vm.expectEmit(address(federation));
        emit IFederation.Funded(stranger, 70);
        vm.prank(stranger);
        federation.fund(70);
        _fund(30);
        vm.assertEq(federation.escrow(), 100);
        vm.assertEq(token.balanceOf(address(federation)), 100);
    }

    /// @notice Nothing is no funding, and without allowance the token refuses.
    function test_RevertWhen_FundingNothing() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.fund(0);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(federation), 0, 5)
        );
        vm.prank(stranger);
        federation.fund(5);
        vm.assertEq(federation.escrow(), 0);
    }

    /// @notice Amounts have 128 bits: more is refused, and does not wrap round.
    function test_RevertWhen_FundingMoreThan128Bits() public {
        uint256 amount = uint256(type(uint128).max) + 2;
        vm.expectRevert(abi.encodeWithSignature("SafeCastOverflowedUintDowncast(uint8,uint256)", 128, amount));
        federation.fund(amount);
        _fund(1);
        _give(address(this), 0);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        federation.fund(type(uint128).max);
        vm.assertEq(federation.escrow(), 1);
    }

    /// @notice When the federation is over what was never spent is the sponsor's, whoever asks, and once.
    function test_TheRestIsRefunded() public {
        _fund(100);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, 0, CLOSES_AT));
        federation.refund();
        _close();
        vm.expectEmit(address(federation));
        emit IFederation.Refunded(sponsor, 100);
        vm.prank(stranger);
        federation.refund();
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.creditOf(sponsor), 100);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.refund();
    }

    /// @notice What is burned is nobody's, not even when the federation is over.
    function test_WhatIsBurnedStaysForEver() public {
        _fund(ESCROW);
        _bond(aggregators[0]);
        _join(2);
        _mine();
        uint256 round = _open();
        _commitAll(round, 2);
        vm.warp(federation.getRound(round).commitDeadline);
        _reveal(round, 0);
        vm.warp(federation.getRound(round).nextDeadline);
        federation.penalize(round, _participant(1));
        federation.abandon(round);
        vm.assertTrue(federation.isOver(), "over");
        federation.refund();
        vm.assertEq(_withdraw(sponsor), ESCROW);
        _leave(_participant(0));
        _leave(_participant(1));
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(_withdraw(_participant(0)), STAKE);
        vm.assertEq(_withdraw(_participant(1)), STAKE - PENALTY);
        vm.assertEq(federation.burned(), PENALTY + BOND);
        vm.assertEq(token.balanceOf(address(federation)), federation.burned());
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.refund();
    }

    /// @notice A tip that was sent without fund() belongs to nobody and moves nothing.
    function test_ADonationMovesNothing() public {
        require(token.transfer(address(federation), 1234));
        vm.assertEq(federation.escrow(), 0);
        uint256 round = _finalizedWith(1);
        vm.assertEq(round, 1);
        vm.assertEq(federation.escrow(), ESCROW - 100 - FEE);
    }

    /// @notice Credit is paid out whole, once.
    function test_CreditIsPaidOnce() public {
        _finalizedWith(2);
        vm.expectEmit(address(federation));
        emit IFederation.Withdrawn(_participant(1), _participant(1), 101);
        vm.assertEq(_withdraw(_participant(1)), 101);
        vm.assertEq(token.balanceOf(_participant(1)), 101);
        vm.assertEq(federation.creditOf(_participant(1)), 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, _participant(1)));
        _withdraw(_participant(1));
    }

    /// @notice Credit and a free stake are paid together.
    function test_CreditAndStakeArePaidTogether() public {
        _finalizedWith(1);
        _leave(_participant(0));
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(_withdraw(_participant(0)), 100 + STAKE);
    }

    /// @notice withdrawTo pays the caller's credit to the account it names, and nobody else's.
    function test_CreditIsPaidElsewhere() public {
        _finalizedWith(1);
        vm.expectEmit(address(federation));
        emit IFederation.Withdrawn(_participant(0), stranger, 100);
        vm.prank(_participant(0));
        vm.assertEq(federation.withdrawTo(stranger), 100);
        vm.assertEq(token.balanceOf(stranger), 100);
        vm.assertEq(token.balanceOf(_participant(0)), 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, stranger));
        vm.prank(stranger);
        federation.withdrawTo(_participant(0));
    }

    /// @notice A free stake goes along, too.
    function test_AStakeIsPaidElsewhere() public {
        _join(1);
        _leave(_participant(0));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(_participant(0));
        vm.assertEq(federation.withdrawTo(stranger), STAKE);
        vm.assertEq(token.balanceOf(stranger), STAKE);
    }

    /// @notice Tokens are not sent where they would be lost: nowhere, or to the federation itself.
    function test_RevertWhen_TheRecipientWouldLoseThem() public {
        _finalizedWith(1);
        address[2] memory recipients = [address(0), address(federation)];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidRecipient.selector, recipients[i]));
            vm.prank(_participant(0));
            federation.withdrawTo(recipients[i]);
        }
        vm.assertEq(federation.creditOf(_participant(0)), 100);
    }
}
