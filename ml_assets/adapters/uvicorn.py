"""Private names of uvicorn."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LIBRARY: Final = "uvicorn"
CHECKED: Final = "0.54.0"
MEMBERS: Final = {
    "HttpToolsProtocol.connection_made(transport)": "overridden: the head and the body of an answer are one write",
}
