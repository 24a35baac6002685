"""Sign with a key file of this machine: what the embedded house does."""

from typing import TYPE_CHECKING

from provenance.authority import Authority, read_secret

if TYPE_CHECKING:
    import c2pa


class FileSigner:
    """The leaf key of an authority, read from its 0600 file for each signature and not kept."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.chain_pem = authority.chain_pem
        self.root_pem = authority.root_pem
        self.certificate_sha256 = authority.leaf_sha256

    def open(self) -> "c2pa.Signer":
        """Give a fresh handle. Raises: AuthorityBroken, when the key file is open to others."""
        import c2pa

        key_pem = read_secret(self._authority.leaf_key)
        # No time-stamping authority is None; an empty string would be dialled.
        return c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, self.chain_pem.encode(), key_pem, None)
        )
