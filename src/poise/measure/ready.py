"""Whether a server listens, and has its model loaded: its preset's health path, asked once, without the key.

503 means "not yet": llama.cpp's server, TGI and SGLang say so while they load. vLLM refuses connections meanwhile,
which means "not yet" only where a user has said for how long: most often nobody has started the server. Any other
status, or none in time, leaves it to the requests to find out.
"""

from __future__ import annotations

import contextlib
import ssl

from poise.measure.presets import Preset
from poise.measure.wire_target import Target, connected, tls_context
from poise.types import UsageError

LOADING_S = 300.0
"""How long a run waits for a server that is loading its model, unless its deployment says otherwise."""
WAIT = "-O ready_s=300"
_STATUS_BYTES = 1024
"""The status line comes in the first read, or this is no server to wait for."""


class NotReady(UsageError):
    """A server that is still starting; `limit_s`: for how long a run waits for it."""

    def __init__(self, message: str, limit_s: float) -> None:
        super().__init__(message)
        self.limit_s = limit_s


def check_reachable(target: Target, timeout_s: float, starting_s: float | None) -> None:
    """Connect once (with the TLS handshake where no proxy is between) and hang up.

    UsageError in one sentence; NotReady where nobody listens yet and `starting_s` grants time for that.
    """
    where = target.unix or f"{target.host}:{target.port}"
    try:
        with connected(target, timeout_s) as sock:
            context = tls_context(target)
            if context and not target.proxy:
                context.wrap_socket(sock, server_hostname=target.host).close()
    except ssl.SSLCertVerificationError as e:
        raise UsageError(
            f"the certificate of {where} is not trusted ({e.verify_message}); name the file of its authority in the "
            "environment variable SSL_CERT_FILE, or correct base_url"
        ) from None
    except ssl.SSLError as e:
        raise UsageError(f"no TLS with {where} ({e.reason or e}); if it speaks plain HTTP, say http://") from None
    except OSError as e:
        via = f" through the proxy {target.proxy[0]}:{target.proxy[1]}" if target.proxy else ""
        reason = e.strerror or str(e) or type(e).__name__
        message = f"no server answers at {where}{via} ({reason})"
        absent = isinstance(e, ConnectionRefusedError | FileNotFoundError)  # the latter of a unix socket
        if absent and starting_s is not None:
            raise NotReady(message, starting_s) from None
        wait = f", or wait while it starts with {WAIT}" if absent else ""
        raise UsageError(f"{message}; start it, or correct base_url{wait}") from None


def check_ready(target: Target, preset: Preset, timeout_s: float, limit_s: float) -> None:
    """NotReady where the preset's health path answers 503."""
    if preset.health is None or (target.proxy and target.tls):
        return
    if status(target, path := health_path(target, preset), timeout_s) == 503:
        where = target.unix or target.authority
        raise NotReady(f"the server at {where} is not ready: HTTP 503 at {path}, its model is loading", limit_s)


def health_path(target: Target, preset: Preset) -> str:
    """From the root of the server, or from what a base URL has before the preset's own path."""
    above = target.path.removesuffix(preset.base_path) if target.path.endswith(preset.base_path) else ""
    return f"{above}{preset.health}"


def status(target: Target, path: str, timeout_s: float) -> int | None:
    """The status of a GET, on a connection of its own; None where none came in time."""
    line = f"http://{target.authority}{path}" if target.proxy else path
    request = f"GET {line} HTTP/1.1\r\nhost: {target.authority}\r\nuser-agent: poise\r\nconnection: close\r\n"
    if target.proxy_auth:
        request += f"proxy-authorization: {target.proxy_auth}\r\n"
    with contextlib.suppress(OSError, ValueError, IndexError), contextlib.ExitStack() as stack:
        sock = stack.enter_context(connected(target, timeout_s))
        if context := tls_context(target):
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=target.host))
        sock.sendall(f"{request}\r\n".encode())
        return int(sock.recv(_STATUS_BYTES).split(b" ", 2)[1][:3])
    return None
