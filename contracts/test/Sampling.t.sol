// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev isEligible
///      ├── the whole fraction: everybody
///      └── less: keccak256(seed, account) below the share; commit refuses the others with NotEligible
contract SamplingTest is World {
    uint256 private constant ALL = type(uint256).max;

    function test_EverybodyIsDrawnAtTheWholeFraction() public {
        uint256 round = _openWith(1);
        for (uint256 i = 0; i < 50; ++i) {
            vm.assertTrue(federation.isEligible(round, _participant(i)), "drawn");
        }
    }

    function test_OnlyTheDrawnMayCommit() public {
        uint256 round = _openSampled(4000);
        uint256 drawn = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (federation.isEligible(round, _participant(i))) {
                _commit(round, i);
                drawn += 1;
            } else {
                bytes32 commitment = _commitment(round, i);
                vm.expectRevert(abi.encodeWithSelector(IFederation.NotEligible.selector, round, _participant(i)));
                vm.prank(_participant(i));
                federation.commit(round, commitment);
            }
        }
        vm.assertGt(drawn, 0, "some drawn");
        vm.assertGt(SEATS, drawn, "some not");
        vm.assertEq(federation.getRound(round).committed, drawn);
        _assertStatus(round, IFederation.Status.Commit); // those not drawn keep it open until its deadline
    }

    function test_EveryRoundDrawsAnew() public {
        uint256 first = _openSampled(5000);
        vm.warp(START + COMMIT);
        federation.abandon(first);
        vm.roll(block.number + 1);
        uint256 second = _open();
        vm.assertNotEq(federation.getRound(first).seed, federation.getRound(second).seed);
        bool differs = false;
        for (uint256 i = 0; i < 20; ++i) {
            if (federation.isEligible(first, _participant(i)) != federation.isEligible(second, _participant(i))) {
                differs = true;
            }
        }
        vm.assertTrue(differs, "draws");
    }

    function test_TheShareIsAboutTheFraction() public {
        uint256 round = _openSampled(2500);
        uint256 drawn = 0;
        for (uint256 i = 0; i < 4000; ++i) {
            if (federation.isEligible(round, address(uint160(1 + i)))) drawn += 1;
        }
        vm.assertGt(drawn, 850, "drawn"); // 1000 expected, standard deviation 27
        vm.assertGt(1150, drawn, "drawn");
    }

    function testFuzz_DrawingFollowsTheProtocol(address account, uint16 fraction, bytes32 randao) public {
        fraction = uint16(_bound(fraction, 1, FULL));
        vm.prevrandao(randao);
        uint256 round = _openSampled(fraction);
        bytes32 seed = federation.getRound(round).seed;
        bool expected = fraction == FULL || uint256(keccak256(abi.encode(seed, account))) < ALL / 10_000 * fraction;
        vm.assertEq(federation.isEligible(round, account), expected);
    }

    function _openSampled(uint16 fraction) private returns (uint256 round) {
        IFederation.Terms memory terms = _terms();
        terms.samplingFraction = fraction;
        federation = _deploy(terms);
        return _openWith(SEATS);
    }
}
