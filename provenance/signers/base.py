"""Say what signing needs from whoever holds the key. Read this page before writing another signer.

A signer holds one key of the role `c2pa` and does nothing else with it. To add a way to hold it
(a KMS, a PKCS#11 token), write one file beside `file.py` whose `open()` returns
`c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, self.chain_pem, None)`, where `sign(data)`
hands the bytes to the device and returns r ‖ s, 64 bytes, not DER.

Known of callbacks: c2pa passes at most 1 MiB; an exception inside is swallowed, the reason stands only
in the logger `c2pa`, and signing fails as a whole; the manifest grows from 4 KB to 14 KB.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import c2pa


class CredentialSigner(Protocol):
    """Promises: the chain fits the key; `open()` may be called from any process, any number of times."""

    @property
    def chain_pem(self) -> str:
        """The certificates, leaf first, without the root."""
        ...

    @property
    def root_pem(self) -> str:
        """The root that what is signed must be trusted under; signing reads its own work back with it."""
        ...

    @property
    def certificate_sha256(self) -> str:
        """The fingerprint of the leaf's DER: 64 lower-case hex digits."""
        ...

    def open(self) -> "c2pa.Signer":
        """Give a fresh handle. It is consumed by one context, and none survives a fork: never keep one."""
        ...
