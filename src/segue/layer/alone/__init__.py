"""The layer alone: added to a server that a team has already, of `grpc.aio` or of `grpc`.

Here belongs what takes an agent's place there. The rest of the layer knows nothing of it.
"""
