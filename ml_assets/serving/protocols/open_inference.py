"""The Open Inference Protocol, version 2, with the extension for binary input tensors.

The protocol has no missing values. A further input tensor `<field>.is_null` of datatype BOOL marks the rows whose value
is missing; the value that the tensor of the field has there is ignored. In JSON, null is read as well.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.serving.fields import Values
from ml_assets.serving.inputs import Columns, InputContract
from ml_assets.serving.protocols.json_text import bad_request, kind_of, list_of, only_fields, read_object, whole_number
from ml_assets.serving.served_model import Served, ServedModel

HEADER_LENGTH: Final = "inference-header-content-length"
"""The header with the number of bytes of JSON before the binary tensors."""
IS_NULL: Final = ".is_null"
_NUMPY: Final = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_LONGEST: Final = 2**31 - 1
"""The largest number in a shape."""
_DATATYPES: Final = (*_NUMPY, "BYTES")


def datatype_of(dtype: pl.DataType) -> str:
    """Return the datatype in which metadata lists an input of a contract."""
    if dtype == pl.Boolean:
        return "BOOL"
    if dtype == pl.String:
        return "BYTES"
    if dtype.is_integer():
        return "UINT64" if dtype == pl.UInt64 else "INT64"
    return "FP64"


def model_metadata(served: ServedModel) -> dict[str, Any]:
    """Return the metadata of a model: inputs in the order of the model, and the names of the scores."""
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "ml-assets",
        "inputs": [
            {"name": its.name, "datatype": datatype_of(its.column.dtype), "shape": [-1]} for its in served.inputs.fields
        ],
        "outputs": [
            {"name": name, "datatype": datatype_of(dtype), "shape": [-1]} for name, dtype in served.outputs.items()
        ],
    }


def read_infer_request(
    body: bytes, header_length: str | None, contract: InputContract
) -> tuple[Columns, dict[str, Any]]:
    """Return the rows of an inference request, and the request without its tensors.

    Raises:
        RequestError: the body has another form.
    """
    text, binary = _parts(body, header_length)
    request = read_object(text)
    only_fields(request, ("id", "parameters", "inputs", "outputs"))
    if not isinstance(request.get("id", ""), str) or not isinstance(request.get("parameters", {}), dict):
        raise bad_request("'id' is not text, or 'parameters' is not an object; correct or leave them out.")
    tensors = list_of(request.pop("inputs", None), "inputs")
    columns: dict[str, Values] = {}
    for tensor in tensors:
        name, values, used = _tensor(tensor, binary)
        binary = binary[used:]
        if name in columns:
            raise bad_request(f"the input tensor '{name:.80}' is given twice; expected it once.")
        columns[name] = values
    if len(binary):
        raise bad_request(f"the body has {len(binary)} bytes after the last binary tensor; expected none.")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise bad_request(f"the input tensors have {min(lengths)} to {max(lengths)} values; expected one for each row.")
    masks = [name for name in columns if name.endswith(IS_NULL) and name not in contract.known]
    for mask in masks:
        _apply(columns, mask)
    return Columns(columns, max(lengths, default=0)), request


def _parts(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    found = whole_number(header_length)
    if found is None or found > len(body):
        raise bad_request(
            f"the header {HEADER_LENGTH} is '{header_length:.20}'; expected a number of bytes of the body."
        )
    length = int(found)
    return body[:length], memoryview(body)[length:]


def _tensor(tensor: object, binary: memoryview) -> tuple[str, Values, int]:
    """Return a tensor's name, its values, and how many bytes of the binary data are its own."""
    if not isinstance(tensor, dict):
        raise bad_request(f"an input tensor is {kind_of(tensor)}; expected an object.")
    only_fields(tensor, ("name", "datatype", "shape", "parameters", "data"))
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str):
        raise bad_request(f"the name of an input tensor is {kind_of(name)}; expected text.")
    where = f"the input tensor '{name:.80}'"
    if datatype not in _DATATYPES:
        raise bad_request(f"{where} has the datatype {datatype!r:.80}; expected one of {', '.join(_DATATYPES)}.")
    if not (
        isinstance(shape, list)
        and all(type(it) is int and 0 <= it <= _LONGEST for it in shape)
        and shape[1:] in ([], [1])
    ):
        raise bad_request(f"{where} has the shape {shape!r:.80}; expected [rows] or [rows, 1].")
    rows = shape[0] if shape else 1
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(binary):
            raise bad_request(f"{where} has a binary_data_size of {size!r:.20}; the body has {len(binary)} such bytes.")
        return name, _binary_values(binary[:size], datatype, rows, where), size
    values = list_of(tensor.get("data"), f"data of {name:.80}")
    if shape[1:] and all(isinstance(it, list) and len(it) == 1 for it in values):
        values = [it[0] for it in values]
    if len(values) != rows:
        raise bad_request(f"{where} has {len(values)} values; expected {rows}, by its shape.")
    return name, values, 0


