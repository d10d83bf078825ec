"""A small permissions service that answers authzed.api.v1, and authzed.api.v0 simulated over it.

Here belong the object (`node`, over `store`, `snapshot` and `schema`), all that knows v0 (`upgrade` and `configs`), how
both are added to a server (`enable`), and the official generated code of both (`stubs`). It is a model of SpiceDB's
protocols, not of its storage: all is kept in memory.
"""
