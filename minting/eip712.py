"""Make and check the typed data that attesters sign, exactly as the minter contract hashes it. Pure.

Source: EIP-712; the types are those of `minting/contracts/AITokenMinter.sol`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from receipts.canonical import NotCanonical, b64url, unb64url
from receipts.chain import abi
from receipts.keys import KeyId, Secp256k1Signer, Signature, SignatureBroken, keccak256, recover_address

ALG: Final = "EIP-712"
DOMAIN_NAME: Final = "Tallystick"
DOMAIN_VERSION: Final = "1"

_DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_MINT_TYPE: Final = b"MintAuthorization(address provider,uint256 units,bytes32 receiptHash,uint256 deadline)"
_SPLIT_TYPE: Final = b"SplitAuthorization(address[] providers,uint256[] units,bytes32 receiptHash,uint256 deadline)"


@dataclass(frozen=True, slots=True)
class Domain:
    """The one minter on the one chain that an authorization is meant for."""

    chain_id: int
    verifying_contract: str
    name: str = DOMAIN_NAME
    version: str = DOMAIN_VERSION

    def separator(self) -> bytes:
        """Hash the domain: 32 bytes."""
        return keccak256(
            keccak256(_DOMAIN_TYPE)
            + keccak256(self.name.encode())
            + keccak256(self.version.encode())
            + abi.uint(self.chain_id)
            + abi.address(self.verifying_contract)
        )


@dataclass(frozen=True, slots=True)
class MintAuthorization:
    """Leave to mint `units` (the token's smallest unit) to `provider` for one receipt, until `deadline` (unix s)."""

    provider: str
    units: int
    receipt_hash: str
    deadline: int

    def struct_hash(self) -> bytes:
        """Hash the struct: 32 bytes."""
        return keccak256(
            keccak256(_MINT_TYPE)
            + abi.address(self.provider)
            + abi.uint(self.units)
            + abi.bytes32(self.receipt_hash)
            + abi.uint(self.deadline)
        )


@dataclass(frozen=True, slots=True)
class SplitAuthorization:
    """Leave to mint the shares of one receipt to several providers, until `deadline` (unix s)."""

    providers: Sequence[str]
    units: Sequence[int]
    receipt_hash: str
    deadline: int

    def struct_hash(self) -> bytes:
        """Hash the struct: 32 bytes. An array is hashed as its items' words laid end to end."""
        return keccak256(
            keccak256(_SPLIT_TYPE)
            + keccak256(b"".join(abi.address(provider) for provider in self.providers))
            + keccak256(b"".join(abi.uint(units) for units in self.units))
            + abi.bytes32(self.receipt_hash)
            + abi.uint(self.deadline)
        )


Authorization = MintAuthorization | SplitAuthorization


def digest(domain: Domain, authorization: Authorization) -> bytes:
    """Give the 32 bytes that are signed.

    Raises: receipts.chain.abi.NotCalldata, for a value that its type can't hold.
    """
    return keccak256(b"\x19\x01" + domain.separator() + authorization.struct_hash())


def sign_authorization(signer: Secp256k1Signer, domain: Domain, authorization: Authorization) -> Signature:
    """Sign an authorization as an attester."""
    raw = signer.sign_digest(digest(domain, authorization))
    return {"alg": ALG, "key_id": signer.key_id, "sig": b64url(raw)}


def verify_authorization(domain: Domain, authorization: Authorization, signature: Mapping[str, Any]) -> KeyId:
    """Check an attester's signature and say whose it is: a lower-case address.

    Raises: SignatureBroken, also for a high s and for a signature that recovers to another key than it names.
    """
    if set(signature) != {"alg", "key_id", "sig"} or not all(isinstance(item, str) for item in signature.values()):
        raise SignatureBroken("a signature has alg, key_id and sig, each as text")
    if signature["alg"] != ALG:
        raise SignatureBroken(f"alg is {signature['alg'][:20]!r}, {ALG} is due")
    try:
        raw = unb64url(signature["sig"], size=65)
        signed = digest(domain, authorization)
    except NotCanonical as error:
        raise SignatureBroken(f"sig: {error.rule}") from None
    except abi.NotCalldata as error:
        raise SignatureBroken(f"the authorization {error.rule}") from None
    recovered = recover_address(signed, raw)
    if recovered != signature["key_id"]:
        raise SignatureBroken(f"signed by {recovered}, {signature['key_id'][:50]} is named")
    return KeyId(recovered)
