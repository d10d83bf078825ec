"""Helpers for authors whose state is of a common kind: a SQLite database, or many files.

An author's transform calls them, in the transform's process; they know nothing of agents and releases, and need no more
than the standard library and `segue.author`. A kind of state that needs a library of its own does not belong here.
"""
