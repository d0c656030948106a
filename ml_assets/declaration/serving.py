"""The settings of the prediction service for a model: what its request log stores, and when it sends alerts."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import ColumnName, Part


class AlarmLimits(Part):
    """When the output of the service is degenerate: by which share of the other rows a share exceeds the usual one.

    The usual shares are those of the rows that the served version was trained on. If 10 % of them have no value of a
    field on an unusual day, the limit 0.5 means 55 %.
    """

    rows: Annotated[int, Field(ge=100, le=20_000)] = Field(
        default=500, description="Rows without which a minute is not judged; it is judged together with the next ones."
    )
    identical_scores: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        default=0.5, description="Limit of the share of rows that have the most frequent score."
    )
    default_path: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        default=0.2, description="Limit of the share of rows in which each value is missing or an unseen category."
    )
    unseen_categories: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        default=0.5, description="Limit of the share of rows that have an unseen category, for each field."
    )
    nulls: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        default=0.9, description="Limit of the share of rows without a value, for each field."
    )


class ServingSettings(Part):
    """What `ml-assets serve MODEL` stores of the requests that it answers, and how it answers requests by key."""

    log: bool = Field(
        default=True, description="Whether each row that was scored is stored in the lake, with its score."
    )
    sample: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the requests that are stored, chosen at random. All rows of one are."
    )
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None,
        description="Number of days after which `ml-assets gc` removes the stored files; without it they are kept. The "
        "asset `requests` keeps its rows.",
    )
    hash: tuple[ColumnName, ...] = Field(
        default=(),
        description="Inputs that are stored as keyed hashes, beside the columns whose contract says that they are "
        "personal. The key is in `ML_ASSETS_HASH_KEY`.",
    )
    alarms: AlarmLimits = Field(default=AlarmLimits(), description="Limits of the alerts about degenerate output.")
    look_back: Annotated[int, Field(ge=0, le=3660)] = Field(
        default=30,
        description="Newest periods with features in which the service looks for the row of a key. They are in memory. "
        "0 for no requests by key.",
    )
    max_age_hours: Annotated[float, Field(ge=0.05, le=3660 * 24)] | None = Field(
        default=None,
        description="Largest age of a feature row that is joined by key, since its prediction time. Without it, any "
        "age.",
    )
    when_older: Literal["refuse", "flag"] = Field(
        default="refuse",
        description="What happens if the newest feature row of a key is older: the request is refused (409), or the "
        "answer says `is_stale`. Needs `max_age_hours`.",
    )
    overridable: tuple[ColumnName, ...] = Field(
        default=(),
        description="Features whose value a request by key may replace. Such values are logged as overrides.",
    )

    @model_validator(mode="after")
    def _has_age(self) -> Self:
        if self.when_older == "flag" and self.max_age_hours is None:
            raise ValueError("'when_older: flag' needs an age; declare 'max_age_hours', or remove it")
        return self
