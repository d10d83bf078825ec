"""A release as bytes and as code: its manifest, its bundle, its modules in a process, its transform.

What belongs here: reading `release.toml`, making and unpacking bundles, importing a release beside
others, moving a message from one to another, running its transform. What does not: who may say what
version n is (`trust`), how bundles travel (`wire`), when a node upgrades (`schedule`, `journey`), which
call goes to which object (`layer`).

`convert`, `modules` and `transform`, and what they import, run in somebody's process: the standard
library, gRPC and protobuf are all that they may bring along. `manifest` (pydantic) and `bundle` stay outside.
"""
