"""Figures, each a ratio against a baseline measured in the same run. Not tests: nothing here fails on a number."""
