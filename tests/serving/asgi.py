"""Calls an ASGI application without a server."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_assets.serving.app import Application


@dataclass(frozen=True)
class Answered:
    """What the application has sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def sent_to(
    application: Application,
    method: str,
    path: str,
    parts: Sequence[bytes] = (b"",),
    headers: Mapping[str, str] | None = None,
    *,
    pause: float = 0.0,
    is_cut: bool = False,
) -> Answered | None:
    """Send a request, whose body may come in parts with a pause before each; None if nothing was answered."""
    waiting = [*parts]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or is_cut}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.lower().encode(), text.encode()) for name, text in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    await application(scope, receive, send)
    if not sent:
        return None
    start, body = sent
    names = {name.decode(): text.decode() for name, text in start["headers"]}
    assert str(len(body["body"])) == names["content-length"]
    return Answered(start["status"], names, body["body"])


def get(application: Application, path: str, **headers: str) -> Answered:
    """Return the answer to a GET request."""
    found = asyncio.run(sent_to(application, "GET", path, headers=headers))
    assert found is not None
    return found


def post(application: Application, path: str, content: object, **headers: str) -> Answered:
    """Return the answer to a POST request; anything but bytes is sent as JSON. Hyphens are underscores in headers."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    found = asyncio.run(sent_to(application, "POST", path, [body], given))
    assert found is not None
    return found
