"""Make, list, add, rotate and revoke the house's keys; sign key acts where the root key lives."""

import json
from pathlib import Path
from typing import Any, Final, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from receipts import keyring
from receipts.canonical import NotCanonical, encode, unb64url
from receipts.keyring import KeyRefused, MustBeSigned, SignedAct
from receipts.keys import ROLES, KeyUnusable, Role, fingerprint, load_signer, make_key_file, read_key_file
from receipts.log import LogNotFounded
from receipts.models import PublicKey, Tenant

SECP256K1_ROLES: Final = ("attester", "sender")
EXIT_BAD: Final = 2
EXIT_UNSIGNED: Final = 3


class Command(BaseCommand):
    help = (
        "Make, list, add, rotate and revoke keys. Each act is a logged receipt and counts from a leaf. Where the root "
        "key is kept off the server, an act prints its claim; --signature takes what `keys sign-claim` made there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        shown = acts.add_parser("list", help="show every key, its role and the leaves it counts for")
        shown.add_argument("--json", action="store_true", help="as JSON")
        make = acts.add_parser("make", help="make a key file of mode 0600; an existing file is never touched")
        make.add_argument("role", choices=[role for role in ROLES if role != "c2pa"])
        make.add_argument("--output", metavar="FILE", type=Path, help="where to; <keys folder>/<role>.key otherwise")
        add = acts.add_parser("add", help="let a further key count for a role")
        add.add_argument("role", choices=ROLES)
        add.add_argument("--key-id", required=True, help="base64url of an Ed25519 key, or an address")
        add.add_argument("--tenant", metavar="ID", help="whose key it is, for a client's or provider's")
        add.add_argument("--label", default="", help="a name for people")
        rotate = acts.add_parser("rotate", help="end a key and begin another at the same leaf")
        rotate.add_argument("role", choices=ROLES)
        new = rotate.add_mutually_exclusive_group(required=True)
        new.add_argument("--new", metavar="FILE", type=Path, help="the new key's file; it takes the old one's place")
        new.add_argument("--new-key-id", metavar="ID", help="the new key's id, where both keys live elsewhere")
        rotate.add_argument("--old-key-id", metavar="ID", help="the key that ends, where the role has several")
        rotate.add_argument("--overlap", metavar="LEAVES", type=int, default=0, help="let both count for so many more")
        revoke = acts.add_parser("revoke", help="let a key count for no leaf from one on, which may lie in the past")
        revoke.add_argument("role", choices=ROLES)
        revoke.add_argument("key_id", metavar="KEY_ID")
        revoke.add_argument("--from-leaf", metavar="N", type=int, help="the first leaf it no longer counts for; now")
        revoke.add_argument("--reason", required=True, help="one word: compromised, lost, retired")
        for act in (add, rotate, revoke):
            act.add_argument("--signature", metavar="FILE", type=Path, help="what `keys sign-claim` made elsewhere")
        sign = acts.add_parser("sign-claim", help="sign an act's claim where a key lives, and print the signed act")
        sign.add_argument("file", metavar="FILE", type=Path, help="the claim as it was printed, or a signed act")
        sign.add_argument(
            "--key", metavar="FILE", type=Path, action="append", default=[], help="a key file; the root key otherwise"
        )
        acts.add_parser("settle", help="finish rotations that a crash cut short between receipt and file")

    def handle(self, *_: Any, act: str, **options: Any) -> None:
        try:
            getattr(self, "_" + act.replace("-", "_"))(options)
        except MustBeSigned as error:
            self.stdout.write(error.text)
            hint = "nothing is done: sign this line with `keys sign-claim`, then repeat with --signature FILE"
            raise CommandError(f"{error}; {hint}", returncode=EXIT_UNSIGNED) from None
        except (KeyRefused, KeyUnusable, LogNotFounded) as error:
            raise CommandError(str(error), returncode=EXIT_BAD) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(PublicKey.objects.order_by("role", "since_leaf", "id"))
        at_hand: dict[str, str | None] = {role: _at_hand(role) for role in keyring.OF_THE_HOUSE}
        if options["json"]:
            shown = [_as_json(row) | {"at_hand": at_hand.get(row.role) == row.key_id} for row in rows]
            self.stdout.write(encode(shown).decode())
            return
        for row in rows:
            ends = "on" if row.until_leaf is None else f"to {row.until_leaf - 1}"
            here = "  at hand" if at_hand.get(row.role) == row.key_id else ""
            label = f"  {row.label}" if row.label else ""
            self.stdout.write(f"{row.role:9} {row.key_id:43}  leaves {row.since_leaf} {ends}{here}{label}")
        ended = sum(row.until_leaf is not None for row in rows)
        self.stdout.write(f"{len(rows)} keys, {len(rows) - ended} count, {ended} ended")

    def _make(self, options: dict[str, Any]) -> None:
        role: Role = options["role"]
        path: Path = options["output"] or Path(settings.KEYS_DIR) / f"{role}.key"
        if path.exists():
            raise KeyRefused(f"{path} exists: a key is never overwritten; name another file with --output")
        make_key_file(path, "secp256k1" if role in SECP256K1_ROLES else "ed25519")
        signer = read_key_file(path)
        self.stdout.write(f"{path}: a {role} key, {signer.key_id}")
        if role not in SECP256K1_ROLES:
            self.stdout.write(f"fingerprint sha256:{fingerprint(signer.key_id)}")

    def _add(self, options: dict[str, Any]) -> None:
        tenant = None
        if options["tenant"]:
            tenant = Tenant.objects.filter(pk=options["tenant"]).first()
            if tenant is None:
                raise KeyRefused(f"--tenant {options['tenant']}: there is no such tenant")
        key = keyring.add_key(
            role=options["role"],
            alg=_alg(options["role"], options["key_id"]),
            key_id=options["key_id"],
            tenant=tenant,
            label=options["label"],
            signed=_signed(options["signature"]),
        )
        self.stdout.write(f"{key.role} {key.key_id} counts from leaf {key.since_leaf} on")

    def _rotate(self, options: dict[str, Any]) -> None:
        role: Role = options["role"]
        signed, overlap = _signed(options["signature"]), options["overlap"]
        old = options["old_key_id"] or _only(role)
        if options["new_key_id"]:
            _alg(role, options["new_key_id"])
            done = keyring.rotate_key(role=role, old=old, new=options["new_key_id"], overlap=overlap, signed=signed)
        elif _at_hand(role) == old:
            done = keyring.rotate_file(role=role, new=options["new"], overlap=overlap, signed=signed)
        else:
            done = keyring.rotate_key(
                role=role, old=old, new=read_key_file(options["new"]), overlap=overlap, signed=signed
            )
        self.stdout.write(f"{role} {done.replaces} counts until leaf {done.ends_at}")
        self.stdout.write(f"{role} {done.key_id} counts from leaf {done.from_leaf} on")
        self.stdout.write("restart the processes that hold the old key, and publish the trust document anew")

    def _revoke(self, options: dict[str, Any]) -> None:
        done = keyring.revoke_key(
            role=options["role"],
            key_id=options["key_id"],
            from_leaf=options["from_leaf"],
            reason=options["reason"],
            signed=_signed(options["signature"]),
        )
        self.stdout.write(f"{done.role} {done.key_id} counts for no leaf from {done.from_leaf} on")

    def _sign_claim(self, options: dict[str, Any]) -> None:
        text = _read(options["file"]).strip()
        already: SignedAct | None = None
        if '"claim"' in text:
            already = _signed(options["file"])
            assert already is not None
            text = already.text
        signers = [read_key_file(path) for path in options["key"]] or [load_signer("root", Path(settings.KEYS_DIR))]
        signed = keyring.sign_elsewhere(text, signers, already.signatures if already else ())
        self.stdout.write(encode(signed.as_json()).decode())

    def _settle(self, _: dict[str, Any]) -> None:
        done = 0
        for role in ROLES:
            if role != "c2pa" and _at_hand(role) and (told := keyring.settle(role)):
                done += 1
                self.stdout.write(told)
        self.stdout.write(f"{done} rotations finished")


def _alg(role: str, key_id: str) -> str:
    alg = PublicKey.Alg.ES256 if role == "c2pa" else keyring.alg_of(key_id)
    if (alg == PublicKey.Alg.SECP256K1) != (role in SECP256K1_ROLES):
        due = "an address, 0x and 40 lower-case hex digits" if role in SECP256K1_ROLES else "43 characters of base64url"
        raise KeyRefused(f"key id {key_id[:50]}: {due} is due for a {role} key")
    if alg == PublicKey.Alg.SECP256K1:
        if len(key_id) != 42 or set(key_id[2:]) - set("0123456789abcdef"):
            raise KeyRefused(f"key id {key_id[:50]}: an address is 0x and 40 lower-case hex digits")
        return alg
    try:
        unb64url(key_id, size=32)
    except NotCanonical as error:
        raise KeyRefused(f"key id {key_id[:50]}: {error.rule}") from None
    return alg


def _only(role: str) -> str:
    counts = list(keyring.counting(role).values_list("key_id", flat=True)[:2])
    if len(counts) == 1:
        return counts[0]
    if not counts:
        raise KeyRefused(f"no {role} key counts: add one with `keys add`")
    raise KeyRefused(f"several {role} keys count: name the one that ends with --old-key-id")


def _at_hand(role: str) -> str | None:
    """The id of the key that this machine signs with in a role."""
    try:
        return str(load_signer(cast("Role", role), Path(settings.KEYS_DIR)).key_id)
    except KeyUnusable:
        return None


def _as_json(row: PublicKey) -> dict[str, Any]:
    told = {"role": row.role, "alg": row.alg, "key_id": row.key_id, "since_leaf": row.since_leaf}
    told |= {"until_leaf": row.until_leaf} if row.until_leaf is not None else {}
    return told | {"label": row.label} | ({"tenant": row.tenant_id} if row.tenant_id else {})


def _signed(path: Path | None) -> SignedAct | None:
    if path is None:
        return None
    try:
        return keyring.read_signed(json.loads(_read(path)))
    except ValueError:
        raise KeyRefused(f"{path} is not JSON") from None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise KeyRefused(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyRefused(f"{path} is not text") from None
