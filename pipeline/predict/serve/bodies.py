"""Bodies of requests as they arrive: counted as they do, given up where that takes too long."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ray.exceptions import TaskCancelledError

from pipeline.predict.serve.requests import Refusal

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

IDLE_S = 10.0  # without a byte
BODY_S = 60.0  # from the head of a request to the last byte of its body
ENDING_S = 1.0  # for what is on its way when the server ends


class Bodies:
    """idle_s, body_s: seconds that a body may pause, and take in all."""

    def __init__(self, idle_s: float = IDLE_S, body_s: float = BODY_S):
        self._idle_s, self._body_s = idle_s, body_s
        self._limits: set[asyncio.Timeout] = set()
        self._ending = False

    async def read(self, receive: Receive, hold: Callable[[int], None]) -> bytes:
        """The body of which `receive` gives the parts, as in ASGI. hold: told the size of each.

        Raises Refusal where they are slow, or the client leaves.
        """
        clock = asyncio.get_running_loop().time
        last, body = clock() + self._body_s, bytearray()
        limit = asyncio.timeout(min(self._idle_s, self._body_s))
        self._limits.add(limit)
        try:
            async with limit:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _left()
                    part, more = message.get("body", b""), message.get("more_body", False)
                    hold(len(part))
                    body += part
                    if not self._ending:
                        limit.reschedule(min(last, clock() + self._idle_s))
        except TaskCancelledError:  # so Ray says it too
            raise _left() from None
        except TimeoutError:
            if self._ending:
                raise Refusal(503, "the server is ending") from None
            raise Refusal(
                408,
                f"expected the whole body within {self._body_s:g} s, without a pause of "
                f"{self._idle_s:g} s, found {len(body):,} bytes until then",
            ) from None
        finally:
            self._limits.discard(limit)
        return bytes(body)

    def end(self) -> None:
        """Give up what does not arrive within a moment."""
        self._ending = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time() + ENDING_S)


def _left() -> Refusal:
    """Nobody is there to read it."""
    return Refusal(400, "the client left before its body was there")
