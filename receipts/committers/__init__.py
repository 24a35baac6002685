"""Where a checkpoint or a receipt is committed in public: one file a way.

Owns: what a commit says and how it is found again.
Never touches: nonces, fees or confirmations; those are ``receipts.chain``.

Read first: ``base.py`` (the promises), then ``evm.py``. ``erc7053.py`` is pure: the verifier reads with it.
"""
