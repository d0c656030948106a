"""What the YAML under `ml_assets/defs` may say, typed and validated; a mistake is told with file, line and field.

How a declaration becomes assets stays out; see `ml_assets.component`.
"""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ml_assets.contracts.artifacts import Task, Unseen
from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.yaml_lines import LOADER, compose, line_of, twice
from resources.day_pattern import DayPattern

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="lower case, digits and _, from a letter")]
Share = Annotated[float, Field(ge=0, le=1)]
Stage = Literal[
    "features", "labels", "training_set", "importances", "tuning", "model", "evaluation", "champion",
    "predictions", "drift", "performance", "card",
]  # fmt: skip


METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "multiclass": ("accuracy", "multi_log_loss", "macro_f1"),
}


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


class DeclarationError(ContractError):
    """A declaration cannot be used; the message lists every mistake with file, line and field."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Days(_Part):
    """The days there are partitions for, both included; an open end means up to yesterday."""

    first: date
    last: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last day {self.last} lies before first day {self.first}; swap them")
        return self


class FeaturesFrom(_Part):
    """The table with one row a prediction, and which of its columns say who and when."""

    table: Name
    key: Annotated[tuple[Name, ...], Field(min_length=1)]
    event_time: Name
    prediction_time: Name
    columns: tuple[Name, ...] | None = Field(None, description="features to use; all of the table's features if absent")
    exclude: tuple[Name, ...] = ()


class LabelsFrom(_Part):
    """The table with the outcomes, and when each became known."""

    table: Name
    target: Name
    known_time: Name
    reason: Name | None = Field(None, description="column that says why a row has no label")
    wait_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        2, description="days after its own day within which a label becomes known; a later correction does not count"
    )


class Split(_Part):
    """Windows in days, counted back from the as-of day: test last, validation before it, train before that."""

    train_days: Annotated[int, Field(gt=0)] | None = None
    validation_days: Annotated[int, Field(gt=0)] = 30
    test_days: Annotated[int, Field(gt=0)] = 30


class ImportancesSettings(_Part):
    """How much work the importances may cost."""

    rows: Annotated[int, Field(ge=1_000)] = 20_000
    folds: Annotated[int, Field(ge=2, le=20)] = 3


class TuningSettings(_Part):
    """The study's budget and what stays fixed."""

    metric: str | None = Field(default=None, description="metric to tune for; the evaluation's metric if absent")
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    seconds: Annotated[float, Field(gt=0)] | None = None
    max_rounds: Annotated[int, Field(ge=10)] = 500
    early_stopping_rounds: Annotated[int, Field(ge=5)] = 30
    fixed: dict[str, float | int | str | bool] = {}


class TrainingSettings(_Part):
    """How the model is trained."""

    unseen: Unseen = "missing"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    device: Literal["cpu", "gpu", "cuda"] = "cpu"


class EvaluationSettings(_Part):
    """What is measured on the frozen test rows."""

    metric: str | None = Field(default=None, description="the deciding metric; the task's usual one if absent")
    slices: tuple[Name, ...] = ()
    baselines: tuple[tuple[Name, ...], ...] = Field(
        default=(), description="column groups for historical-rate baselines"
    )
    replicates: Annotated[int, Field(ge=50, le=100_000)] = 500


class GateSettings(_Part):
    """What a challenger must show before it takes over; margins are in units of the deciding metric."""

    rule: Literal["non_inferiority", "superiority"] = Field(
        default="non_inferiority",
        description="whether it must not be worse than the champion by more than the margin, or be better by it",
    )
    margin: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="how much worse it may be, or how much better it must be")
    ] = 0.005
    slice_margin: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="how much worse it may be on a declared slice")
    ] = 0.01
    minimum_rows: Annotated[int, Field(ge=1, description="with fewer test rows nobody is promoted")] = 500
    minimum_slice_rows: Annotated[int, Field(ge=1, description="a smaller slice is shown and not judged")] = 200
    max_calibration_error: Share | None = Field(
        default=None, description="ceiling that the calibration error must not surely lie above; binary models only"
    )
    max_latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="milliseconds that one row may take where the gate runs, as a median"
    )
    max_size_mib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="size of the booster as text, in MiB"
    )
    approval: Literal["gate", "person"] = Field(
        default="gate", description="who lets in what passes every rule; for a person it waits (ml-assets promote)"
    )


