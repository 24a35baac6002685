// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The public diary of a log: ERC-7053 commits, and nothing else.
/// @notice Anyone may call. Who reads commits therefore checks `recorder` against an address that it trusts.
/// @dev Keeps no storage: the event is the record. A commit costs about 27,000 gas instead of the 60,000 to 78,000
///      of a register that also stores each asset's history, and no later call can change what was said.
contract CommitRegister {
    /// @param recorder who committed, so whose word this is
    /// @param assetCid the asset's NID; an indexed string leaves only its keccak256 in the log, which is why
    ///        commitData names the NID again
    /// @param commitData what is said about the asset
    event Commit(address indexed recorder, string indexed assetCid, string commitData);

    /// @notice Record `commitData` on the asset `assetCid` in the caller's name.
    function commit(string calldata assetCid, string calldata commitData) external {
        emit Commit(msg.sender, assetCid, commitData);
    }
}
