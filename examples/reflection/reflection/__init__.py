"""gRPC server reflection v1, and v1alpha simulated over it.

Here belong the object (`node`), all that knows v1alpha (`upgrade`) and how both are added to a server (`enable`).
"""