class DriftSettings(_Part):
    """From where on a day counts as drifted."""

    weighted_psi: Annotated[float, Field(gt=0)] = 0.1
    score_psi: Annotated[float, Field(gt=0)] = 0.5
    feature_psi: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="of one feature's PSI, times its weight beside the average feature's"
    )
    new_category_share: Share = 0.05
    null_share_change: Share = 0.2
    minimum_rows: Annotated[int, Field(ge=1)] = 200


class RetrainingSettings(_Part):
    """When the loop asks for a retraining by itself, and how much of it there may be."""

    drift_days: Annotated[int, Field(ge=1, le=31, description="days over their drift limits that ask for one ...")] = 2
    of_days: Annotated[int, Field(ge=1, le=31, description="... among so many days that were judged")] = 3
    performance_limit: Annotated[float, Field(gt=0)] | None = Field(
        default=4.0,
        description="CUSUM of what performance lost against its promise, in deviations of a day; null: never asks",
    )
    minimum_coverage: Share = Field(
        default=0.8, description="share of a day's predictions that must have their label before it counts as measured"
    )
    label_growth: Annotated[float, Field(gt=0)] | None = Field(
        default=0.15,
        description="share by which labelled rows must have grown since the last training; null: never asks",
    )
    floor_days: Annotated[int, Field(ge=1)] | None = Field(
        default=7, description="days after which a training is repeated whatever the sensors see; null: never"
    )
    cool_down_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7,
        description="days of data between two retrainings; doubled after each refused challenger, up to eight times",
    )
    per_day: Annotated[int, Field(ge=1, le=24, description="retrainings as of one day, at most")] = 1
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="tuning trials of a retraining, beside the champion's parameters; all of tuning's if absent",
    )
    split: Split | None = Field(default=None, description="windows of a retraining; those of the model if absent")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.drift_days > self.of_days:
            raise ValueError(f"drift_days {self.drift_days} must not be above of_days {self.of_days}")
        return self


class WatchSettings(_Part):
    """How a new champion is held against the one before it, on the same rows, in its first days."""

    days: Annotated[int, Field(ge=0, le=366, description="days with labels that are compared; 0 leaves it out")] = 7
    minimum_days: Annotated[int, Field(ge=2)] = Field(default=3, description="with fewer of them nothing is decided")
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.01, description="how much worse it may be, in units of the deciding metric"
    )


class LeakTestSettings(_Part):
    """How often each run of the features asks whether a row holds what was not known at its prediction time yet."""

    samples: Annotated[int, Field(ge=0, le=1_000, description="prediction times; 0 leaves the test out")] = 2
    is_blocking: bool = Field(default=False, description="whether features with a leak are not published")


class ExpectationsSettings(_Part):
    """What a day of the features is held against: the range of the days before it, beside the rules of its contract."""

    days: Annotated[int, Field(ge=0, le=366)] = Field(default=28, description="days before that count; 0 leaves it out")
    minimum_days: Annotated[int, Field(ge=2)] = Field(default=7, description="with fewer of them a day is not judged")
    margin: Annotated[float, Field(ge=0)] = Field(
        default=0.5, description="how far out of their range a figure may lie, in widths of it"
    )
    is_blocking: bool = Field(default=False, description="whether a day that surprises is not published")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if 0 < self.days < self.minimum_days:
            raise ValueError(f"minimum_days {self.minimum_days} must not be above days {self.days}")
        return self


_CRON_FIELD = re.compile(r"(\*|\w+(-\w+)?(,\w+(-\w+)?)*)(/[1-9]\d*)?")
_CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _is_cron(text: str) -> str:
    fields = text.split()
    if len(fields) != len(_CRON_BOUNDS) or not all(_CRON_FIELD.fullmatch(one) for one in fields):
        raise ValueError("expected a cron of five fields (minute, hour, day, month, day of week) such as '30 5 * * *'")
    for one, (least, most) in zip(fields, _CRON_BOUNDS, strict=True):
        wrong = [n for n in re.findall(r"(?<![/\w])\d+", one) if not least <= int(n) <= most]
        if wrong:
            raise ValueError(f"{wrong[0]} in the cron's field '{one}' lies outside {least} to {most}")
    return " ".join(fields)


Cron = Annotated[str, AfterValidator(_is_cron)]


def _is_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("expected a time zone such as Europe/Zurich") from error
    return name


Timezone = Annotated[str, AfterValidator(_is_timezone)]


