"""LightGBM's call for single rows: a tenth of the time of a call for a matrix, and the same scores, bit for bit.

Not here: loading a model and scoring many rows (see `ml_assets.logic.training.booster`).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import TYPE_CHECKING, Final

import numpy as np

from ml_assets.contracts.artifacts.training import Model
from ml_assets.logic.training.booster import THREADS, load_booster
from ml_assets.logic.training.encoding import Matrix, Vector

if TYPE_CHECKING:
    from lightgbm import Booster

_NORMAL: Final = 0
"""`C_API_PREDICT_NORMAL` of LightGBM: scores as `Booster.predict` returns them."""
_DOUBLE: Final = 1
"""`C_API_DTYPE_FLOAT64` of LightGBM."""


class SingleRow:
    """Scores rows one by one, from any thread."""

    def __init__(self, booster: Booster, classes: int) -> None:
        from ml_assets.adapters.lightgbm import _LIB, _safe_call

        self._booster = booster  # is referenced by the prepared call
        self._classes = classes
        self._check = _safe_call
        self._call = _LIB.LGBM_BoosterPredictForMatSingleRowFast
        self._turn = threading.Lock()
        self._row = np.empty(booster.num_feature())
        self._scores = np.empty(max(1, classes))
        self._length = ctypes.c_int64()
        self._prepared = ctypes.c_void_p()
        with THREADS.about(1) as agreed:  # the call sets the number of threads of the process
            self._check(
                _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                    booster._handle,  # noqa: SLF001 - see the adapter
                    ctypes.c_int(_NORMAL),
                    ctypes.c_int(0),
                    ctypes.c_int(booster.best_iteration),
                    ctypes.c_int(_DOUBLE),
                    ctypes.c_int32(len(self._row)),
                    f"num_threads={agreed}".encode(),
                    ctypes.byref(self._prepared),
                )
            )
        weakref.finalize(self, _LIB.LGBM_FastConfigFree, self._prepared)
        self._arguments = (
            self._prepared,
            ctypes.c_void_p(self._row.ctypes.data),
            ctypes.byref(self._length),
            ctypes.c_void_p(self._scores.ctypes.data),
        )

    @classmethod
    def of(cls, model: Model) -> SingleRow:
        """Return the scorer of a model of LightGBM.

        Raises:
            ContractError: its text does not belong to the spec.
        """
        return cls(load_booster(model), len(model.spec.classes))

    def scores(self, matrix: Matrix) -> Vector:
        """Return (rows,) scores, or (rows, classes) for multiclass, as `booster.raw_scores` does."""
        found = np.empty((len(matrix), len(self._scores)))
        with self._turn:
            for row, values in enumerate(matrix):
                self._row[:] = values
                self._check(self._call(*self._arguments))
                found[row] = self._scores
        return found if self._classes else found[:, 0]
