"""What a model predicts, and the columns of its features and labels that it is built from."""

from dataclasses import dataclass

from ml_assets.contracts.artifacts import Feature, Task


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

    @property
    def label_key(self) -> list[str]:
        """The columns that identify a version of a label, each once."""
        return list(dict.fromkeys([*self.key, self.known_time]))
