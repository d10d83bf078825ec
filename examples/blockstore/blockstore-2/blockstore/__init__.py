"""A block store on a ring of nodes, in version 2: blocks are named by their SHA-256, and compressed."""
