"""The only code that speaks JSON-RPC: what was promised to a chain gets there once, and stays.

Owns: signing, nonces, fees, broadcasting, confirmations and reorgs of every transaction the house sends.
Never touches: what a transaction means. It knows a *purpose* (an opaque key) and calldata.
Never sends what was not stored first: signed bytes, nonce and hash are rows before they are requests.

Read first: ``sender.py`` (``intend`` writes the wish down, ``turn`` moves everything one step), then
``confirmations.py``. ``abi`` and ``rlp`` are pure; nothing here imports web3 at module level.
"""
