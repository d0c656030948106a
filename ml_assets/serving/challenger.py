"""A challenger that the service scores beside the champion: it answers a share of the keys, or none.

The answers of the champion neither wait for it nor depend on it: rows that it cannot score are counted, and no more.
Not here: which challenger it is, and its share (see `ml_assets.models.online`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.serving.errors import RequestError
from ml_assets.serving.fields import ABSENT, BrokenValueError
from ml_assets.serving.inputs import Columns, EncodedInputs
from ml_assets.serving.keys import typed_values
from ml_assets.serving.logged_rows import JoinedRows
from ml_assets.serving.served_model import Served, ServedModel

MOST_ROWS: Final = 16
"""Rows of a request that a challenger answers; the champion answers larger ones."""


@dataclass(frozen=True)
class Challenger:
    """A challenger that is online.

    Attributes:
        champion: the version beside which it scores.
        share: the share of the keys that it answers.
    """

    served: ServedModel
    champion: str
    share: float

    def answers(self, given: Columns, joined: JoinedRows | None) -> bool:
        """Return whether it answers a request: the keys of all its rows are known and in its share.

        A key stays in the share when it grows. A challenger of an estimator of a person answers none.
        """
        if not (self.share and given.rows <= MOST_ROWS and self.served.is_quick(given.rows)):
            return False
        keys = self._keys(given, joined)
        return bool(keys) and all(None not in it and place_of(self.served.version, it) < self.share for it in keys)

    def _keys(self, given: Columns, joined: JoinedRows | None) -> list[tuple[Any, ...]]:
        """Return the key of each row; none if the request does not name all columns of the key."""
        key = self.served.inputs.key
        if key is None:
            return []
        if joined is not None:
            return joined.keys.select(key.names).rows()
        found = [given.values.get(it.name) for it in key.fields]
        if any(values is None or ABSENT in values for values in found):
            return []
        given_keys = zip(key.fields, found, strict=True)
        try:
            typed = [typed_values(its, values) for its, values in given_keys if values is not None]
        except BrokenValueError:  # a column of the key that is an input too was accepted in the input's type
            return []
        return pl.DataFrame(typed).rows()


def place_of(version: str, key: Sequence[Any]) -> float:
    """Return the place of a key among all keys, from 0 to below 1. Of each challenger the order is another."""
    text = json.dumps([version, *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def encoded_by(served: ServedModel, given: Columns | pl.DataFrame) -> EncodedInputs | None:
    """Return rows of a request for another version as a version reads them; None if it refuses one of them."""
    names = [it.name for it in served.inputs.fields]
    try:
        if isinstance(given, pl.DataFrame):
            return served.inputs.encode_frame(given.select(names))
        return served.inputs.encode_columns(given.only(names))
    except RequestError:
        return None


def scored_beside(beside: ServedModel, given: Columns | pl.DataFrame) -> Served | None:
    """Return the scores of a version that does not answer; None if it cannot score one of the rows."""
    inputs = encoded_by(beside, given)
    try:
        return None if inputs is None else beside.score(inputs)
    except DataError:
        return None
