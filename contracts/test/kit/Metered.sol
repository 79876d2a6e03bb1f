// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {World} from "./World.sol";

/// @dev A federation of 128 active seats and amounts as on a chain, and what whole transactions to it cost.
abstract contract Metered is World {
    uint16 internal constant ACTIVE = 128;

    function _terms() internal view virtual override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.seats.maxParticipants = 512;
        terms.seats.roundTarget = ACTIVE - 1; // one less than are active, or drawing is not paid for
        terms.money.updateReward = 1000 ether;
        terms.money.aggregatorFee = 50 ether;
        terms.money.participantStake = 100 ether;
        terms.money.missedRevealPenalty = 50 ether;
        terms.money.aggregatorBond = 5000 ether;
        terms.money.availabilityDeposit = 30 ether;
    }

    /// @dev What `call` costs: its work, or the floor of EIP-7623 that forge does not know at this EVM version.
    function _measure(address sender, address target, bytes memory call) internal returns (uint256) {
        vm.prank(sender);
        (bool succeeded,) = target.call(call);
        uint256 used = _gasUsed();
        vm.assertTrue(succeeded, "call");
        uint256 floor = 21_000;
        for (uint256 i = 0; i < call.length; ++i) {
            floor += call[i] == 0 ? 10 : 40;
        }
        return used > floor ? used : floor;
    }

    /// @dev Finds a seed that draws everybody who takes part here.
    function _askAllOf(uint256 round, uint256 count) internal {
        bytes32 opening = blockhash(federation.getRound(round).openedBlock);
        uint256 limit = type(uint256).max / ACTIVE * (ACTIVE - 1);
        for (uint256 randao = 1;; ++randao) {
            bytes32 seed = keccak256(abi.encode(address(federation), round, opening, randao));
            bool isAll = true;
            for (uint256 i = 0; i < count && isAll; ++i) {
                isAll = uint256(keccak256(abi.encode(seed, _participant(i)))) < limit;
            }
            if (!isAll) continue;
            vm.prevrandao(bytes32(randao));
            return;
        }
    }

    function _gasUsed() internal view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }
}
