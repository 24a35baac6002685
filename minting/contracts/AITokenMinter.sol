// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {AIToken} from "./AIToken.sol";

/// @title The door to the token: enough attesters say that a receipt is true, and its tokens are minted.
/// @notice Anyone may carry an authorization here; what counts is who signed it. `units` is the amount minted,
///         in the token's smallest unit.
/// @dev EIP-712 (`Tallystick`, `1`, chain id, this address). Attesters are keys or ERC-1271 wallets; OpenZeppelin
///      refuses a signature's high-s twin. No reentrancy guard: the token has no hooks, wallets are asked by
///      staticcall, and the token marks a receipt as used in the same call that mints.
contract AITokenMinter is AccessControl, EIP712, Pausable {
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    bytes32 public constant MINT_TYPEHASH =
        keccak256("MintAuthorization(address provider,uint256 units,bytes32 receiptHash,uint256 deadline)");
    bytes32 public constant SPLIT_TYPEHASH =
        keccak256("SplitAuthorization(address[] providers,uint256[] units,bytes32 receiptHash,uint256 deadline)");

    AIToken public immutable token;

    /// @notice Who is believed about usage, how many they are, and how many of them one mint needs.
    mapping(address attester => bool) public isAttester;
    uint256 public attesterCount;
    uint256 public threshold;

    event Minted(address indexed provider, uint256 units, bytes32 receiptHash);
    event AttesterChanged(address indexed attester, bool trusted);
    event ThresholdChanged(uint256 threshold);

    error DeadlinePassed(uint256 deadline, uint256 blockTime);
    error TooFewAttesters(uint256 given, uint256 threshold);
    error SignaturesMismatch(uint256 attesters, uint256 signatures);
    error AttestersNotAscending(address attester);
    error NotAnAttester(address attester);
    error BadSignature(address attester);
    error ThresholdOutOfRange(uint256 threshold, uint256 attesters);

    constructor(
        AIToken token_,
        address admin,
        address[] memory attesters,
        uint256 threshold_
    ) EIP712("Tallystick", "1") {
        token = token_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(PAUSER_ROLE, admin);
        for (uint256 i = 0; i < attesters.length; ++i) {
            _setAttester(attesters[i], true);
        }
        _setThreshold(threshold_);
    }

    /// @notice Mint `units` to `provider` for the usage receipt with this hash, once.
    /// @param attesters who signed, in ascending order, so that none counts twice
    /// @param attesterSigs their signatures over MintAuthorization, in the same order
    function mintWithReceipt(
        address provider,
        uint256 units,
        bytes32 receiptHash,
        uint256 deadline,
        address[] calldata attesters,
        bytes[] calldata attesterSigs
    ) external whenNotPaused {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(MINT_TYPEHASH, provider, units, receiptHash, deadline)));
        _requireAuthorized(digest, deadline, attesters, attesterSigs);
        emit Minted(provider, units, receiptHash);
        token.mintOnce(provider, units, receiptHash);
    }

    /// @notice Mint the shares of one usage receipt to all the providers that served it, once.
    function mintSplit(
        address[] calldata providers,
        uint256[] calldata units,
        bytes32 receiptHash,
        uint256 deadline,
        address[] calldata attesters,
        bytes[] calldata attesterSigs
    ) external whenNotPaused {
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(
                    SPLIT_TYPEHASH,
                    keccak256(abi.encodePacked(providers)),
                    keccak256(abi.encodePacked(units)),
                    receiptHash,
                    deadline
                )
            )
        );
        _requireAuthorized(digest, deadline, attesters, attesterSigs);
        token.mintOnceSplit(providers, units, receiptHash);
        for (uint256 i = 0; i < providers.length; ++i) {
            emit Minted(providers[i], units[i], receiptHash);
        }
    }

    /// @notice Whether tokens were already minted for this receipt, by this minter or by any other.
    function usedReceipt(bytes32 receiptHash) external view returns (bool) {
        return token.usedReceipt(receiptHash);
    }

    /// @notice Trust an attester, or stop trusting it. Never leaves fewer attesters than the threshold asks for.
    function setAttester(address attester, bool trusted) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setAttester(attester, trusted);
        require(threshold <= attesterCount, ThresholdOutOfRange(threshold, attesterCount));
    }

    function setThreshold(uint256 threshold_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setThreshold(threshold_);
    }

    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    function _setAttester(address attester, bool trusted) private {
        if (isAttester[attester] == trusted) return;
        isAttester[attester] = trusted;
        attesterCount = trusted ? attesterCount + 1 : attesterCount - 1;
        emit AttesterChanged(attester, trusted);
    }

    function _setThreshold(uint256 threshold_) private {
        require(threshold_ != 0 && threshold_ <= attesterCount, ThresholdOutOfRange(threshold_, attesterCount));
        threshold = threshold_;
        emit ThresholdChanged(threshold_);
    }

    function _requireAuthorized(
        bytes32 digest,
        uint256 deadline,
        address[] calldata attesters,
        bytes[] calldata attesterSigs
    ) private view {
        require(block.timestamp <= deadline, DeadlinePassed(deadline, block.timestamp));
        require(attesters.length == attesterSigs.length, SignaturesMismatch(attesters.length, attesterSigs.length));
        require(attesters.length >= threshold, TooFewAttesters(attesters.length, threshold));
        address last = address(0);
        for (uint256 i = 0; i < attesters.length; ++i) {
            address attester = attesters[i];
            require(attester > last, AttestersNotAscending(attester));
            require(isAttester[attester], NotAnAttester(attester));
            require(
                SignatureChecker.isValidSignatureNowCalldata(attester, digest, attesterSigs[i]),
                BadSignature(attester)
            );
            last = attester;
        }
    }
}
