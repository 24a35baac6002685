"""Put the token and its minter on the chain, each once, and let the minter mint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction

from receipts.chain.client import Rpc
from receipts.chain.deploy import (
    Progress,
    address_of,
    call_data,
    intend_deployment,
    load_artifact,
    require_cancun,
    require_code,
    settle,
)
from receipts.chain.sender import intend, node, sender_signer
from receipts.keys import keccak256
from receipts.models import ChainTransaction

_CONTRACTS: Final = Path(__file__).parent / "contracts"
GRANT_GAS: Final = 100_000
MINTER_ROLE: Final = keccak256(b"MINTER_ROLE")


def deploy_tokens(
    *, attesters: Sequence[str], threshold: int, progress: Progress | None = None, rpc: Rpc | None = None
) -> tuple[str, str]:
    """Deploy token and minter unless they stand, grant the minter its role; give both addresses.

    The house's sender is the admin of both until an operator hands that over.
    Raises: ChainError, NotDeployed.
    """
    rpc = rpc or node()
    require_cancun(rpc)
    admin = sender_signer().address
    token_artifact = load_artifact(_CONTRACTS / "AIToken.json")
    minter_artifact = load_artifact(_CONTRACTS / "AITokenMinter.json")
    with transaction.atomic():
        token_wish = intend_deployment(token_artifact, [_checksum(admin)])
    token = address_of(token_wish, rpc=rpc)
    with transaction.atomic():
        minter_wish = intend_deployment(
            minter_artifact,
            [_checksum(token), _checksum(admin), [_checksum(one) for one in sorted(attesters)], threshold],
        )
    minter = address_of(minter_wish, rpc=rpc)
    with transaction.atomic():
        grant = intend(
            purpose=ChainTransaction.Purpose.ADMIN,
            key=f"grant:{settings.CHAIN_ID}:{token}:{minter}",
            to=token,
            data=call_data(token_artifact, "grantRole", [MINTER_ROLE, _checksum(minter)]),
            gas_limit=GRANT_GAS,  # the token is not there yet to be asked; nonces keep the three in order
        )
    settle([token_wish, minter_wish, grant], progress=progress, rpc=rpc)
    require_code(rpc, token_artifact, token)
    require_code(rpc, minter_artifact, minter)
    return token, minter


def _checksum(address: str) -> str:
    from web3 import Web3

    return Web3.to_checksum_address(address)
