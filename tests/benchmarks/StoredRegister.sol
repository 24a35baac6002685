// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title A register that keeps each asset's history in storage, as that of Numbers Protocol does.
/// @notice For measuring alone: what an anchor costs where the register isn't ours. Never deployed by the house.
contract StoredRegister {
    event Commit(address indexed recorder, string indexed assetCid, string commitData);

    mapping(string assetCid => uint256[] blocks) private _commits;

    function commit(string calldata assetCid, string calldata commitData) external {
        _commits[assetCid].push(block.number);
        emit Commit(msg.sender, assetCid, commitData);
    }

    function getCommits(string calldata assetCid) external view returns (uint256[] memory) {
        return _commits[assetCid];
    }
}
