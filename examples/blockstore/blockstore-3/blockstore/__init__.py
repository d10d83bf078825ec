"""A block store on a ring of nodes, in version 3: blocks may be private, with lists of who may read them."""
