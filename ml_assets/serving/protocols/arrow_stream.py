"""Rows and scores as a stream of Arrow record batches, for large batches."""

import io
from typing import Final

import polars as pl

from ml_assets.serving.protocols.json_text import bad_request
from ml_assets.serving.served_model import Served

ARROW: Final = "application/vnd.apache.arrow.stream"


def read_arrow_rows(body: bytes) -> pl.DataFrame:
    """Return the frame of an Arrow IPC stream.

    Raises:
        RequestError: the body is none.
    """
    try:
        return pl.read_ipc_stream(io.BytesIO(body), use_pyarrow=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise bad_request(f"the body is not a stream of Arrow record batches: {str(error)[:200]}.") from error


def arrow_answer(scores: Served) -> bytes:
    """Return the scores as an Arrow IPC stream."""
    file = io.BytesIO()
    types = {name: pl.String if name == "predicted" else pl.Float64 for name in scores.columns}
    pl.DataFrame(scores.columns, schema=types).write_ipc_stream(file)
    return file.getvalue()
