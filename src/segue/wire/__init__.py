"""What agent, command line and upgrade server say to each other: JSON over HTTP, and bundles as bytes.

Messages keep fields that they do not know, so that the ends need not be of one age. Deciding what an
answer is belongs to `segue.server`, acting on it to `segue.node`.
"""
