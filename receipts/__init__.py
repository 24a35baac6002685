"""THE LEDGER: receipts, the Merkle log they are leaves of, and the public commits of its checkpoints.

Owns: canonical bytes and NIDs, event schemas, keys and their roles, tenants, the log (pending
rows, bundles, checkpoints, tiles), commits on an EVM chain and every transaction the house sends.
Never touches: jobs, artifacts, tokens. It knows a *subject* (an opaque id) and nothing about it.
Never changes a receipt once written; the database refuses it too.

Read first: ``record.py`` (how a statement becomes a receipt), then ``log.py`` (how receipts become
a log). ``canonical merkle checkpoint tiles events keys`` are pure: bytes in, values out, no Django.
"""
