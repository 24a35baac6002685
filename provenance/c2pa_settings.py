"""Settle how the C2PA library behaves, the same for signing and for reading. Pure."""

from collections.abc import Sequence
from typing import Any, Final

# Purposes a signing certificate may carry. Without this list the library trusts nobody, not even our own root.
_PURPOSES: Final = ("1.3.6.1.4.1.62558.2.1", "1.3.6.1.5.5.7.3.36", "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.8")


def library_settings(root_pem: str, created_labels: Sequence[str] = ()) -> dict[str, Any]:
    """Build settings that trust `root_pem` alone and never open a connection.

    By default the library fetches whatever address a manifest names and asks OCSP servers: a file from
    a stranger would choose whom this machine talks to.
    """
    return {
        "version": 1,
        "trust": {"trust_anchors": root_pem, "trust_config": "\n".join(_PURPOSES)},
        "core": {"allowed_network_hosts": []},
        "verify": {
            "verify_trust": True,
            "verify_after_sign": False,  # sign.py reads its work back itself, more strictly
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        # A thumbnail costs 50 ms and 150 KB and says nothing that the picture doesn't.
        "builder": {"thumbnail": {"enabled": False}, "created_assertion_labels": list(created_labels)},
    }
