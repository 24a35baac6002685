"""The verifier's steps, one file a theme; the order and the words are in ``jobs.client.verify``.

Each takes a `Case` and returns what it found out, or raises how else it ends (`jobs.client.verdicts`).
"""
