"""Renders the files of a new model: declarations, dbt models with their contracts, a test and a notebook."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import PurePosixPath
from typing import Final
from zoneinfo import ZoneInfo

from ml_assets.authoring.columns import NewColumn
from ml_assets.authoring.new_model import NewModel

_EXAMPLES: Mapping[str, str] = {
    "boolean": "True",
    "bigint": "1",
    "double": "1.0",
    "varchar": '"a"',
    "date": "DAY",
    "timestamp": "EVENT",
}
_PLAIN: Final = re.compile(r"[A-Za-z_][\w ./()=-]*[\w).]|[A-Za-z]")
_POSITIVE: Final = ("{ml_assets.in_range: {arguments: {minimum: 0}}}",)
_YAML_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


@dataclass(frozen=True)
class SelectedColumn:
    """A column of a dbt model: the SQL that selects it, and its line in the contract."""

    name: str
    sql: str
    sql_type: str
    role: str = ""
    is_categorical: bool = False
    rules: tuple[str, ...] = ()

    @property
    def declared_type(self) -> str:
        """Its type in the contract; nothing for a column that is selected as it is, which has the type of its table."""
        return "" if self.sql == self.name else f", data_type: {self.sql_type}"

    @property
    def tests(self) -> str:
        """The end of its line in the contract."""
        return f", data_tests: [{', '.join(self.rules)}]" if self.rules else ""

    @property
    def example(self) -> str:
        """A list of one value, as Python."""
        return f"[{'KNOWN' if self.role == 'known_time' else _EXAMPLES[self.sql_type]}]"


def files_of(model: NewModel, *, defs: PurePosixPath, dbt: PurePosixPath) -> dict[PurePosixPath, str]:
    """Return the files of a new model, by their paths in the project.

    Args:
        model: the model.
        defs: the folder of the declarations.
        dbt: the folder of the dbt project.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("ml_assets", "templates/new"), block_start_string="[%", block_end_string="%]",
        variable_start_string="[[", variable_end_string="]]", comment_start_string="[#", comment_end_string="#]",
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the files are not HTML
    )  # fmt: skip
    jinja.filters["yaml"] = _yaml
    outcomes, doubts = label_columns(model), model.found.doubts
    baseline = model.baseline()
    values = {
        "model": model,
        "days": model.days.declared,
        "key": [it.name for it in model.key],
        "baselines": [[baseline]] if baseline else [],
        "description": _description(model),
        "staged": staging_columns(model),
        "featured": feature_columns(model),
        "read_by_features": _read_columns(model, ("feature", "group"), "predicted_at"),
        "read_by_outcomes": _read_columns(model, ("target",), "label_known_at"),
        "outcomes": outcomes,
        "left_out": [(it.source, _text(it.why)) for it in model.used("left out")],
        "doubts": {name: f"  # chosen, but {doubt}" for name, doubt in doubts.items()},
        "sheet_comment": _sheet_comment(model),
        "new_feature": _new_feature(model),
        "noon": datetime.combine(model.days.first, time(12), ZoneInfo(model.days.timezone)).astimezone(UTC),
        "example_of_label": f"[{_EXAMPLES[model.label_type]}]",
    }
    name, models = model.name, dbt / "models" / model.name
    values["tables"] = [*(() if model.found.dbt_model else (model.origin,)), f"{name}_features", f"{name}_outcomes"]
    own = {
        defs / f"{name}_raw" / "defs.yaml": "raw.yaml.jinja",
        models / f"stg_{name}.sql": "staging.sql.jinja",
    }
    templates = {
        **({} if model.found.dbt_model else own),
        defs / f"{name}_tables" / "defs.yaml": "tables.yaml.jinja",
        defs / name / "defs.yaml": "model.yaml.jinja",
        models / f"_{name}.yml": "contracts.yml.jinja",
        models / f"{name}_features.sql": "features.sql.jinja",
        models / f"{name}_outcomes.sql": "outcomes.sql.jinja",
        PurePosixPath("tests", f"test_{name}.py"): "test.py.jinja",
        PurePosixPath("notebooks", f"{name}.ipynb"): "notebook.ipynb.jinja",
    }
    return {path: jinja.get_template(template).render(values) for path, template in templates.items()}


