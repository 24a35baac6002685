"""EMBEDDED HOUSE: PostgreSQL, Valkey and an EVM node from packages, kept running by one supervisor.

Owns: the data folder's ``pg/ redis/ chain/ run/ logs/`` and ``house.env``; starting, knowing again
after a crash, and stopping every process of the one-command default.
Never touches: a process that it did not start, a receipt, a key's meaning. Production does without
all of this: there the same settings come from the environment.

Read first: ``process.py`` (one program), then ``supervisor.py`` (all of them), then ``house.py``.
"""