class Freshness(_Part):
    """How old something may be: the last run of it, by a window or by a cron, and the data in it."""

    fail_hours: Annotated[float, Field(ge=0.05)] | None = Field(
        None, description="hours without a materialization after which it fails"
    )
    warn_hours: Annotated[float, Field(ge=0.05)] | None = None
    cron: Cron | None = Field(None, description="when what it is made from comes, for instance '0 6 * * *'")
    by_minutes: Annotated[int, Field(gt=0, lt=24 * 60)] | None = Field(
        None, description="minutes after each time of the cron by which it must have been materialized"
    )
    timezone: Timezone | None = Field(None, description="of the cron; UTC if absent")
    data_days: Annotated[int, Field(ge=0, le=3660)] | None = Field(
        None,
        description="days that its newest day, or the as-of day of who serves, may lie behind the newest there can be",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.warn_hours is not None and (self.fail_hours is None or self.warn_hours >= self.fail_hours):
            raise ValueError(f"warn_hours {self.warn_hours} must be below fail_hours {self.fail_hours}")
        if self.cron is not None and self.fail_hours is not None:
            raise ValueError("give either 'fail_hours' or 'cron'; Dagster knows one policy an asset")
        if (self.cron is None) != (self.by_minutes is None):
            raise ValueError("'cron' and 'by_minutes' go together")
        if self.cron is None and self.timezone is not None:
            raise ValueError("'timezone' says how 'cron' is meant; give it too")
        if self.cron is None and self.fail_hours is None and self.data_days is None:
            raise ValueError("give 'fail_hours', 'cron' or 'data_days'")
        if self.cron is not None and self.by_minutes is not None:
            _later(self.cron, self.by_minutes)
        return self

    @property
    def deadline(self) -> str | None:
        """The cron by whose times it must have been materialized: `by_minutes` after those of `cron`."""
        return None if self.cron is None or self.by_minutes is None else _later(self.cron, self.by_minutes)


def _later(cron: str, minutes: int) -> str:
    """Return a cron whose times come so many minutes later.

    Raises:
        ValueError: its fields cannot say that: it has no fixed minute and hour, or midnight comes in between.
    """
    minute, hour, *days = cron.split()
    if minute.isdigit() and hour.isdigit():
        at = int(hour) * 60 + int(minute) + minutes
        if at < 24 * 60:
            return " ".join([str(at % 60), str(at // 60), *days])
    elif minute.isdigit() and hour == "*" and int(minute) + minutes < 60:
        return " ".join([str(int(minute) + minutes), hour, *days])
    raise ValueError(
        f"{minutes} minutes after '{cron}' is no cron; give a fixed minute and hour, and a time before midnight"
    )


_QUANTITY = r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"


class Compute(_Part):
    """What a stage asks for where it runs in a pod of its own."""

    cpu: Annotated[str, Field(pattern=_QUANTITY)] | None = None
    memory: Annotated[str, Field(pattern=_QUANTITY)] | None = None
    gpu: Annotated[int, Field(ge=0, le=16)] = 0
    image: str | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()


class ModelDeclaration(_Part):
    """Everything particular to one model."""

    name: Name
    description: Annotated[str, Field(min_length=1)]
    owner: str | None = None
    intended_use: str = ""
    limits_of_use: tuple[str, ...] = ()
    task: Task
    days: Days
    features: FeaturesFrom
    labels: LabelsFrom
    split: Split = Split()
    importances: ImportancesSettings = ImportancesSettings()
    tuning: TuningSettings = TuningSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    drift: DriftSettings = DriftSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    watch: WatchSettings = WatchSettings()
    leak_test: LeakTestSettings = LeakTestSettings()
    expectations: ExpectationsSettings = ExpectationsSettings()
    freshness: dict[Stage, Freshness] = {}
    compute: dict[Stage, Compute] = {}
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _known_metrics(self) -> Self:
        known = METRICS[self.task]
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError(
                    "metric", f"expected a metric of a {self.task} model, one of {_quoted(known)}"
                ),
                loc=(part, "metric"),
                input=name,
            )
            for part, name in (("tuning", self.tuning.metric), ("evaluation", self.evaluation.metric))
            if name is not None and name not in known
        ]
        if self.gate.max_calibration_error is not None and "calibration_error" not in known:
            wrong.append(
                InitErrorDetails(
                    type=PydanticCustomError(
                        "metric", f"a {self.task} model has no calibration error; leave the ceiling out"
                    ),
                    loc=("gate", "max_calibration_error"),
                    input=self.gate.max_calibration_error,
                )
            )
        if wrong:
            raise ValidationError.from_exception_data("ModelDeclaration", wrong)
        return self

    @property
    def metric(self) -> str:
        """The metric that decides: declared, or the task's usual one."""
        return (
            self.evaluation.metric
            or {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}[self.task]
        )

    @property
    def tuning_metric(self) -> str:
        """The metric the study optimizes."""
        return self.tuning.metric or self.metric


class DayColumns(_Part):
    """Which columns of a source say the day of a row: one date column, or year, month and day."""

    column: str | None = None
    year: str | None = None
    month: str | None = None
    day: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        parts = (self.year, self.month, self.day)
        if (self.column is None) == all(part is None for part in parts):
            raise ValueError("give either 'column', or 'year', 'month' and 'day'")
        if self.column is None and any(part is None for part in parts):
            raise ValueError("'year', 'month' and 'day' go together")
        return self


def _day_pattern(text: str) -> str:
    DayPattern.of(text)
    return text


class RawTable(_Part):
    """Where a source's rows come from, one file or files day by day, and how they are cut into days."""

    file: Annotated[str, Field(min_length=1, description="a path, a URL, or package://NAME/path")] | None = None
    files: Annotated[str, AfterValidator(_day_pattern)] | None = Field(
        None,
        description="the files of each day, such as landing/orders/{day}.csv or s3://bucket/orders/{day}/*.parquet",
    )
    settle_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        60, description="with 'files': how long a file in a folder must have stayed as it is; S3's appear whole"
    )
    by: DayColumns | None = Field(
        None, description="absent: the table is landed whole; with 'files', rows are of the day in the name"
    )
    null_values: tuple[str, ...] = ("",)
    description: str = ""
    quarantine: Share | None = Field(
        None, description="share of a day's rows that may break row rules and be set aside; absent: none"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.files is None):
            raise ValueError("give either 'file', or 'files' with {day} in it")
        return self

    @property
    def is_by_day(self) -> bool:
        """Whether there is one artifact a day, and not one for the whole table."""
        return self.by is not None or self.files is not None


class RawDeclaration(_Part):
    """The sources that are landed as `raw/<table>`."""

    owner: str | None = None
    days: Days
    freshness: Freshness | None = None
    tables: dict[Name, RawTable]


class TablesDeclaration(_Part):
    """The dbt project whose models become tables of the lake."""

    days: Days
    freshness: Freshness | None = None
    quarantine: dict[Name, Share] = Field(
        {}, description="by table: share of a day's rows that may break row rules and be set aside"
    )


class UpdatesSettings(_Part):
    """What the sensor that makes what is out of date again may do by itself."""

    days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=35, description="newest days that it looks at; what changes further back is told, and left to a person"
    )


