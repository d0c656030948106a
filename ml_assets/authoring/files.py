"""Renders the files of a new model: declarations, dbt models with their contracts, a test and a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import PurePosixPath
from typing import Final
from zoneinfo import ZoneInfo

from ml_assets.authoring.columns import NewColumn
from ml_assets.authoring.event_sql import event_models
from ml_assets.authoring.event_table import EventTable
from ml_assets.authoring.new_model import NewModel
from ml_assets.authoring.rendering import as_dagster_text, rendered
from ml_assets.authoring.selected import EXAMPLES, SelectedColumn, selected_moment
from ml_assets.contracts.periods import BY_HOUR, HOUR

_POSITIVE: Final = ("{ml_assets.in_range: {arguments: {minimum: 0}}}",)


def files_of(model: NewModel, *, defs: PurePosixPath, dbt: PurePosixPath) -> dict[PurePosixPath, str]:
    """Return the files of a new model, by their paths in the project.

    Args:
        model: the model.
        defs: the folder of the declarations.
        dbt: the folder of the dbt project.
    """
    name, models, doubts = model.name, dbt / "models" / model.name, model.found.doubts
    baseline = model.baseline()
    marts = _event_marts(model, model.events) if model.events else _marts(model)
    source = model.events or model
    noon = datetime.combine(model.days.first, time(12), ZoneInfo(model.days.timezone)).astimezone(UTC)
    is_by_hour = model.days.grain == BY_HOUR
    known = (noon if is_by_hour else model.days.first) + timedelta(days=model.maturity_days)
    values = {
        "model": model,
        "source": source,
        "events": model.events,
        "days": model.days.declared,
        "raw_days": source.days.declared,
        "table_days": {**model.days.declared, "first": source.days.declared["first"]},
        "key": [it.name for it in model.key],
        "source_key": [it.source for it in source.key],
        "staged_key": [it.name for it in source.key],
        "baselines": [[baseline]] if baseline else [],
        "description": _description(model),
        "staged": marts.staged,
        "featured": marts.featured,
        "outcomes": marts.outcomes,
        "read_by_features_days": marts.read_by_features,
        "read_by_outcomes_days": marts.read_by_outcomes,
        "left_out": [(name, as_dagster_text(why)) for name, why in model.left_out.items()],
        "doubts": {column: f"  # chosen, but {doubt}" for column, doubt in doubts.items()},
        "sheet_comment": _sheet_comment(model),
        "new_feature": _new_feature(marts.featured),
        "noon": noon,
        "example_of_label": f"[{EXAMPLES[model.label_type]}]",
        "known_partition": model.days.calendar.key_of(known),
        "tables": [*marts.models],
    }
    templates = {
        **({} if model.found.dbt_model else {defs / f"{name}_raw" / "defs.yaml": "raw.yaml.jinja"}),
        defs / f"{name}_tables" / "defs.yaml": "tables.yaml.jinja",
        defs / name / "defs.yaml": "model.yaml.jinja",
        models / f"_{name}.yml": "contracts.yml.jinja",
        PurePosixPath("tests", f"test_{name}.py"): "test.py.jinja",
        PurePosixPath("notebooks", f"{name}.ipynb"): "notebook.ipynb.jinja",
    }
    return {
        **{path: rendered(template, values) for path, template in templates.items()},
        **{models / f"{one}.sql": sql for one, sql in marts.models.items()},
    }


@dataclass(frozen=True)
class _Marts:
    """The dbt models: their SQL by name, their columns, and how many earlier days of others they read."""

    models: Mapping[str, str]
    staged: list[SelectedColumn]
    featured: list[SelectedColumn]
    outcomes: list[SelectedColumn]
    read_by_features: Mapping[str, int]
    read_by_outcomes: Mapping[str, int]


def _marts(model: NewModel) -> _Marts:
    """Return the dbt models of a table that has the target."""
    name, origin = model.name, model.origin
    staged, featured, outcomes = staging_columns(model), feature_columns(model), label_columns(model)
    of_days = "day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}"
    values = {
        "model": model, "source": model, "staged": staged, "featured": featured, "outcomes": outcomes,
        "read_by_features": _read_columns(model, ("feature", "group"), "predicted_at"),
        "read_by_outcomes": _read_columns(model, ("target",), "label_known_at"),
        "rows_of_run": "{{ ml_assets.in_run() }}" if model.days.grain == BY_HOUR else of_days,
    }  # fmt: skip
    templates = {
        **({} if model.found.dbt_model else {origin: "staging.sql.jinja"}),
        f"{name}_features": "features.sql.jinja",
        f"{name}_outcomes": "outcomes.sql.jinja",
    }
    models = {one: rendered(template, values) for one, template in templates.items()}
    return _Marts(models, staged, featured, outcomes, {origin: 0}, {origin: 0})


def _event_marts(model: NewModel, events: EventTable) -> _Marts:
    """Return the dbt models of a table of events, with the features that no guard left out."""
    codes = {it.name: it.is_code for it in model.used("feature")}
    used = [it for it in events.features if it.name in codes]
    features = [replace(it, is_categorical=it.is_categorical or codes[it.name]) for it in used]
    population, waited = f"{model.name}_population", events.horizon_days
    return _Marts(
        event_models(events, features),
        events.staged,
        [*events.population_columns, *features],
        events.outcomes,
        {events.origin: events.feature_look_back_days, population: 0},
        {events.origin: waited, population: waited},
    )


def _new_feature(featured: Sequence[SelectedColumn]) -> str:
    """Return SQL over the features, as an example: the product of two numbers, or whether a value is missing."""
    features = [it for it in featured if it.role == "feature"]
    numbers = [it.name for it in features if it.sql_type in ("bigint", "double")]
    return " * ".join(numbers[:2]) if len(numbers) > 1 else f"{features[0].name} is null" if features else "1"


def _sheet_comment(model: NewModel) -> str:
    sheet = model.found.sheet
    return (
        ""
        if sheet is None or not sheet.others or sheet.is_given
        else f"  # chosen because {as_dagster_text(sheet.why)}"
    )


def _description(model: NewModel) -> str:
    if model.events is not None:
        entity, horizon = model.events.entity.source, model.events.horizon.words
        return f"Whether a {entity} has an event within {horizon} after the prediction."
    what = {
        "binary": f"Whether {model.label.source} is {model.roles.positive.value if model.roles.positive else 'true'}",
        "multiclass": f"The class of {model.label.source}",
        "ranking": f"The order of the rows of each {model.roles.query} by {model.label.source}",
    }.get(model.task, f"The value of {model.label.source}")
    at = "" if model.time is None else f", predicted at the time of {model.time.source}"
    return f"{what}{at}."


def staging_columns(model: NewModel) -> list[SelectedColumn]:
    """Return the columns of the staging model."""
    day = "day" if model.day_sql == "day" else f"{model.day_sql} as day"
    found = [SelectedColumn("day", day, "date", rules=("not_null",))]
    if model.days.grain == BY_HOUR:
        found.append(selected_moment(HOUR, f"date_trunc('hour', {model.event_sql})"))
    for column in model.source_columns:
        if column.use == "left out":
            continue
        if column == model.time:
            found.append(selected_moment(column.name, model.event_sql))
        else:
            sql = column.name if column.source == column.name else f"{column.quoted} as {column.name}"
            found.append(SelectedColumn(column.name, sql, column.sql_type, rules=_rules(column, model)))
    found += [] if model.time is not None else [selected_moment(model.event, model.event_sql)]
    known = replace(
        selected_moment("label_known_at", model.label_known), rules=() if model.is_label_open else ("not_null",)
    )
    return [*found, selected_moment("predicted_at", model.predicted), known]


def _read_columns(model: NewModel, uses: Sequence[str], known: str) -> list[SelectedColumn]:
    """Return what features or outcomes read of the dbt model that the table is: columns with some uses, and times."""
    names = {it.name for it in model.used("key", "time", *uses)} | {*model.days.calendar.columns, model.event, known}
    return [it for it in staging_columns(model) if it.name in names]


def _rules(column: NewColumn, model: NewModel) -> tuple[str, ...]:
    if column.use == "key":
        return ("not_null", "unique") if len(model.key) == 1 else ("not_null",)
    return ()


def _identity(model: NewModel, *, has_features: bool = False) -> list[SelectedColumn]:
    """Return the columns that features and outcomes share."""
    period = [SelectedColumn("day", "day", "date", "context", rules=("not_null",))]
    if model.days.grain == BY_HOUR:
        period.append(selected_moment(HOUR, HOUR, "context"))
    keys = [
        SelectedColumn(it.name, it.name, it.sql_type, "feature", it.is_categorical, rules=_rules(it, model))
        if has_features and it.is_repeated
        else SelectedColumn(it.name, it.name, it.sql_type, "entity", rules=_rules(it, model))
        for it in model.key
        if it != model.time
    ]
    return [*keys, *period, selected_moment(model.event, model.event, "event_time")]


def feature_columns(model: NewModel) -> list[SelectedColumn]:
    """Return the columns of the feature table."""
    found = [
        *_identity(model, has_features=True),
        selected_moment("predicted_at", "predicted_at", "prediction_time"),
    ]
    # A group or query is no feature if none of the test rows is in the train rows, or if it is a time.
    others = [it for it in model.used("group") if it not in model.features]
    found += [SelectedColumn(it.name, it.name, it.sql_type, "context") for it in others]
    found += [
        SelectedColumn(it.name, it.name, it.sql_type, "feature", it.is_categorical)
        for it in model.features
        if not it.is_repeated
    ]
    found += [
        SelectedColumn(
            f"days_since_{it.name}",
            f"case when {model.moment_sql(it, it.name)} <= predicted_at\n"
            f"        then extract(epoch from predicted_at - {model.moment_sql(it, it.name)}) / 86400\n"
            f"    end as days_since_{it.name}",
            "double",
            "feature",
        )
        for it in model.times
    ]
    if model.has_hours:
        found.append(
            SelectedColumn(
                "hour_of_day",
                f"cast(extract(hour from {model.local_event}) as bigint) as hour_of_day",
                "bigint",
                "feature",
            )
        )
    if model.time is not None:
        part, name = ("month", "month_of_year") if model.has_months else ("isodow", "weekday")
        found.append(SelectedColumn(name, f"cast(extract({part} from day) as bigint) as {name}", "bigint", "feature"))
    return found


def label_columns(model: NewModel) -> list[SelectedColumn]:
    """Return the columns of the label table."""
    label = model.label_sql if model.label_sql == model.label.name else f"{model.label_sql} as {model.label.name}"
    return [
        *_identity(model),
        selected_moment("label_known_at", "label_known_at", "known_time"),
        SelectedColumn(model.label.name, label, model.label_type, "label"),
        *(SelectedColumn(it.name, it.name, it.sql_type, "context", rules=_POSITIVE) for it in model.used("weight")),
    ]
