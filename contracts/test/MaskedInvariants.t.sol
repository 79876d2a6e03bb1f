// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {InvariantsTest} from "./Invariants.t.sol";
import {Handler} from "./kit/Handler.sol";
import {MaskedHandler} from "./kit/MaskedHandler.sol";

/// @dev The same of a federation of which only sums are opened, and that each sum's counts are those of its set.
/// forge-config: default.invariant.fail-on-revert = true
/// forge-config: default.invariant.runs = 20
/// forge-config: default.invariant.depth = 60
/// forge-config: deep.invariant.runs = 100
/// forge-config: deep.invariant.depth = 100
contract MaskedInvariantsTest is InvariantsTest {
    function _terms() internal view override returns (IFederation.Terms memory) {
        return _masked(super._terms());
    }

    function _handler() internal override returns (Handler) {
        return new MaskedHandler(federation, token, SPONSOR_KEY, firstModel);
    }

    function _selectors() internal pure override returns (bytes4[] memory selectors) {
        bytes4[] memory clear = super._selectors();
        bytes4[7] memory own = [
            MaskedHandler.sealSet.selector,
            MaskedHandler.fixSketch.selector,
            MaskedHandler.unmask.selector,
            MaskedHandler.assist.selector,
            MaskedHandler.object.selector,
            MaskedHandler.voidRound.selector,
            MaskedHandler.challengeSum.selector
        ];
        selectors = new bytes4[](clear.length + 7);
        for (uint256 i = 0; i < selectors.length; ++i) {
            selectors[i] = i < clear.length ? clear[i] : own[i - clear.length];
        }
    }

    function _reached() internal pure override returns (bytes4[] memory reached) {
        bytes4[] memory clear = super._reached();
        bytes4[10] memory own = [
            IFederation.commitMasked.selector,
            IFederation.revealMasked.selector,
            IFederation.sealSet.selector,
            IFederation.fixSketch.selector,
            IFederation.unmask.selector,
            IFederation.assist.selector,
            IFederation.object.selector,
            IFederation.postStreams.selector,
            IFederation.voidRound.selector,
            IFederation.challengeSum.selector
        ];
        reached = new bytes4[](clear.length + 10 - 4);
        uint256 next = 0;
        for (uint256 i = 0; i < clear.length; ++i) {
            bool isOther = clear[i] == IFederation.commit.selector || clear[i] == IFederation.reveal.selector
                || clear[i] == IFederation.challengeAverage.selector
                || clear[i] == IFederation.challengeOriginal.selector;
            if (!isOther) reached[next++] = clear[i];
        }
        for (uint256 i = 0; i < 10; ++i) {
            reached[next++] = own[i];
        }
    }

    function _steps() internal pure override returns (uint256) {
        return 260;
    }

    /// @dev A round has three phases more, and most that fail do so in these.
    function _leastFinalized() internal pure override returns (uint256) {
        return 9;
    }

    function invariant_TheBooksAreRight() public view override {
        super.invariant_TheBooksAreRight();
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            _checkSum(round);
        }
    }

    /// @dev What is counted of a set is what its members' submissions say.
    function _checkSum(uint256 round) private view {
        IFederation.Sum memory sum = federation.getSum(round);
        uint256 inSet = 0;
        uint256 open = 0;
        uint256 objected = 0;
        for (uint256 i = 0; i < handler.PARTICIPANTS(); ++i) {
            IFederation.Submission memory submission = federation.getSubmission(round, handler.accounts(i));
            IFederation.SubmissionState state = submission.state;
            bool isOpen = state >= IFederation.SubmissionState.Unmasked;
            if (isOpen) open += 1;
            if (state == IFederation.SubmissionState.Objected) objected += 1;
            if (state == IFederation.SubmissionState.None) continue;
            bool isIn = (sum.byOrder >> submission.order) & 1 != 0;
            if (isIn) inSet += 1;
            vm.assertTrue(isIn || !isOpen, "nothing is opened of who is not in the set");
        }
        vm.assertEq(sum.size, inSet, "size");
        vm.assertEq(sum.unmasked, open, "unmasked");
        vm.assertEq(sum.objections, objected, "objections");
        uint256 byRank = 0;
        for (uint256 rest = sum.byRank; rest != 0; rest >>= 1) {
            byRank += rest & 1;
        }
        vm.assertEq(byRank, inSet, "by rank");
        vm.assertTrue(sum.size == 0 || sum.size >= 3, "minSet");
        vm.assertTrue(3 * uint256(sum.size) >= 2 * federation.getRound(round).revealed || sum.size == 0, "two thirds");
        IFederation.Stage stage = federation.getRound(round).stage;
        if (stage == IFederation.Stage.Proposed || stage == IFederation.Stage.Finalized) {
            vm.assertEq(sum.unmasked, sum.size, "the sum is open");
        }
    }
}
