"""The upgrade server: publishes releases, grants permits, keeps the upgrade database.

It reads a release's manifest and never loads an author's code. When a node may upgrade is decided in
`segue.schedule`, what is said on the wire stands in `segue.wire`, how a node upgrades in `segue.journey`.
"""
