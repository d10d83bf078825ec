"""A block store on a ring of nodes, in version 1: blocks are named by the SHA-1 of their content."""