def _binary_values(data: memoryview, datatype: str, rows: int, where: str) -> Values:
    if datatype == "BYTES":
        return _texts(data, rows, where)
    kind = np.dtype(_NUMPY[datatype])
    if len(data) != rows * kind.itemsize:
        raise bad_request(f"{where} has {len(data)} bytes; expected {rows * kind.itemsize}, by its shape.")
    values: Values = np.frombuffer(data, kind).tolist()
    return values


def _texts(data: memoryview, rows: int, where: str) -> Values:
    """Return the texts of a binary tensor: each has its length in four bytes before it."""
    found: list[str] = []
    place = 0
    try:
        while place < len(data) and len(found) <= rows:
            (length,) = struct.unpack_from("<I", data, place)
            text = bytes(data[place + 4 : place + 4 + length])
            if len(text) < length:
                raise bad_request(f"{where} ends within a text; expected {length} bytes.")
            found.append(text.decode())
            place += 4 + length
    except (struct.error, UnicodeDecodeError) as error:
        raise bad_request(f"{where} has no texts in UTF-8 with their lengths: {error}.") from error
    if len(found) != rows:
        raise bad_request(f"{where} has {len(found)} texts; expected {rows}, by its shape.")
    return found


def _apply(columns: dict[str, Values], mask: str) -> None:
    """Replace the values that a mask marks as missing by null."""
    name, is_null = mask.removesuffix(IS_NULL), columns.pop(mask)
    if name not in columns or not all(isinstance(it, bool) for it in is_null):
        raise bad_request(f"the input tensor '{mask:.80}' marks no other tensor, or is not BOOL; expected a mask.")
    columns[name] = [None if missing else value for value, missing in zip(columns[name], is_null, strict=True)]


def infer_answer(served: ServedModel, request: Mapping[str, Any], scores: Served) -> dict[str, Any]:
    """Return the scores as output tensors: the requested ones, or all."""
    wanted = request.get("outputs")
    names: list[Any] = [*scores.columns]
    if wanted is not None:
        names = [it.get("name") if isinstance(it, dict) else None for it in list_of(wanted, "outputs")]
        if unknown := [it for it in names if not isinstance(it, str) or it not in scores.columns]:
            raise bad_request(f"the output {unknown[0]!r:.80} is unknown; expected {', '.join(scores.columns)}.")
        if len({*names}) < len(names):
            raise bad_request("an output is requested twice; expected it once.")
    given = request.get("id")
    return {
        "model_name": served.name,
        "model_version": scores.version,
        **({} if given is None else {"id": given}),
        "parameters": {"entry": scores.entry},
        "outputs": [
            {
                "name": it, "datatype": datatype_of(served.outputs[it]), "shape": [scores.rows],
                "data": scores.columns[it],
            }
            for it in names
        ],
    }  # fmt: skip
