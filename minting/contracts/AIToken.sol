// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title Tokens that exist only because somebody served compute.
/// @notice Nothing is minted at the start. Every token comes from one usage receipt, and each receipt counts once.
/// @dev Which receipts were used is kept here and not in the minter, so that a new minter can't forget it.
///      Pausing stops minting alone: who earned tokens can always move them, and nobody can freeze them.
contract AIToken is ERC20, ERC20Permit, AccessControl, Pausable {
    bytes32 public constant MINTER_ROLE = keccak256("MINTER_ROLE");
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @notice Whether tokens were already minted for the usage receipt with this hash.
    mapping(bytes32 receiptHash => bool) public usedReceipt;

    /// @notice The receipt is consumed: `amount` in all was minted for it, by `minter`.
    event ReceiptUsed(bytes32 indexed receiptHash, address indexed minter, uint256 amount);

    error ReceiptAlreadyUsed(bytes32 receiptHash);
    error SharesMismatch(uint256 holders, uint256 amounts);

    constructor(address admin) ERC20("Tallystick Compute", "TALLY") ERC20Permit("Tallystick Compute") {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(PAUSER_ROLE, admin);
    }

    /// @notice Mint `amount` to `to` for a receipt that was never used. A free job mints 0 and is consumed too.
    function mintOnce(
        address to,
        uint256 amount,
        bytes32 receiptHash
    ) external onlyRole(MINTER_ROLE) whenNotPaused {
        _use(receiptHash);
        _mint(to, amount);
        emit ReceiptUsed(receiptHash, msg.sender, amount);
    }

    /// @notice Mint the shares of one receipt to all who served it, in one go or not at all.
    function mintOnceSplit(
        address[] calldata to,
        uint256[] calldata amounts,
        bytes32 receiptHash
    ) external onlyRole(MINTER_ROLE) whenNotPaused {
        require(to.length == amounts.length && to.length != 0, SharesMismatch(to.length, amounts.length));
        _use(receiptHash);
        uint256 whole = 0;
        for (uint256 i = 0; i < to.length; ++i) {
            whole += amounts[i];
            _mint(to[i], amounts[i]);
        }
        emit ReceiptUsed(receiptHash, msg.sender, whole);
    }

    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    function _use(bytes32 receiptHash) private {
        require(!usedReceipt[receiptHash], ReceiptAlreadyUsed(receiptHash));
        usedReceipt[receiptHash] = true;
    }
}
