"""Where a request goes: URL, proxy, TLS context, and whether a key may travel there."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import ssl
import urllib.parse
import urllib.request

from msgspec import Struct

from poise.measure.presets import Preset, owns
from poise.types import UsageError


class Target(Struct, frozen=True):
    """One server, parsed: what to connect to and what to write into the request line and the `host` header."""

    host: str
    port: int
    tls: bool
    path: str
    """Path prefix of the base URL, without a trailing slash."""
    unix: str | None = None
    proxy: tuple[str, int] | None = None
    proxy_auth: str | None = None
    """Value of `proxy-authorization`; never recorded."""

    @property
    def authority(self) -> str:
        """The `host` header: host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return self.unix is not None or is_loopback(self.host)

    def line_path(self, path: str) -> str:
        """What stands in the request line: absolute for a plain proxy, else path and query."""
        full = f"{self.path}{path}"
        return f"http://{self.authority}{full}" if self.proxy and not self.tls else full


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def parse_target(base_url: str, preset: Preset) -> Target:
    """A base URL (`http`, `https`, `unix:/path`, `http+unix://%2Fpath/v1`) as a target; UsageError says what is wrong.

    A URL without a path gets the preset's. Proxies come from the environment, except for loopback.
    """
    if base_url.startswith("unix:"):
        path = re.sub(r"^//(?=/)", "", base_url[5:])
        return Target("localhost", 80, False, preset.base_path, unix=path)
    try:
        url = urllib.parse.urlsplit(base_url)
        port = url.port
        (url.hostname or "").encode("idna")  # as it is looked up: no empty or overlong part
    except ValueError as e:
        raise UsageError(f"base_url is not a URL ({e})") from None
    if url.username or url.password:
        raise UsageError("base_url holds credentials; put the key into an environment variable and name it in key_env")
    if url.query or url.fragment:
        raise UsageError("base_url ends at the path; remove the query (options.api_version sets Azure's)")
    path = url.path.rstrip("/") or preset.base_path
    if re.search(r"[\x00-\x20\x7f]", base_url) or not base_url.isascii():
        raise UsageError("base_url has a space, a control character or a letter outside ASCII; percent-encode it")
    if url.scheme == "http+unix":
        return Target("localhost", 80, False, path, unix=urllib.parse.unquote(url.netloc))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"base_url {base_url!r} must start with http://, https:// or unix:/ and name a host")
    tls = url.scheme == "https"
    port = port or (443 if tls else 80)
    proxy, auth = (None, None) if is_loopback(url.hostname) else _proxy(url.scheme, url.hostname, port)
    return Target(url.hostname, port, tls, path, proxy=proxy, proxy_auth=auth)


def _proxy(scheme: str, host: str, port: int) -> tuple[tuple[str, int] | None, str | None]:
    """The environment's proxy for a host: (host, port) and its authorization, or (None, None)."""
    address = urllib.request.getproxies().get(scheme)
    if not address or urllib.request.proxy_bypass(f"{host}:{port}") or urllib.request.proxy_bypass(host):
        return None, None
    url = urllib.parse.urlsplit(address if "//" in address else f"http://{address}")
    if url.scheme != "http" or not url.hostname:
        raise UsageError(
            f"the proxy for {scheme} must be an http:// address; {url.scheme}:// proxies are not supported"
        )
    auth = None
    if url.username:
        pair = f"{urllib.parse.unquote(url.username)}:{urllib.parse.unquote(url.password or '')}"
        auth = "Basic " + base64.b64encode(pair.encode()).decode()
    return (url.hostname, url.port or 8080), auth


def check_key(key_env: str, target: Target, preset: Preset, allowed: tuple[str, ...]) -> None:
    """UsageError unless the key may go to this host: its provider's own, loopback, or allowed as `VAR@HOST`."""
    if target.loopback or owns(preset, target.host) or f"{key_env}@{target.host}" in allowed:
        return
    raise UsageError(
        f"{key_env} would be sent to {target.host}, which is not a known host of preset {preset.name!r}; "
        f"if that is meant, add --allow-key {key_env}@{target.host}"
    )


def tls_context(target: Target) -> ssl.SSLContext | None:
    """The system's default verification; HTTP/1.1 only."""
    if not target.tls:
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def connected(target: Target, timeout_s: float) -> socket.socket:
    """A plain connection to the target, or to the proxy before it; OSError where none comes about."""
    if target.unix is None:
        return socket.create_connection(target.proxy or (target.host, target.port), timeout_s)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout_s)
    try:
        sock.connect(target.unix)
    except OSError:
        sock.close()
        raise
    return sock
