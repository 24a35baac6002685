"""THE STORY: a job's life from request to verified tally.

Owns: jobs, attempts, providers, leases, the market, runners, the API, the audit, the tally and its
offline verifier.
Never touches: how a receipt is hashed, a manifest signed or a transaction sent; it calls the one
deed of a lower room that does it.
Never trusts a worker that lost its lease: every completion carries a fencing number.

Read first: ``pipeline.py``: a table from where the job stands to the next step.
``runners/`` and ``client/`` import no Django: they run on other people's machines.
"""
