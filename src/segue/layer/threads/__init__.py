"""Authors' plain functions: run in threads, and called as those written with `async def` are.

Here belong the threads, and what passes between them and the event loop. Not here: how a method is called
whichever way it is written (`grpc_delegate`), and gRPC's threaded server (`segue.layer.alone`).
"""
