"""THE CLIENT: what runs on other people's machines: the API's client, the command line, the verifier.

Owns: submitting and following jobs over HTTP, keeping a trust file, checking a tally offline.
Never touches: Django, the database, a model, a chain library. It starts in a fraction of a second.
Never believes what a tally says about keys: those come from the trust file alone.

Read first: ``verify.py``: the numbered steps. ``tally_format.py`` and ``trust.py`` are the two files it
reads, ``case.py`` is what it has read, ``cli.py`` and ``http.py`` are doors.
"""
