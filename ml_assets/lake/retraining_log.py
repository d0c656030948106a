"""The retraining log: the cause of each retraining. A record is created only if absent, so none is requested twice.

Not here: when to request a retraining (see `ml_assets.logic.monitoring.retraining` and the sensors).
"""

import re
from dataclasses import dataclass
from typing import Final

from ml_assets.contracts.decisions import Retraining
from ml_assets.lake.numbered_log import NumberedLog, check_model_name
from ml_assets.lake.objects import Objects

RETRAININGS: Final = "retrainings"

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d{2})\.json")


def record_name(record: Retraining) -> str:
    """Return the name of a record in its model's folder. Names sort by day."""
    return f"{record.as_of}.{record.number:02}.json"


_RECORDS: Final = NumberedLog(
    "the record of a retraining", Retraining, lambda it: f"{RETRAININGS}/{it.model}/{record_name(it)}"
)


@dataclass(frozen=True)
class RetrainingLog:
    """The log of one model: `retrainings/<model>/2013-10-31.01.json` and so on.

    Raises:
        LakeError: the model's name is not valid.
    """

    lake: Objects
    model: str

    def __post_init__(self) -> None:
        check_model_name(self.model, "retraining log")

    def newest(self, count: int) -> list[Retraining]:
        """Return the newest records by day, oldest first.

        Raises:
            CorruptArtifactError: a record is damaged.
        """
        folder = self.lake.path(RETRAININGS, self.model)
        names = sorted(filter(_NAME.fullmatch, self.lake.names(folder)))[-count:]
        return _RECORDS.read_each(self.lake, [f"{folder}/{name}" for name in names])

    def claim(self, record: Retraining) -> bool:
        """Store a record. Return False if a record of its day and number exists already."""
        return _RECORDS.claim(self.lake, record)
