"""The connections to one server: opened before the clock (through proxy and TLS where needed), leased, replaced.

Warm connections wait in a stack: the last one used is the next one leased. Not before the server is known to keep them
open, though: some promise to, and hang up right after a stream's end (llama.cpp's server does). A request that is sent
meanwhile would be lost, so until then a connection that was just used is left alone for a moment.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns as now

from poise.measure.wire import MAX_HEADER_BYTES, Connection, Exchange
from poise.measure.wire_target import Target, tls_context

LINGER_NS = 100_000_000
"""A server that hangs up after its answer has done so by then."""
_RESTING = 32
"""No more connections than these are left alone; beyond, the one that has rested longest is taken."""


class Pool:
    """The connections to one target. Bound to the event loop it is first used on."""

    def __init__(self, target: Target, max_bytes: int, connect_s: float, max_idle_s: float) -> None:
        self.target, self.max_bytes, self.connect_s = target, max_bytes, connect_s
        self.max_idle_ns = int(max_idle_s * 1e9)
        self.tls = tls_context(target)
        self.idle: list[Connection] = []
        self.leased: set[Connection] = set()
        self.keeps: bool | None = None
        """Whether the server keeps a connection open after its answer; None until it has been seen."""

    async def warm(self, n: int) -> None:
        """Hold `n` idle connections, opened a few at a time lest a server's backlog overflow; OSError if none opens.

        A server that allows fewer is not refused: what it refuses later is recorded. The kernel completes a connection
        before the server has taken it up: the pause lets it, so that the first requests do not wait for that.
        """
        await self._learn()
        opened, error = 0, None
        while error is None and (missing := n - len(self.idle)) > 0:
            for found in await asyncio.gather(
                *(self.connect() for _ in range(min(missing, 32))), return_exceptions=True
            ):
                if isinstance(found, Connection):
                    self.idle.append(found)
                    opened += 1
                else:
                    error = found
        if error is not None and (not self.idle or not isinstance(error, OSError)):
            raise error
        if opened > 1:
            await asyncio.sleep(min(0.001 * opened, 1.0))

    async def request(self, payload: bytes, deadline_s: float) -> Exchange:
        """One exchange on a warm connection, or on a new one where none is; OSError where it cannot connect.

        A connection that died while idle is replaced here, before a byte is sent; afterwards nothing is repeated.
        """
        connection = self._lease() or await self.connect()
        self.leased.add(connection)
        try:
            exchange = await connection.run(payload, deadline_s)
        finally:
            self.leased.discard(connection)
        if connection.lost_ns is not None:
            self.keeps = False
        fell = exchange.code == 200 and not exchange.parts  # a server that failed after its head soon hangs up, too
        if connection.reusable and self.keeps is not False and not fell:
            self.idle.append(connection)
        else:
            connection.close()
        return exchange

    def _lease(self) -> Connection | None:
        if not self.keeps:
            self._look()
        if not self.keeps:
            return self._unused()
        oldest = now() - self.max_idle_ns
        while self.idle:
            connection = self.idle.pop()
            if connection.alive and connection.idle_since_ns > oldest:
                return connection
            connection.close()
        return None

    def _unused(self) -> Connection | None:
        """A connection that has carried no answer; or the one that has rested longest, where too many would rest."""
        found = next((c for c in reversed(self.idle) if not c.used), None)
        if found is None and len(self.idle) > _RESTING:
            found = min(self.idle, key=lambda c: c.idle_since_ns)
        if found is not None:
            self.idle.remove(found)
        return found

    def _look(self) -> None:
        """Drop what is dead or old, and see in what was used whether the server keeps connections open."""
        at = now()
        for connection in [c for c in self.idle if not c.alive or at - c.idle_since_ns > self.max_idle_ns]:
            lost_ns = connection.lost_ns
            if connection.used and lost_ns is not None and lost_ns - connection.idle_since_ns < LINGER_NS:
                self.keeps = False
            self.idle.remove(connection)
            connection.close()
        if self.keeps is None and any(c.used and at - c.idle_since_ns >= LINGER_NS for c in self.idle):
            self.keeps = True

    async def _learn(self) -> None:
        """Off the clock: wait until a connection that was used has been closed, or kept for long enough."""
        self._look()
        while self.keeps is None and any(c.used for c in self.idle):
            await asyncio.sleep(LINGER_NS / 20e9)
            self._look()

    async def connect(self) -> Connection:
        """A new connection, through the proxy and TLS where the target has them; OSError within `connect_s`."""
        try:
            async with asyncio.timeout(self.connect_s):
                return await self._connect()
        except TimeoutError:
            raise ConnectionError(f"no connection within {self.connect_s:g} s") from None

    async def _connect(self) -> Connection:
        loop, target = asyncio.get_running_loop(), self.target
        connection = Connection(self.max_bytes)
        if target.unix:
            await loop.create_unix_connection(lambda: connection, target.unix)
        elif target.proxy and self.tls:
            transport = await _tunnel(target)
            secured = await loop.start_tls(transport, connection, self.tls, server_hostname=target.host)
            assert secured is not None
            connection.connection_made(secured)
        else:
            host, port = target.proxy or (target.host, target.port)
            name = target.host if self.tls else None
            await loop.create_connection(lambda: connection, host, port, ssl=self.tls, server_hostname=name)
        return connection

    def close(self) -> None:
        """Abort every connection; what is in flight ends as `closed`."""
        for connection in (*self.idle, *self.leased):
            connection.close()
        self.idle.clear()


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        if (b"\r\n\r\n" in self.data or len(self.data) > MAX_HEADER_BYTES) and not self.head.done():
            self.head.set_result(self.data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(ConnectionError("the proxy closed the connection"))


async def _tunnel(target: Target) -> asyncio.Transport:
    assert target.proxy is not None
    loop = asyncio.get_running_loop()
    transport, tunnel = await loop.create_connection(_Tunnel, *target.proxy)
    host = f"[{target.host}]" if ":" in target.host else target.host
    auth = f"proxy-authorization: {target.proxy_auth}\r\n" if target.proxy_auth else ""
    name = f"{host}:{target.port}"
    transport.write(f"CONNECT {name} HTTP/1.1\r\nhost: {name}\r\n{auth}\r\n".encode())
    status = (await tunnel.head).split(b"\r\n", 1)[0].split()
    if len(status) < 2 or not status[1].startswith(b"2"):
        transport.abort()
        raise ConnectionError(f"the proxy refused ({b' '.join(status[1:2]).decode('latin-1') or 'no status'})")
    return transport
