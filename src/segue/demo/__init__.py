"""The main job on one machine: a running system goes from version to version while it serves.

Here belong the fleet of real processes, the clients' load, what is observed and the verdict on it.
What a server, a node or a client does is not here: they run as processes, and are asked over `wire`.
"""
