"""The upgrade layer: what labels a call, and what finds the object that answers it.

It lives inside the application's process, beside the author's code, and so stays light. Here belong
the label, the chain, the dispatch of calls by (version, method), their order, counting, parking and
forwarding, and the channel that labels outgoing calls. Modules named `grpc_*` are the only ones that
know gRPC. `threads` runs plain functions, `alone` adds the layer to a server without an agent.

Not here: where a release's code comes from (`segue.release`), when a chain changes or a node goes
quiet (`segue.node`), and what an author writes against (`segue.author`).
"""
