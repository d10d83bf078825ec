"""Nouns that every room shares: ids, releases, calls counted, the clock.

Frozen data and the standard library only; no I/O, and nothing here keeps time.
"""