class SchedulesSettings(_Part):
    """When what has no other cause is asked for."""

    timezone: Timezone = "UTC"
    daily_landing: Cron = Field(
        default="30 5 * * *", description="yesterday's day of each raw table that has not come yet"
    )
    clean_up: Cron = Field(default="0 3 * * 6", description="removing what no champion, log entry or recent run needs")


class AutomationDeclaration(_Part):
    """What runs without anybody asking, and when."""

    updates: UpdatesSettings = UpdatesSettings()
    schedules: SchedulesSettings = SchedulesSettings()


Declaration = ModelDeclaration | RawDeclaration | TablesDeclaration | AutomationDeclaration
KINDS: Mapping[str, type[Declaration]] = {
    "ml_assets.component.Model": ModelDeclaration,
    "ml_assets.component.RawTables": RawDeclaration,
    "ml_assets.component.DbtTables": TablesDeclaration,
    "ml_assets.component.Automation": AutomationDeclaration,
}


@dataclass(frozen=True)
class Declared:
    """All declarations of a project."""

    models: tuple[ModelDeclaration, ...] = ()
    raw: tuple[RawDeclaration, ...] = ()
    tables: tuple[TablesDeclaration, ...] = ()
    automation: AutomationDeclaration = field(default_factory=AutomationDeclaration)

    def model(self, name: str) -> ModelDeclaration:
        """Return one model's declaration.

        Raises:
            DeclarationError: there is none of that name.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = [model.name for model in self.models]
        raise DeclarationError(f"there is no model '{name}'; declared are {', '.join(known)}{near(name, known)}.")


def read_all(folder: Path) -> Declared:
    """Return every declaration under a folder (`*/defs.yaml`), in the order of their paths.

    Raises:
        DeclarationError: one or more of them cannot be used; the message lists all mistakes.
    """
    mistakes: list[str] = []
    found: list[Declaration] = []
    names: dict[str, Path] = {}
    automated: Path | None = None
    for path in sorted(folder.glob("**/defs.yaml")):
        try:
            declaration = read_declaration(path.read_text(encoding="utf-8"), where=str(path))
        except DeclarationError as error:
            mistakes.append(str(error))
            continue
        found.append(declaration)
        if isinstance(declaration, ModelDeclaration):
            if declaration.name in names:
                mistakes.append(f"{path}: model '{declaration.name}' is declared in {names[declaration.name]} too.")
            names[declaration.name] = path
        if isinstance(declaration, AutomationDeclaration):
            if automated is not None:
                mistakes.append(f"{path}: automation is declared in {automated} too; keep one.")
            automated = path
    if mistakes:
        raise DeclarationError("\n".join(mistakes))
    return Declared(
        models=tuple(d for d in found if isinstance(d, ModelDeclaration)),
        raw=tuple(d for d in found if isinstance(d, RawDeclaration)),
        tables=tuple(d for d in found if isinstance(d, TablesDeclaration)),
        automation=next((d for d in found if isinstance(d, AutomationDeclaration)), AutomationDeclaration()),
    )


def read_declaration(text: str, *, where: str) -> Declaration:
    """Return the declaration in a YAML text.

    Args:
        text: the YAML.
        where: the file's name, for messages.

    Raises:
        DeclarationError: it is not YAML, or breaks the declaration's rules; every mistake is listed.
    """
    try:
        content = yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe loader, the C one where there is one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise DeclarationError(f"{where}:{line}: not YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("attributes"), dict):
        raise DeclarationError(f"{where}:1: expected 'type:' and 'attributes:', got {type(content).__name__}.")
    doubled = [f"{where}:{line}: {name}: is given twice; keep one." for line, name in twice(compose(text))]
    if doubled:
        raise DeclarationError("\n".join(doubled))
    kind = KINDS.get(str(content.get("type")))
    if kind is None:
        got = str(content.get("type"))
        line = line_of(compose(text), ("type",))
        raise DeclarationError(
            f"{where}:{line}: type: expected one of {', '.join(KINDS)}, got '{got}'{near(got, list(KINDS))}."
        )
    try:
        return kind.model_validate(content["attributes"])
    except ValidationError as error:
        raise DeclarationError("\n".join(_mistakes(error, kind, text, where))) from error


def _mistakes(error: ValidationError, kind: type[BaseModel], text: str, where: str) -> Iterator[str]:
    root = compose(text)
    for problem in error.errors():
        loc = tuple(part for part in problem["loc"] if not _is_union_tag(part))
        field = ".".join(str(part) for part in loc)
        line = line_of(root, ("attributes", *loc))
        names = _siblings(kind, loc)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"there is no such field; expected one of {', '.join(names)}{near(str(loc[-1]), names)}"
        elif problem["type"] == "missing":
            message = "is missing and has no default"
        else:
            got = problem["input"]
            message = f"{message}, got {got!r}{near(str(got), _choices(message))}"
        yield f"{where}:{line}: {field}: {message}."


def _is_union_tag(part: int | str) -> bool:
    """Tell pydantic's own loc parts for union members from field names."""
    return isinstance(part, str) and ("[" in part or part in {"bool", "int", "float", "str"})


