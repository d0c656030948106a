"""The settings of tuning: the search for the parameters of the training."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import ColumnName, Part


class TuningSettings(Part):
    """The search for parameters: its budget, and which parameters are fixed."""

    metric: str | None = Field(
        default=None,
        description="Metric of the trials on the validation window, one of the task's. Without it, "
        "`evaluation.metric`.",
    )
    within: ColumnName | None = Field(
        default=None,
        description="Column of the key, or `day`: a trial is rated by the mean of the metric over the values of it. "
        "Without it, by the metric over all rows.",
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] = Field(default=20, description="Number of trials.")
    windows: Annotated[int, Field(ge=1, le=20)] = Field(
        default=1,
        exclude_if=lambda it: it == 1,
        description="Number of consecutive validation windows on which each trial is judged: the one of `split`, and "
        "those of the same length before it. Each model is trained on the rows before its window, and a trial has the "
        "mean metric. More than one is better where a window has few rows, and takes as many times longer. A window "
        "with fewer train rows than validation rows is left out; the metadata of the tuning has the number. Only with "
        "a split by time.",
    )
    seconds: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] | None = Field(
        default=None,
        description="Seconds after which no further trial starts. Without it, there is no limit. With a limit, the "
        "result depends on the speed of the machine.",
    )
    max_rounds: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=500, description="Maximum number of boosting rounds of a trial. LightGBM only."
    )
    early_stopping_rounds: Annotated[int, Field(ge=5, le=100_000)] = Field(
        default=30,
        description="A trial stops after this number of rounds without a better metric on the validation window. "
        "LightGBM only.",
    )
    fixed: dict[str, float | int | str | bool] = Field(
        default={},
        description="Parameters of LightGBM, or of the declared estimator, that are not tuned, by name, such as "
        "`{max_depth: 6}`.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="Trials that run at the same time, each in its own process or pod. With more than one, the result "
        "depends on the order in which trials end.",
    )
