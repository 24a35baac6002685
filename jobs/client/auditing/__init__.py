"""The parts of an audit of a whole log; ``jobs.client.audit`` puts them together and tells the verdicts.

``source.py`` reads a published log from a folder or an address, ``walk.py`` computes it anew, ``receipts.py`` holds
exported receipts against it, ``state.py`` is what an auditor keeps between two runs.
"""
