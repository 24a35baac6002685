"""Write and read the minter's calls, and read what its events say. Pure.

Source: `minting/contracts/AITokenMinter.sol` and `AIToken.sol`.
"""

from collections.abc import Sequence
from typing import Final

from minting.eip712 import Authorization, MintAuthorization, SplitAuthorization
from receipts.chain import abi
from receipts.chain.abi import NotCalldata
from receipts.keys import keccak256

MINT_SIGNATURE: Final = "mintWithReceipt(address,uint256,bytes32,uint256,address[],bytes[])"
SPLIT_SIGNATURE: Final = "mintSplit(address[],uint256[],bytes32,uint256,address[],bytes[])"
MINTED_TOPIC: Final = "0x" + keccak256(b"Minted(address,uint256,bytes32)").hex()
RECEIPT_USED_TOPIC: Final = "0x" + keccak256(b"ReceiptUsed(bytes32,address,uint256)").hex()
RECEIPT_ALREADY_USED: Final = "0x" + abi.selector("ReceiptAlreadyUsed(bytes32)").hex()


def encode_mint(authorization: Authorization, signatures: Sequence[tuple[str, bytes]]) -> bytes:
    """Encode the call that mints what `signatures` (attester, 65 bytes) authorize; in the order the minter asks for."""
    ordered = sorted((address.lower(), raw) for address, raw in signatures)
    tail = (
        abi.bytes32(authorization.receipt_hash),
        abi.uint(authorization.deadline),
        abi.array([abi.address(attester) for attester, _ in ordered]),
        abi.array([abi.dynamic_bytes(raw) for _, raw in ordered]),
    )
    if isinstance(authorization, MintAuthorization):
        return abi.call(MINT_SIGNATURE, abi.address(authorization.provider), abi.uint(authorization.units), *tail)
    return abi.call(
        SPLIT_SIGNATURE,
        abi.array([abi.address(provider) for provider in authorization.providers]),
        abi.array([abi.uint(units) for units in authorization.units]),
        *tail,
    )


def decode_mint(calldata: bytes) -> tuple[Authorization, list[tuple[str, bytes]]]:
    """Read a mint back from its calldata: what is authorized, and by which signatures.

    Raises: NotCalldata, for another function and for any but the usual encoding.
    """
    name, data = calldata[:4], calldata[4:]
    receipt_hash = "0x" + abi.word_at(data, 2 * abi.WORD).hex()
    deadline = abi.uint_at(data, 3 * abi.WORD)
    attesters = [abi.address_at(data, place) for place in abi.words_at(data, 4 * abi.WORD)]
    places = abi.words_at(data, 5 * abi.WORD)
    raws = [abi.bytes_at(data, place, base=places[0]) for place in places]
    authorization: Authorization
    if name == abi.selector(MINT_SIGNATURE):
        authorization = MintAuthorization(abi.address_at(data, 0), abi.uint_at(data, abi.WORD), receipt_hash, deadline)
    elif name == abi.selector(SPLIT_SIGNATURE):
        providers = [abi.address_at(data, place) for place in abi.words_at(data, 0)]
        units = [abi.uint_at(data, place) for place in abi.words_at(data, abi.WORD)]
        authorization = SplitAuthorization(providers, units, receipt_hash, deadline)
    else:
        raise NotCalldata("is not a call of the minter")
    if len(attesters) != len(raws):
        raise NotCalldata("has another number of attesters than of signatures")
    signatures = list(zip(attesters, raws, strict=True))
    if encode_mint(authorization, signatures) != calldata:
        raise NotCalldata("is not the usual encoding of what it says")
    return authorization, signatures