def _siblings(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the fields that may stand where `loc` ends."""
    for part in loc[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None:
            continue
        inner = _models_in(field.annotation)
        if inner is None:
            return []
        kind = inner
    return sorted(kind.model_fields)


def _models_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for m in map(_models_in, typing.get_args(annotation)) if m is not None), None)


def _choices(message: str) -> list[str]:
    """Return the literals that a message of pydantic's offers."""
    return re.findall(r"'([^']+)'", message)


def check_against_columns(
    model: ModelDeclaration, *, features: Mapping[str, str], labels: Mapping[str, str]
) -> list[str]:
    """Return what a declaration asks of its tables that their contracts do not have, as sentences.

    Args:
        model: the declaration.
        features: the feature table's columns and their roles.
        labels: the label table's columns and their roles.
    """
    wanted = [
        *((model.features.table, column, features) for column in (
            *model.features.key, model.features.event_time, model.features.prediction_time,
            *(model.features.columns or ()), *model.features.exclude, *model.evaluation.slices,
            *(column for group in model.evaluation.baselines for column in group),
        )),
        *((model.labels.table, column, labels) for column in (
            *model.features.key, model.labels.target, model.labels.known_time,
            *([model.labels.reason] if model.labels.reason else []),
        )),
    ]  # fmt: skip
    return [
        f"column '{column}' is not in the contract of table '{table}'{near(column, list(columns))}"
        for table, column, columns in wanted
        if column not in columns
    ]
