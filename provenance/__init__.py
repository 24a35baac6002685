"""WHAT AN ARTIFACT IS, AND WHO SAYS SO: the store of bytes and the Content Credentials on them.

Owns: the content-addressed store, digests, the house's certificate authority, C2PA manifests,
signing them and reading them back.
Never touches: jobs, tokens, the chain. It is told facts about an artifact and signs exactly those.
Never trusts a file name, a declared media type or a manifest's own word for who signed it.

Read first: ``sign.py`` (how a file gets its credential), then ``verify.py`` (how anyone checks it).
``digests manifest verify`` are pure: they import no Django, and c2pa only inside the calls.
"""
