"""TOKENS: what was served, attested by the hub, and minted once.

Owns: the usage claim (the provider's word on units served), its attestation, the mint of
``amount = units x price`` and the token contracts.
Never touches: jobs or runners. It is given a usage claim and the facts to hold it against.
Never mints one receipt hash twice: the token contract itself remembers every hash.

Read first: ``usage.py`` (what the provider signs), then ``attest.py`` and ``mint.py``.
``usage eip712`` are pure: no Django, no web3.
"""
