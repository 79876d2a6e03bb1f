// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {World} from "./World.sol";

/// @dev A federation of which only sums are opened, one line a step. A test says who does not reveal, whom the seal
///      leaves out and who is silent after it; the verdicts, secrets and openings here follow.
///      Participant i stands at rank i among those that committed: addresses ascend with i.
abstract contract MaskedWorld is World {
    uint8 internal constant BUNDLE = 14; // reasons, docs/protocol.md §13
    uint8 internal constant SILENT = 15;

    uint256 internal members; // how many committed: participants 0, 1, …
    mapping(uint256 i => bool) internal hasMissed; // committed, and never revealed
    mapping(uint256 i => bool) internal isLeftOut; // revealed, and not in the set
    mapping(uint256 i => bool) internal isOpen; // its secrets are known
    mapping(uint256 i => bool) internal isRecovered; // from others

    function _terms() internal view virtual override returns (IFederation.Terms memory terms) {
        return _masked(super._terms());
    }

    // ----------------------------------------------------------- what is sent

    function _publicKey(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("public key", round, i));
    }

    function _ownSeed(uint256 round, uint256 i) internal view virtual returns (bytes32) {
        return keccak256(abi.encode("own seed", round, i));
    }

    function _pairSeed(uint256 round, uint256 i, uint256 j) internal view virtual returns (bytes32) {
        return keccak256(abi.encode("pair seed", round, i < j ? i : j, i < j ? j : i));
    }

    function _maskedCommitment(uint256 round, uint256 i) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                address(federation),
                round,
                _participant(i),
                _publicKey(round, i),
                uint256(_examples(i)),
                _salt(round, i)
            )
        );
    }

    /// @dev To the own seed, then to that of each peer.
    function _commitments(uint256 round, uint256 i) internal view returns (bytes32[] memory list) {
        list = new bytes32[](members);
        list[0] = keccak256(abi.encode(_ownSeed(round, i)));
        uint256 next = 1;
        for (uint256 j = 0; j < members; ++j) {
            if (j != i) list[next++] = keccak256(abi.encode(_pairSeed(round, i, j)));
        }
    }

    function _rawManifest(uint256 round, uint256 i) internal view returns (bytes32) {
        return super._manifest(round, i);
    }

    /// @dev Manifest and secrets' digest: what a reveal binds its participant to.
    function _binding(uint256 round, uint256 i) internal view returns (bytes32) {
        bytes32 secrets = keccak256(abi.encodePacked(_commitments(round, i)));
        return keccak256(abi.encode(_rawManifest(round, i), secrets));
    }

    /// @dev Of the opening that stands.
    function _manifest(uint256 round, uint256 i) internal view virtual override returns (bytes32) {
        bytes32 binding = _binding(round, i);
        return isOpen[i] ? keccak256(abi.encodePacked(binding, _ownSeed(round, i), _seeds(round, i))) : binding;
    }

    function _isOutside(uint256 i) internal view returns (bool) {
        return hasMissed[i] || isLeftOut[i];
    }

    function _outside() internal view returns (uint256 count) {
        for (uint256 i = 0; i < members; ++i) {
            if (_isOutside(i)) count += 1;
        }
    }

    function _missed() internal view returns (uint256 count) {
        for (uint256 i = 0; i < members; ++i) {
            if (hasMissed[i]) count += 1;
        }
    }

    /// @dev Shared with who is outside the set, ascending.
    function _seeds(uint256 round, uint256 i) internal view returns (bytes32[] memory list) {
        list = new bytes32[](_outside());
        uint256 next = 0;
        for (uint256 j = 0; j < members; ++j) {
            if (_isOutside(j)) list[next++] = _pairSeed(round, i, j);
        }
    }

    function _membersBytes() internal view returns (bytes memory list) {
        for (uint256 i = 0; i < members; ++i) {
            list = bytes.concat(list, bytes20(_participant(i)));
        }
    }

    function _secrets(uint256 round, uint256 i) internal view returns (IFederation.Secrets memory) {
        return IFederation.Secrets({
            opening: IFederation.Opening({
                root: _root(round, i), manifest: _rawManifest(round, i), examples: _examples(i)
            }),
            rank: uint8(i),
            members: _membersBytes(),
            commitments: _commitments(round, i),
            ownSeed: _ownSeed(round, i),
            seeds: _seeds(round, i)
        });
    }

    function _sketch(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("sketch", round, i));
    }

    function _maskedReveal(uint256 round, uint256 i) internal view returns (IFederation.MaskedReveal memory) {
        return IFederation.MaskedReveal({
            root: _root(round, i),
            manifest: _rawManifest(round, i),
            examples: _examples(i),
            publicKey: _publicKey(round, i),
            salt: _salt(round, i),
            secrets: keccak256(abi.encodePacked(_commitments(round, i)))
        });
    }

    /// @dev On all that committed.
    function _sealVerdicts(uint256 round) internal view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = new IFederation.Verdict[](members);
        for (uint256 i = 0; i < members; ++i) {
            verdicts[i].participant = _participant(i);
            if (hasMissed[i]) continue;
            verdicts[i] = isLeftOut[i] ? _rejection(round, i, BUNDLE) : _verdict(round, i);
        }
    }

    /// @dev On all that revealed, once the sum is open.
    function _sumVerdicts(uint256 round) internal view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = new IFederation.Verdict[](members - _missed());
        uint256 next = 0;
        for (uint256 i = 0; i < members; ++i) {
            if (hasMissed[i]) continue;
            verdicts[next] = isLeftOut[i] ? _rejection(round, i, BUNDLE) : _verdict(round, i);
            if (isRecovered[i]) (verdicts[next].score, verdicts[next].reason) = (0, SILENT);
            next += 1;
        }
    }

    // ---------------------------------------------------------------- a round

    function _commitMasked(uint256 round, uint256 i) internal {
        (bytes32 commitment, bytes32 key, address account) =
            (_maskedCommitment(round, i), _publicKey(round, i), _participant(i));
        vm.prank(account);
        federation.commitMasked(round, commitment, key);
    }

    function _revealMasked(uint256 round, uint256 i) internal {
        _revealMaskedAs(round, i, _maskedReveal(round, i));
    }

    function _revealMaskedAs(uint256 round, uint256 i, IFederation.MaskedReveal memory revealed) internal {
        address account = _participant(i);
        vm.prank(account);
        federation.revealMasked(round, revealed);
    }

    /// @dev Opened and committed to by `count`: the reveal phase.
    function _committedMasked(uint256 count) internal returns (uint256 round) {
        round = _openWith(count);
        _commitAllMasked(round, count);
    }

    function _commitAllMasked(uint256 round, uint256 count) internal {
        members = count;
        for (uint256 i = 0; i < count; ++i) {
            _commitMasked(round, i);
        }
        if (federation.status(round) == IFederation.Status.Commit) vm.warp(federation.getRound(round).commitDeadline);
    }

    /// @dev Revealed by all but those that miss it: the aggregator's turn to seal.
    function _revealedMasked(uint256 count) internal returns (uint256 round) {
        round = _committedMasked(count);
        _revealAllMasked(round);
    }

    function _revealAllMasked(uint256 round) internal {
        for (uint256 i = 0; i < members; ++i) {
            if (!hasMissed[i]) _revealMasked(round, i);
        }
        if (federation.status(round) == IFederation.Status.Reveal) vm.warp(federation.getRound(round).revealDeadline);
    }

    function _seal(uint256 round) internal {
        _sealAs(federation.currentAggregator(), round, _sealVerdicts(round));
    }

    function _sealAs(address aggregator, uint256 round, IFederation.Verdict[] memory verdicts) internal {
        vm.prank(aggregator);
        federation.sealSet(round, verdicts);
    }

    function _sealedWith(uint256 count) internal returns (uint256 round) {
        round = _revealedMasked(count);
        _seal(round);
    }

    /// @dev Sealed, and the sketches' vectors drawn: members of the set may post their secrets.
    function _sketchedWith(uint256 count) internal returns (uint256 round) {
        round = _sealedWith(count);
        _mine();
        federation.fixSketch(round);
    }

    function _unmask(uint256 round, uint256 i) internal {
        _unmaskAs(_participant(i), round, i);
        isOpen[i] = true;
    }

    function _unmaskAs(address sender, uint256 round, uint256 i) internal {
        _unmaskAs(sender, round, _secrets(round, i), _sketch(round, i));
    }

    function _unmaskAs(address sender, uint256 round, IFederation.Secrets memory secrets, bytes32 sketch) internal {
        vm.prank(sender);
        federation.unmask(round, secrets, sketch);
    }

    function _recover(uint256 round, uint256 i) internal {
        _unmaskAs(stranger, round, i);
        isOpen[i] = isRecovered[i] = true;
    }

    /// @dev By all of the set from `first` on.
    function _unmaskFrom(uint256 round, uint256 first) internal {
        for (uint256 i = first; i < members; ++i) {
            if (!_isOutside(i)) _unmask(round, i);
        }
    }

    /// @dev The sum is open: the aggregator's turn to propose.
    function _summedWith(uint256 count) internal returns (uint256 round) {
        round = _sketchedWith(count);
        _unmaskFrom(round, 0);
    }

    function _proposedSum(uint256 count) internal returns (uint256 round) {
        round = _summedWith(count);
        _propose(round, _sumVerdicts(round));
    }

    function _toAssist(uint256 round) internal {
        vm.warp(federation.getSum(round).unmaskDeadline);
    }

    function _toVoid(uint256 round) internal {
        vm.warp(federation.getSum(round).assistDeadline);
    }

    function _object(uint256 round, uint256 i) internal {
        address account = _participant(i);
        vm.prank(account);
        federation.object(round);
    }

    function _postStreams(uint256 round, uint256 i) internal {
        address account = _participant(i);
        vm.prank(account);
        federation.postStreams(round, keccak256(abi.encode(i)));
    }

    /// @dev Of those of the set that posted their secrets themselves, in ascending order.
    function _openings(uint256 round) internal view returns (IFederation.Opening[] memory list) {
        uint256 count = 0;
        for (uint256 i = 0; i < members; ++i) {
            if (isOpen[i] && !isRecovered[i]) count += 1;
        }
        list = new IFederation.Opening[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < members; ++i) {
            if (isOpen[i] && !isRecovered[i]) list[next++] = _opening(round, i);
        }
    }

    function _void(uint256 round) internal {
        bytes memory list = _membersBytes();
        IFederation.Opening[] memory openings = _openings(round);
        vm.prank(stranger);
        federation.voidRound(round, list, openings);
    }

    // ------------------------------------------------------------- assertions

    function _expectWrongPrivacy(IFederation.Privacy actual) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.WrongPrivacy.selector, actual));
    }
}