def _new_feature(model: NewModel) -> str:
    """Return SQL over the features, as an example: the product of two numbers, or whether a value is missing."""
    numbers = [it.name for it in feature_columns(model) if it.role == "feature" and it.sql_type in ("bigint", "double")]
    names = [it.name for it in feature_columns(model) if it.role == "feature"]
    return " * ".join(numbers[:2]) if len(numbers) > 1 else f"{names[0]} is null" if names else "1"


def _sheet_comment(model: NewModel) -> str:
    sheet = model.found.sheet
    return "" if sheet is None or not sheet.others or sheet.is_given else f"  # chosen because {_text(sheet.why)}"


def _yaml(value: object) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(it)}" for key, it in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, date | int | float):
        return str(value).lower()
    text = str(value)
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    if is_plain:
        return text
    is_simple = text.isprintable() and "'" not in text
    return f"'{text}'" if is_simple and '"' in text else json.dumps(text, ensure_ascii=False)


def _text(text: str) -> str:
    """Return a text that may have names and values from data, on one line and without what Dagster would evaluate."""
    return re.sub(r"\{(?=[{%#])", "{ ", " ".join(text.split()))


def _description(model: NewModel) -> str:
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
    for column in model.source_columns:
        if column.use == "left out":
            continue
        if column == model.time:
            found.append(_moment(column.name, model.event_sql))
        else:
            sql = column.name if column.source == column.name else f"{column.quoted} as {column.name}"
            found.append(SelectedColumn(column.name, sql, column.sql_type, rules=_rules(column, model)))
    found += [] if model.time is not None else [_moment(model.event, model.event_sql)]
    known = replace(_moment("label_known_at", model.label_known), rules=() if model.is_label_open else ("not_null",))
    return [*found, _moment("predicted_at", model.predicted), known]


def _read_columns(model: NewModel, uses: Sequence[str], known: str) -> list[SelectedColumn]:
    """Return what features or outcomes read of the dbt model that the table is: columns with some uses, and times."""
    names = {it.name for it in model.used("key", "time", *uses)} | {"day", model.event, known}
    return [it for it in staging_columns(model) if it.name in names]


def _moment(name: str, sql: str, role: str = "") -> SelectedColumn:
    return SelectedColumn(name, name if sql == name else f"{sql} as {name}", "timestamp", role, rules=("not_null",))


def _rules(column: NewColumn, model: NewModel) -> tuple[str, ...]:
    if column.use == "key":
        return ("not_null", "unique") if len(model.key) == 1 else ("not_null",)
    return ()


def _identity(model: NewModel) -> list[SelectedColumn]:
    """Return the columns that features and outcomes share."""
    day = SelectedColumn("day", "day", "date", "context", rules=("not_null",))
    keys = [
        SelectedColumn(it.name, it.name, it.sql_type, "entity", rules=_rules(it, model))
        for it in model.key
        if it != model.time
    ]
    return [*keys, day, _moment(model.event, model.event, "event_time")]


def feature_columns(model: NewModel) -> list[SelectedColumn]:
    """Return the columns of the feature table."""
    found = [
        *_identity(model),
        _moment("predicted_at", "predicted_at", "prediction_time"),
    ]
    # A group or query is no feature if none of the test rows is in the train rows, or if it is a time.
    others = [it for it in model.used("group") if it not in model.features]
    found += [SelectedColumn(it.name, it.name, it.sql_type, "context") for it in others]
    found += [SelectedColumn(it.name, it.name, it.sql_type, "feature", it.is_categorical) for it in model.features]
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
        weekday = "cast(extract(isodow from day) as bigint) as weekday"
        found.append(SelectedColumn("weekday", weekday, "bigint", "feature"))
    return found


def label_columns(model: NewModel) -> list[SelectedColumn]:
    """Return the columns of the label table."""
    label = model.label_sql if model.label_sql == model.label.name else f"{model.label_sql} as {model.label.name}"
    return [
        *_identity(model),
        _moment("label_known_at", "label_known_at", "known_time"),
        SelectedColumn(model.label.name, label, model.label_type, "label"),
        *(SelectedColumn(it.name, it.name, it.sql_type, "context", rules=_POSITIVE) for it in model.used("weight")),
    ]
