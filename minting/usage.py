"""Write and read the usage claim: the provider's word of who served how many units of what. Pure.

The text that this module makes is what the provider signs and what `receipt_hash` names; it is kept as it
stands and never made anew. Its fields are those of the usage receipt that AITBC's stage 2 describes, with
integers where that has floats.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NewType, get_args

from receipts.canonical import MAX_SAFE_INTEGER, NotCanonical, decode_canonical, encode, nid_digest, read_utc
from receipts.keys import keccak256

ReceiptHash = NewType("ReceiptHash", str)
UnitType = Literal["cpu_ms", "gpu_ms"]

UNIT_TYPES: Final[tuple[str, ...]] = get_args(UnitType)
MAX_AMOUNT: Final = 2**256 - 1
MAX_SHARES: Final = 32  # the claim must fit into a receipt, and one mint of all shares into a transaction

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ID: Final = re.compile(r"0x[0-9a-f]{40}|[A-Za-z0-9_-]{43}")
_SALTED: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}")
_WORD: Final = re.compile(r"[\x21-\x7e]{1,200}")  # printable ASCII: sorted compact JSON and RFC 8785 then agree
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _./:@+-]{0,199}")


class UsageInvalid(ValueError):
    """A usage claim breaks a rule: `rule`, at `field`, which holds `value`."""

    def __init__(self, field: str, rule: str, value: object) -> None:
        super().__init__(f"{field}: {rule}, not {str(value)[:80]!r}")
        self.field = field
        self.rule = rule
        self.value = value


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several providers served, and what it earns."""

    provider: str
    payout: str
    units: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageClaim:
    """Who served how many units of what, for whom and for how much.

    `provider` is a key id, `payout` the address that is paid, `client` a pseudonym, `amount` and `price` (of one
    unit) count the token's smallest unit, `prompt_hash` is a salted digest of the inputs, `artifact_sha256` the
    digest of the output as the provider made it. With `shares`, `provider` is the one that speaks for all.
    """

    job_id: str
    job_nid: str
    attempt: int
    provider: str
    payout: str
    client: str
    units: int
    unit_type: UnitType
    price: int
    amount: int
    model: str
    model_digest: str | None = None
    prompt_hash: str
    started_at: str
    finished_at: str
    artifact_sha256: str
    nonce: str
    hub_id: str
    chain_id: int
    shares: tuple[Share, ...] | None = None

    def __post_init__(self) -> None:
        _require_lawful(self)

    def payouts(self) -> list[tuple[str, int]]:
        """Name each address that is paid, with its amount; one pair where there are no shares."""
        if self.shares is None:
            return [(self.payout, self.amount)]
        return [(share.payout, share.amount) for share in self.shares]


def usage_text(claim: UsageClaim) -> str:
    """Write the claim as sorted compact JSON, without nulls; price and amounts are decimal text."""
    value: dict[str, Any] = {"v": 1, "type": "UsageClaim"}
    for field in fields(claim):
        value[field.name] = getattr(claim, field.name)
    value |= {"price": str(claim.price), "amount": str(claim.amount)}
    if claim.shares is not None:
        value["shares"] = [
            {"provider": share.provider, "payout": share.payout, "units": share.units, "amount": str(share.amount)}
            for share in claim.shares
        ]
    return encode({name: item for name, item in value.items() if item is not None}).decode()


def parse_usage(text: str) -> UsageClaim:
    """Read a usage claim, strictly.

    Raises: UsageInvalid, naming the field: for other bytes than `usage_text` makes, a missing or unknown field,
    a wrong type, an amount that is not units times price, or shares that don't sum to the whole.
    """
    try:
        value = decode_canonical(text.encode("utf-8", "surrogatepass"))
    except NotCanonical as error:
        raise UsageInvalid(error.where, error.rule, text) from None
    if not isinstance(value, dict):
        raise UsageInvalid("$", "is an object", value)
    if value.pop("type", None) != "UsageClaim":
        raise UsageInvalid("type", "is UsageClaim", "another type")
    version = value.pop("v", None)
    if version != 1 or isinstance(version, bool):
        raise UsageInvalid("v", "is 1", version)
    _require_keys("$", value, required=_REQUIRED, optional=_OPTIONAL)
    if "shares" in value:
        value["shares"] = _read_shares(value["shares"])
    value["price"] = _decimal("price", value["price"])
    value["amount"] = _decimal("amount", value["amount"])
    claim = UsageClaim(**value)
    if usage_text(claim) != text:
        raise UsageInvalid("$", "has no nulls", text)
    return claim


def receipt_hash(text: str) -> ReceiptHash:
    """Name a usage claim on chain: keccak-256 of its exact text."""
    return ReceiptHash("0x" + keccak256(text.encode()).hex())


_OPTIONAL: Final = frozenset({"model_digest", "shares"})
_REQUIRED: Final = frozenset(field.name for field in fields(UsageClaim)) - _OPTIONAL
_SHARE_KEYS: Final = frozenset(field.name for field in fields(Share))


