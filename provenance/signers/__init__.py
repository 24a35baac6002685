"""Ways to hold the key that signs credentials: one file a way, all keeping the promises of `base.py`."""
