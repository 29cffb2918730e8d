"""A plain streaming loop on a known HTTP library: `python client_loops.py aiohttp|httpx URL STREAMS REQUESTS OUT`.

Writes the seconds to the first byte of every answer's body as JSON. What people build on, without anything around it.
"""

import asyncio
import json
import sys
import time
from pathlib import Path


def body(i: int) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"question {i}"}], "stream": True, "max_tokens": 128}


async def with_aiohttp(url: str, streams: int, requests: int) -> list[float]:
    import aiohttp

    found: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def lane(todo: list[int]) -> None:
            for i in todo:
                start, first = time.perf_counter(), 0.0
                async with session.post(url, json=body(i)) as answer:
                    async for _ in answer.content.iter_any():
                        first = first or time.perf_counter() - start
                found.append(first)

        await asyncio.gather(*(lane(list(range(k, requests, streams))) for k in range(streams)))
    return found


async def with_httpx(url: str, streams: int, requests: int) -> list[float]:
    import httpx

    found: list[float] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None) as session:

        async def lane(todo: list[int]) -> None:
            for i in todo:
                start, first = time.perf_counter(), 0.0
                async with session.stream("POST", url, json=body(i)) as answer:
                    async for _ in answer.aiter_raw():
                        first = first or time.perf_counter() - start
                found.append(first)

        await asyncio.gather(*(lane(list(range(k, requests, streams))) for k in range(streams)))
    return found


if __name__ == "__main__":
    name, url, streams, requests, out = sys.argv[1:]
    run = {"aiohttp": with_aiohttp, "httpx": with_httpx}[name]
    found = asyncio.run(run(f"{url}/v1/chat/completions", int(streams), int(requests)))
    Path(out).write_text(json.dumps(found))
