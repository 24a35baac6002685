"""Properties run without a deadline: the machine that runs them may be busy."""

from hypothesis import settings

settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
