"""Found the embedded house: keys, certificates, log, contracts, and the first people in it.

Every step looks before it acts, so that an interrupted founding goes on at the next start.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from config.embedded import chain
from jobs.accounts import digest_of, new_api_key, prefix_of
from jobs.market.providers import register_provider
from jobs.models import ApiKey, Provider, User
from provenance.authority import make_authority
from receipts.durable import write_durably
from receipts.keyring import OF_THE_HOUSE, add_key, alg_of, counting, settle
from receipts.keys import ed25519_signer, key_path, load_signer, make_key_file, secp256k1_signer
from receipts.log import found_log
from receipts.models import PublicKey, Tenant

ED25519_ROLES: Final = ("root", "log", "hub", "provider", "client", "witness")
SECP256K1_ROLES: Final = ("attester", "sender", "payout")
PRICE: Final = 10**12  # a millionth of a token for each millisecond
Say = Callable[[str], None]


def found(say: Say) -> dict[str, Any]:
    """Make what a house needs and give what its launcher must know; repeating it changes nothing."""
    make_keys(say)
    say("certificates: root, intermediate, leaf")
    make_authority(Path(settings.KEYS_DIR) / "c2pa", settings.C2PA_ORGANISATION)
    head = found_log(settings.LOG_ORIGIN)
    say(f"log: {head.origin}")
    house = _tenant("house", "The house")
    client = _tenant("ada", "Ada, who asks")
    register_keys()
    fleet = _provider(house)
    _let_count(ed25519_signer("client", settings.KEYS_DIR).key_id, client)
    people = _people(client)
    contracts = deploy(say) if settings.CHAIN_RPC_URL else {}
    return {"provider": fleet.slug, "queue": fleet.queue, **people, **contracts}


def make_keys(say: Say) -> None:
    """Make one key for each role, unless there is one, here or elsewhere: the root lives off the server."""
    folder = Path(settings.KEYS_DIR)
    made = []
    for role in ED25519_ROLES + SECP256K1_ROLES:
        path = folder / f"{role}.key"
        if not path.exists() and not _elsewhere(role):
            make_key_file(path, "ed25519" if role in ED25519_ROLES else "secp256k1")
            made.append(role)
    if made:
        say(f"keys: {', '.join(made)}")


def register_keys() -> None:
    """Let the house's own keys count for their roles, once a rotation that a crash cut short is finished."""
    for role in OF_THE_HOUSE:
        if not _elsewhere(role):
            settle(role)
            key_id = str(load_signer(role, settings.KEYS_DIR).key_id)
            add_key(role=role, alg=alg_of(key_id), key_id=key_id)


def _let_count(key_id: str, client: Tenant) -> None:
    """Register a client's key; one that was revoked stays so, and keeps nobody else from starting."""
    if not PublicKey.objects.filter(key_id=key_id, until_leaf__isnull=False).exists():
        add_key(role="client", alg="Ed25519", key_id=key_id, tenant=client)


def _elsewhere(role: str) -> bool:
    """Whether a key counts for this role of the house whose private half is not on this machine."""
    if role not in OF_THE_HOUSE or not counting(role).exists():
        return False
    path = key_path(role, Path(settings.KEYS_DIR))
    return path is not None and not path.exists()


def deploy(say: Say) -> dict[str, str]:
    """Put the register, token and minter on the chain, each once."""
    from minting.deploy import deploy_tokens
    from receipts.chain.deploy import deploy_register

    if settings.EMBEDDED:
        # The private chain's money is worth nothing; without it the sender's queue would wait for ever.
        chain.fund(settings.CHAIN_RPC_URL, secp256k1_signer("sender", settings.KEYS_DIR).address, 10**24)
    register = deploy_register(progress=say)
    tokens = deploy_tokens(
        attesters=[secp256k1_signer("attester", settings.KEYS_DIR).address], threshold=1, progress=say
    )
    return {"register_address": register, "token_address": tokens[0], "minter_address": tokens[1]}


def _tenant(slug: str, name: str) -> Tenant:
    return Tenant.objects.get_or_create(id=slug, defaults={"name": name})[0]


def _provider(house: Tenant) -> Provider:
    from jobs.runners import RUNNERS
    from receipts.keys import read_key_file

    payout = read_key_file(Path(settings.KEYS_DIR) / "payout.key").key_id
    return register_provider(
        slug="bo",
        name="Bo's fleet",
        tenant=house,
        key_id=ed25519_signer("provider", settings.KEYS_DIR).key_id,
        payout=payout,
        kinds=sorted(RUNNERS),
        unit_type=_unit_type(),
        price=PRICE,
    )


def _unit_type() -> str:
    """What this host can measure and so may bill: a host without an NVIDIA driver never says `gpu`."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return Provider.UnitType.GPU_MS if pynvml.nvmlDeviceGetCount() else Provider.UnitType.CPU_MS
    except pynvml.NVMLError:
        return Provider.UnitType.CPU_MS


def _people(client: Tenant) -> dict[str, str]:
    """Make an operator, an auditor and an API key; their secrets lie in one file of mode 0600, made for this house."""
    path = Path(settings.DATA_DIR) / "demo" / "people.json"
    if path.exists():
        people: dict[str, str] = json.loads(path.read_text())
    else:
        people = {
            "admin_user": "admin",
            "admin_password": secrets.token_urlsafe(15),
            "auditor_user": "cy",
            "auditor_password": secrets.token_urlsafe(15),
            "api_key": new_api_key(),
        }
        # Written before the rows: a crash between leaves secrets without rows, never rows nobody can log in to.
        write_durably(path, json.dumps(people, indent=1).encode(), mode=0o600)
    if not User.objects.filter(username=people["admin_user"]).exists():
        User.objects.create_superuser(people["admin_user"], password=people["admin_password"], role=User.Role.OPERATOR)
    if not User.objects.filter(username=people["auditor_user"]).exists():
        User.objects.create_user(
            people["auditor_user"], password=people["auditor_password"], role=User.Role.AUDITOR, is_staff=True
        )
    ApiKey.objects.get_or_create(
        prefix=prefix_of(people["api_key"]),
        defaults={"digest": digest_of(people["api_key"]), "tenant": client, "label": "demo"},
    )
    return people
