"""What a model predicts, and the columns of its features and labels that it is built from."""

from dataclasses import dataclass

from ml_assets.contracts.artifacts import Feature, Task
from ml_assets.contracts.days import DAY


@dataclass(frozen=True)
class ModelColumns:
    """A model's task with the columns of its tables.

    Attributes:
        name: the model's name, for messages and summaries.
        task: its task.
        target: the label column.
        key: the columns that identify a prediction, in features and labels.
        event_time: the features' column with the event time. Times are UTC without a zone.
        prediction_time: the features' column with the prediction time.
        known_time: the labels' column with the time when a version of a label could first be known.
        features: the input columns, in the order in which the model gets them.
        timezone: the time zone of the days.
        personal: columns whose values no message shows.
        group: the features' column whose values a split keeps together; None if there is none.
    """

    name: str
    task: Task
    target: str
    key: tuple[str, ...]
    event_time: str
    prediction_time: str
    known_time: str
    features: tuple[Feature, ...] = ()
    timezone: str = "UTC"
    personal: frozenset[str] = frozenset()
    group: str | None = None

    @property
    def identified(self) -> tuple[str, ...]:
        """The columns that no row of the features may lack: key, day, times and group."""
        group = () if self.group is None else (self.group,)
        return tuple(dict.fromkeys([*self.key, DAY, self.event_time, self.prediction_time, *group]))

    @property
    def label_key(self) -> list[str]:
        """The columns that identify a version of a label, each once."""
        return list(dict.fromkeys([*self.key, self.known_time]))
