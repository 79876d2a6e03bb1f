// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {DisputeWorld} from "./kit/DisputeWorld.sol";

/// @dev challengeVerdict, challengeDuplicate and challengeOriginal: what the contract can judge of a verdict. Roots of
///      updates are made up here; nobody opens a leaf.
contract VerdictsTest is DisputeWorld {
    mapping(uint256 i => bytes32 root) private roots;
    uint256[4] private order = [uint256(2), 0, 3, 1]; // who commits first
    uint256 private constant ALL = 4;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < ALL; ++i) {
            roots[i] = keccak256(abi.encode("root", i));
        }
    }

    function _root(uint256, uint256 i) internal view override returns (bytes32) {
        return roots[i];
    }

    function _examples(uint256 i) internal pure override returns (uint32) {
        return uint32(149 + i); // around the cap of 150
    }

    // -------------------------------------------------------- challengeVerdict

    /// @notice Any weight but min(examples, weightCap) refutes the proposal.
    function testFuzz_AWrongWeightRefutes(uint256 index, uint32 weight) public {
        index = index % ALL;
        weight = uint32(_bound(weight, 1, 150));
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        bool isRight = verdicts[index].weight == weight;
        verdicts[index].weight = weight;
        _propose(round, verdicts);
        if (isRight) {
            _refuseVerdict(round, index, verdicts);
        } else {
            _refuseVerdict(round, (index + 1) % ALL, verdicts);
            _challengeVerdict(round, index, verdicts, index);
            _assertRefuted(round);
        }
    }

    /// @notice Held-out scores are no matter of the contract's; the weight is.
    function test_HeldOutScoresAreNotJudged() public {
        IFederation.Terms memory terms = _terms();
        terms.rules.scoring = IFederation.Scoring.HeldOut;
        federation = _deploy(terms);
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[0].score = 0;
        verdicts[1].score = 77;
        verdicts[2] = _rejection(round, 2, 13);
        verdicts[3].weight -= 1;
        _propose(round, verdicts);
        for (uint256 i = 0; i < 3; ++i) {
            _refuseVerdict(round, i, verdicts);
        }
        _challengeVerdict(round, 3, verdicts, 3);
        _assertRefuted(round);
    }

    /// @notice The zero update is neither accepted nor rejected for a later check; an earlier one may have failed too.
    function test_TheZeroUpdateIsRejectedAtCheckNine() public {
        for (uint256 reason = 0; reason < 256; reason = reason < 20 ? reason + 1 : reason + 47) {
            _anew();
            roots[1] = _zeroRoot();
            uint256 round = _revealedInOrder();
            IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
            if (reason != 0) verdicts[1] = _rejection(round, 1, uint8(reason));
            _propose(round, verdicts);
            if (reason == 0 || reason > 9) {
                _challengeVerdict(round, 1, verdicts, 1);
                _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
            } else {
                _refuseVerdict(round, 1, verdicts);
            }
        }
    }

    /// @notice Another update is not rejected as zero; its other rejections are not the contract's matter.
    function test_AnotherUpdateIsNotRejectedAsZero() public {
        for (uint256 reason = 1; reason < 16; ++reason) {
            _anew();
            uint256 round = _revealedInOrder();
            IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
            verdicts[1] = _rejection(round, 1, uint8(reason));
            _propose(round, verdicts);
            if (reason == 9) {
                _challengeVerdict(round, 1, verdicts, 1);
                _assertRefuted(round);
            } else {
                _refuseVerdict(round, 1, verdicts);
            }
        }
    }

    /// @notice The verdict exists, and is opened with what its participant revealed.
    function test_RevertWhen_TheVerdictIsOpenedWrongly() public {
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[1].weight = 1;
        _propose(round, verdicts);
        IFederation.Opening memory opening = _opening(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, ALL, ALL));
        federation.challengeVerdict(round, ALL, verdicts, opening);
        for (uint256 field = 0; field < 3; ++field) {
            opening = _opening(round, 1);
            if (field == 0) opening.root = _zeroRoot();
            if (field == 1) opening.manifest = 0;
            if (field == 2) opening.examples -= 1;
            _expectMismatch(round, 1, opening);
            federation.challengeVerdict(round, 1, verdicts, opening);
        }
        _challengeVerdict(round, 1, verdicts, 1);
        _assertRefuted(round);
    }

    // ------------------------------------------------------ challengeDuplicate

    /// @notice Accepting an update whose root an earlier commitment revealed, or rejecting it for a later check, refutes
    ///         the proposal; rejecting it for this check or one before does not.
    function test_ADuplicateIsRejectedAtCheckTen() public {
        for (uint256 reason = 0; reason < 256; reason = reason < 20 ? reason + 1 : reason + 47) {
            _anew();
            roots[3] = roots[2]; // 2 was first
            uint256 round = _revealedInOrder();
            IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
            if (reason != 0) verdicts[3] = _rejection(round, 3, uint8(reason));
            _propose(round, verdicts);
            if (reason == 0 || reason > 10) {
                _challengeDuplicate(round, 3, 2, verdicts);
                _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
            } else {
                _refuseDuplicate(round, 3, 2, verdicts);
            }
        }
    }

    /// @notice The first to commit is no duplicate of those who followed, nor of itself.
    function test_RevertWhen_TheOtherOneIsLater() public {
        roots[3] = roots[2];
        roots[1] = roots[2];
        uint256 round = _revealedInOrder(); // 2, 0, 3, 1
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        _propose(round, verdicts);
        for (uint256 i = 0; i < ALL; ++i) {
            _refuseDuplicate(round, 2, i, verdicts);
            _refuseDuplicate(round, i, i, verdicts);
        }
        _refuseDuplicate(round, 3, 1, verdicts);
        uint256 id = vm.snapshotState();
        _challengeDuplicate(round, 1, 3, verdicts); // earlier, though itself a duplicate
        _assertRefuted(round);
        vm.revertToState(id);
        _challengeDuplicate(round, 1, 2, verdicts);
        _assertRefuted(round);
    }

    /// @notice That the earlier one was rejected itself does not matter.
    function test_ADuplicateOfARejectedUpdateIsADuplicate() public {
        roots[1] = roots[0];
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[0] = _rejection(round, 0, 2);
        _propose(round, verdicts);
        _challengeDuplicate(round, 1, 0, verdicts);
        _assertRefuted(round);
    }

    /// @notice Other roots, other updates; both are opened as revealed.
    function test_RevertWhen_TheyAreNotTheSame() public {
        roots[3] = roots[2];
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        _propose(round, verdicts);
        _refuseDuplicate(round, 1, 2, verdicts);
        (IFederation.Opening memory opening, IFederation.Opening memory earlier) =
            (_opening(round, 1), _opening(round, 2));
        opening.root = earlier.root; // a lie
        _expectMismatch(round, 1, opening);
        federation.challengeDuplicate(round, 1, 2, verdicts, opening, earlier);
        (opening, earlier) = (_opening(round, 1), _opening(round, 2));
        earlier.root = opening.root;
        _expectMismatch(round, 2, earlier);
        federation.challengeDuplicate(round, 1, 2, verdicts, opening, earlier);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, ALL, ALL));
        federation.challengeDuplicate(round, ALL, 2, verdicts, opening, earlier);
        opening = _opening(round, 3);
        earlier = _opening(round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, ALL + 1, ALL));
        federation.challengeDuplicate(round, 3, ALL + 1, verdicts, opening, earlier);
    }

    // ------------------------------------------------------- challengeOriginal

    /// @notice Rejecting an original as a duplicate refutes the proposal.
    function test_AnOriginalIsNotRejectedAsADuplicate() public {
        for (uint256 index = 0; index < ALL; ++index) {
            _anew();
            uint256 round = _revealedInOrder();
            IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
            verdicts[index] = _rejection(round, index, 10);
            _propose(round, verdicts);
            _challengeOriginal(round, index, verdicts);
            _assertRefuted(round);
        }
    }

    /// @notice A true duplicate, wherever it stands, cannot be called an original; copies that came later do not count.
    function test_RevertWhen_ItIsADuplicate() public {
        roots[0] = roots[2];
        roots[1] = roots[2];
        uint256 round = _revealedInOrder(); // 2, 0, 3, 1
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[0] = _rejection(round, 0, 10);
        verdicts[1] = _rejection(round, 1, 10);
        _propose(round, verdicts);
        _refuseOriginal(round, 0, verdicts);
        _refuseOriginal(round, 1, verdicts);
        _anew();
        round = _revealedInOrder();
        verdicts = _verdicts(round, ALL);
        verdicts[2] = _rejection(round, 2, 10); // the first of three
        _propose(round, verdicts);
        _challengeOriginal(round, 2, verdicts);
        _assertRefuted(round);
    }

    /// @notice Only reason 10 says duplicate.
    function test_RevertWhen_TheReasonIsAnother() public {
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[1] = _rejection(round, 1, 9);
        verdicts[2] = _rejection(round, 2, 11);
        _propose(round, verdicts);
        for (uint256 i = 0; i < ALL; ++i) {
            _refuseOriginal(round, i, verdicts);
        }
    }

    /// @notice Everybody is opened, in the order of the verdicts, as revealed.
    function test_RevertWhen_NotEverybodyIsOpened() public {
        roots[1] = roots[2];
        uint256 round = _revealedInOrder();
        IFederation.Verdict[] memory verdicts = _verdicts(round, ALL);
        verdicts[1] = _rejection(round, 1, 10);
        _propose(round, verdicts);
        IFederation.Opening[] memory all = new IFederation.Opening[](3);
        vm.expectRevert(abi.encodeWithSelector(IFederation.OpenedCount.selector, 3, ALL));
        federation.challengeOriginal(round, 1, verdicts, all);
        all = _openings(round);
        all[2].root = roots[0]; // hides the original
        _expectMismatch(round, 2, all[2]);
        federation.challengeOriginal(round, 1, verdicts, all);
        all = _openings(round);
        all[1].root = keccak256("another");
        _expectMismatch(round, 1, all[1]);
        federation.challengeOriginal(round, 1, verdicts, all);
        all = _openings(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, ALL, ALL));
        federation.challengeOriginal(round, ALL, verdicts, all);
    }

    // --------------------------------------------------------------- helpers

    /// @dev A federation like the first, its round not opened yet.
    function _anew() private {
        vm.warp(START);
        federation = _deploy(_terms());
    }

    /// @dev Everybody has committed in `order` and revealed in that of the addresses.
    function _revealedInOrder() private returns (uint256 round) {
        round = _openWith(ALL);
        for (uint256 i = 0; i < ALL; ++i) {
            _commit(round, order[i]);
        }
        _revealAll(round, ALL);
    }

    function _openings(uint256 round) private view returns (IFederation.Opening[] memory all) {
        all = new IFederation.Opening[](ALL);
        for (uint256 i = 0; i < ALL; ++i) {
            all[i] = _opening(round, i);
        }
    }

    function _challengeDuplicate(uint256 round, uint256 index, uint256 earlier, IFederation.Verdict[] memory verdicts)
        private
    {
        (IFederation.Opening memory one, IFederation.Opening memory other) =
            (_opening(round, index), _opening(round, earlier));
        vm.prank(challenger);
        federation.challengeDuplicate(round, index, earlier, verdicts, one, other);
    }

    function _challengeOriginal(uint256 round, uint256 index, IFederation.Verdict[] memory verdicts) private {
        IFederation.Opening[] memory all = _openings(round);
        vm.prank(challenger);
        federation.challengeOriginal(round, index, verdicts, all);
    }

    function _refuseVerdict(uint256 round, uint256 index, IFederation.Verdict[] memory verdicts) private {
        _expectVerdictIsRight(round, index);
        _challengeVerdict(round, index, verdicts, index);
    }

    function _refuseDuplicate(uint256 round, uint256 index, uint256 earlier, IFederation.Verdict[] memory verdicts)
        private
    {
        _expectVerdictIsRight(round, index);
        _challengeDuplicate(round, index, earlier, verdicts);
    }

    function _refuseOriginal(uint256 round, uint256 index, IFederation.Verdict[] memory verdicts) private {
        _expectVerdictIsRight(round, index);
        _challengeOriginal(round, index, verdicts);
    }

    function _expectMismatch(uint256 round, uint256 i, IFederation.Opening memory opening) private {
        bytes30 given = bytes30(keccak256(abi.encode(opening.root, opening.manifest, uint256(opening.examples))));
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(i), given, _digest(round, i))
        );
    }
}
