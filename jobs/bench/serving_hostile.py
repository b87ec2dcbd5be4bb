"""Eight clients that would keep a server from its others, for so many seconds, on this machine.

A process of its own, `python -m jobs.bench.serving_hostile URL SECONDS`. Each has an address of its
own, from 127.0.0.2 on, and two to sixteen connections. In turn they declare bodies of 16 MiB and
send ten bytes; send a byte a second; and send as many black pixels as a request may have, which are
50 kB of PNG.
"""

import asyncio
import base64
import io
import json
import sys
from contextlib import suppress
from urllib.parse import urlsplit

from PIL import Image

CLIENTS = 8
CONNECTIONS = {"declared": 16, "slow": 16, "bombs": 2}
DECLARED = 2**24
SIDE = 5700  # of a picture, of which a request may have two


async def attack(url: str, seconds: float) -> dict[str, int]:
    """How many requests of each kind were answered, or cut off."""
    body, ended = _bombs(), dict.fromkeys(CONNECTIONS, 0)

    async def connection(kind: str, address: str) -> None:
        while True:
            with suppress(OSError):
                await _request(url, kind, address, body)
            ended[kind] += 1

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                kind = list(CONNECTIONS)[client % len(CONNECTIONS)]
                for _ in range(CONNECTIONS[kind]):
                    group.create_task(connection(kind, f"127.0.0.{2 + client}"))
    return ended


async def _request(url: str, kind: str, address: str, body: bytes) -> None:
    to = urlsplit(url)
    reader, writer = await asyncio.open_connection(to.hostname, to.port, local_addr=(address, 0))
    try:
        length = len(body) if kind == "bombs" else DECLARED
        head = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {length}\r\n\r\n".encode())
        writer.write(body if kind == "bombs" else b"0123456789")
        sending = asyncio.create_task(_drip(writer)) if kind == "slow" else None
        try:
            await reader.read()
        finally:
            if sending is not None:
                sending.cancel()
    finally:
        writer.close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(1)
        writer.write(b"x")


def _bombs() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "PNG")
    return json.dumps({"images": [base64.b64encode(file.getvalue()).decode()] * 2}).encode()


if __name__ == "__main__":
    json.dump(asyncio.run(attack(sys.argv[1], float(sys.argv[2]))), sys.stderr)
