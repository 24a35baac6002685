"""Numbers Protocol as the house meets it: a stand-in service over a real register on a real node."""
