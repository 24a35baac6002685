"""WIRING: settings, URLs, Celery, the admin site, and the embedded house that one command starts.

Owns: every setting (``settings.py``, read once), the checks over them, the error table of the API,
the launchers of PostgreSQL, Valkey and anvil, and the supervisor of the house's processes.
Never holds: a rule about jobs, receipts, artifacts or tokens.

Read first: ``settings.py``; for the one-command default ``embedded/``.
"""
