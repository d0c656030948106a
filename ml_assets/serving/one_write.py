"""HTTP connections that send the head and the body of an answer by one write.

uvicorn writes the head, and then the body. Each write is a call of the kernel, and two of them take a fifth of the time
of a small request.
"""

import asyncio
from typing import Any

from ml_assets.adapters.uvicorn import HttpToolsProtocol


class _OneWrite:
    """A transport that writes all of one turn of the event loop at the end of the turn. The rest is the transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.writelines(waiting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol of HTTP over such a transport."""

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        super().connection_made(_OneWrite(transport, asyncio.get_running_loop()))  # type: ignore[arg-type]