def _require_lawful(claim: UsageClaim) -> None:
    _matches("job_id", claim.job_id, _WORD, "is printable ASCII without spaces, at most 200 characters")
    try:
        nid_digest(claim.job_nid if isinstance(claim.job_nid, str) else "")
    except NotCanonical as error:
        raise UsageInvalid("job_nid", f"is a NID ({error.rule})", claim.job_nid) from None
    _integer("attempt", claim.attempt, 1, MAX_SAFE_INTEGER)
    _matches("provider", claim.provider, _KEY_ID, "is a key id")
    _matches("payout", claim.payout, _ADDRESS, "is a lower-case address")
    _matches("client", claim.client, _WORD, "is printable ASCII without spaces, at most 200 characters")
    _integer("units", claim.units, 0, MAX_SAFE_INTEGER)
    if claim.unit_type not in UNIT_TYPES:
        raise UsageInvalid("unit_type", f"is one of {', '.join(UNIT_TYPES)}", claim.unit_type)
    _integer("price", claim.price, 0, MAX_AMOUNT)
    _integer("amount", claim.amount, 0, MAX_AMOUNT)
    _matches("model", claim.model, _MODEL, "is a model's name, at most 200 characters")
    if claim.model_digest is not None:
        _matches("model_digest", claim.model_digest, _DIGEST, "is a SHA-256 digest, 64 lower-case hex digits")
    _matches("prompt_hash", claim.prompt_hash, _SALTED, "is a salted digest, 43 characters of base64url")
    times = [_time("started_at", claim.started_at), _time("finished_at", claim.finished_at)]
    if times[1] < times[0]:
        raise UsageInvalid("finished_at", f"is not before started_at ({claim.started_at})", claim.finished_at)
    _matches("artifact_sha256", claim.artifact_sha256, _DIGEST, "is a SHA-256 digest, 64 lower-case hex digits")
    _matches("nonce", claim.nonce, _NONCE, "is 16 to 64 characters of base64url")
    _matches("hub_id", claim.hub_id, _WORD, "is printable ASCII without spaces, at most 200 characters")
    _integer("chain_id", claim.chain_id, 1, MAX_SAFE_INTEGER)
    if claim.amount != claim.units * claim.price:
        raise UsageInvalid("amount", f"is units times price, {claim.units * claim.price}", claim.amount)
    if claim.shares is not None:
        _require_lawful_shares(claim, claim.shares)


def _require_lawful_shares(claim: UsageClaim, shares: tuple[Share, ...]) -> None:
    if not 1 <= len(shares) <= MAX_SHARES:
        raise UsageInvalid("shares", f"has 1 to {MAX_SHARES} items", len(shares))
    for index, share in enumerate(shares):
        _matches(f"shares[{index}].provider", share.provider, _KEY_ID, "is a key id")
        _matches(f"shares[{index}].payout", share.payout, _ADDRESS, "is a lower-case address")
        _integer(f"shares[{index}].units", share.units, 0, MAX_SAFE_INTEGER)
        _integer(f"shares[{index}].amount", share.amount, 0, MAX_AMOUNT)
    if len({share.provider for share in shares}) != len(shares):
        raise UsageInvalid("shares", "names each provider once", [share.provider for share in shares])
    for name, whole in (("units", claim.units), ("amount", claim.amount)):
        total = sum(getattr(share, name) for share in shares)
        if total != whole:
            raise UsageInvalid(f"shares.{name}", f"sums to the whole, {whole}", total)


def _read_shares(value: object) -> tuple[Share, ...]:
    if not isinstance(value, list):
        raise UsageInvalid("shares", "is a list", value)
    shares = []
    for index, item in enumerate(value):
        where = f"shares[{index}]"
        if not isinstance(item, dict):
            raise UsageInvalid(where, "is an object", item)
        _require_keys(where, item, required=_SHARE_KEYS, optional=frozenset())
        shares.append(Share(**{**item, "amount": _decimal(f"{where}.amount", item["amount"])}))
    return tuple(shares)


def _require_keys(where: str, value: Mapping[str, Any], *, required: frozenset[str], optional: frozenset[str]) -> None:
    for name in sorted(required - value.keys()):
        raise UsageInvalid(f"{where}.{name}".removeprefix("$."), "is there", None)
    for name in sorted(value.keys() - required - optional):
        raise UsageInvalid(f"{where}.{name}"[:80].removeprefix("$."), "is a field of a usage claim", value[name])


def _matches(field: str, value: object, pattern: re.Pattern[str], rule: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise UsageInvalid(field, rule, value)


def _integer(field: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageInvalid(field, f"is an integer from {low} to {high}", value)


def _decimal(field: str, value: object) -> int:
    _matches(field, value, _DECIMAL, "is decimal text without a leading zero")
    return int(str(value))


def _time(field: str, value: object) -> float:
    try:
        return read_utc(str(value)).timestamp()
    except NotCanonical as error:
        raise UsageInvalid(field, error.rule, value) from None
