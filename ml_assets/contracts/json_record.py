"""The base of what is stored as JSON. Apart from the artifacts, so that a reader need not load polars."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of every JSON record. It is frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
