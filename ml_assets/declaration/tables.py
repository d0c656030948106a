"""The declarations of raw tables (sources, and how rows are assigned to days) and of the dbt project's tables."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ml_assets.contracts.periods import BY_DAY, BY_HOUR
from ml_assets.declaration.compute import Compute
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.parts import ColumnName, Days, Declaration, Name, Part, Share
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.excel import ExcelSheet
from ml_assets.landing.folders import is_several, pattern_of
from ml_assets.landing.text_values import TextFormat
from ml_assets.landing.time_formats import ColumnFormat
from ml_assets.secrets import without_secret


class DayColumns(Part):
    """What states the day of a row: one `column`; or `year`, `month` and `day`; or `sql`."""

    column: ColumnName | None = Field(
        default=None, description="Column with the date or the timestamp; with grain `hour`, a timestamp in UTC."
    )
    year: ColumnName | None = Field(default=None, description="Column with the year.")
    month: ColumnName | None = Field(default=None, description="Column with the month, 1 to 12.")
    day: ColumnName | None = Field(default=None, description="Column with the day of the month.")
    sql: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="SQL over the columns of the source that gives the row's day, a `date`, such as "
        "`cast(strptime(batch, 'B%Y%m%d') as date)`; with grain `hour`, a `timestamp` in UTC. DuckDB evaluates it. A "
        "row without a day is an error.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        parts = (self.year, self.month, self.day)
        ways = [self.column is not None, any(part is not None for part in parts), self.sql is not None]
        if ways.count(True) != 1:
            raise ValueError("give either 'column', or 'year', 'month' and 'day', or 'sql'")
        if self.column is None and self.sql is None and any(part is None for part in parts):
            raise ValueError("'year', 'month' and 'day' go together")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns, by the field that names each; none with `sql`."""
        return {field: column for field, column in self.model_dump(exclude={"sql"}).items() if column is not None}


def _file(text: str) -> str:
    without_secret(text)
    if is_several(text):
        pattern_of(text)
    return text


def _day_pattern(text: str) -> str:
    DayPattern.of(text)
    return text


class RawTable(Part):
    """The source of a raw table, and how its rows are assigned to days. Declare either `file` or `files`."""

    file: Annotated[str, AfterValidator(_file), Field(min_length=1)] | None = Field(
        default=None,
        description="One file: a path, a URL, or `package://NAME/path` for a file in a Python package. Or several "
        "files as one table, in the order of their names: a folder such as `data/orders/`, or a pattern such as "
        "`data/*.parquet` or `s3://bucket/orders/*.csv`, where `*` is any text within one name.",
    )
    files: Annotated[str, AfterValidator(_day_pattern)] | None = Field(
        default=None,
        description="Files by day: a pattern such as `landing/orders/{day}.csv` or "
        "`s3://bucket/orders/{day}/*.parquet`. `{day}` is the date; `{day:%Y%m%d}` formats it; `*` is any text within "
        "one name. With a coarser grain of `days`, all files whose day is in a period belong to it; `{day:%Y-%m}` and "
        "`{day:%Y}` name a file by its month or year. With grain `hour`, `{hour}` is the hour in UTC, such as "
        "`2024-03-31T01`, and `{hour:%Y%m%d%H}` formats it.",
    )
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60,
        description="For `files` in a folder: seconds that a file must have been unchanged before it is read. Objects "
        "on S3 are read at once.",
    )
    partition_by: DayColumns | None = Field(
        default=None,
        description="What states the day of a row. Without it, a `file` is landed as one table without days. "
        "Rows of `files` belong to the day in the file's name; a date column `day` must agree with it.",
    )
    row_key: ColumnName | None = Field(
        default=None,
        description="Column that landing adds as a key, for a source without a unique one: a digest of the rows up to "
        "this one, and its number. Declare it as `varchar` in the contract. Rows that are added at the end do not "
        "change it. A changed, inserted or removed row gives itself and all later rows another key.",
    )
    null_values: tuple[str, ...] = Field(
        default=("",),
        description="Texts that mean a missing value. If `NaN`, `inf` or `-inf` is named, the number in Parquet "
        "files is a missing value too.",
    )
    csv: CsvDialect = Field(
        default=CsvDialect(), description="Format of CSV files. Without it: RFC 4180, UTF-8, dates as in ISO 8601."
    )
    format: TextFormat | None = Field(
        default=None,
        description="Format of a text file: `csv`, or `json` (one object per line, or one array of objects). Without "
        "it, a file whose name ends in `.json`, `.jsonl` or `.ndjson` is JSON, also if it is packed (`.jsonl.gz`), and "
        "any other is CSV. Parquet and Excel (`.xlsx`) are recognized by their content.",
    )
    excel: ExcelSheet = Field(
        default=ExcelSheet(),
        description="Where the table is in an Excel workbook. Without it: in the only sheet, with "
        "the names of the columns in its first row.",
    )
    formats: dict[str, ColumnFormat] = Field(
        default={},
        description="Format of a column, by column. Of a date or timestamp: a format such as `%m/%d/%Y`; or "
        "`unix_seconds`, `unix_milliseconds`, `unix_microseconds` or `unix_nanoseconds` for whole numbers. Of a "
        "number: what is beside it, with a `#` in its place, such as `$#`, `# kg` or `#` (in brackets, a number is "
        "negative in each of them). In every kind of file.",
    )
    description: str = Field(default="", description="What the table holds. Shown in the UI.")
    quarantine: Share | None = Field(
        default=None,
        description="Share of a day's rows that may break a rule of the contract. Such rows are quarantined. Without "
        "it, one such row rejects the day.",
    )

    max_row_loss: Share = Field(
        default=0.5,
        description="Share of the rows of a day, or of a table without days, that may be missing when it is landed "
        "again. If more are missing, the landing is rejected. 1 accepts an empty file.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.files is None):
            raise ValueError("give either 'file', or 'files' with {day} in it")
        return self

    @property
    def is_by_day(self) -> bool:
        """Whether there is one artifact per day."""
        return self.partition_by is not None or self.files is not None


class RawDeclaration(Declaration):
    """The sources of the project. Each is landed as the asset `raw/<table>`."""

    owner: str | None = Field(default=None, description="Owner of the assets: an email address, or `team:NAME`.")
    days: Days = Field(description="Days that have a partition.")
    freshness: Freshness | None = Field(default=None, description="Maximum age of the raw tables.")
    compute: Compute | None = Field(
        default=None,
        description="Resources of a landing, which then runs in its own pod. Without it: in the pod of its run.",
    )
    tables: dict[Name, RawTable] = Field(description="Source of each raw table, by the name of the table.")

    @model_validator(mode="after")
    def _files_of_periods(self) -> Self:
        for name, table in self.tables.items():
            by, grain = table.partition_by, None if table.files is None else DayPattern.of(table.files).grain
            if self.days.grain == BY_HOUR and by is not None and by.column is None and by.sql is None:
                raise ValueError(
                    f"'partition_by' of table '{name}' has year, month and day, but the days have grain 'hour'; "
                    "expected 'column' with a timestamp in UTC, or 'sql' that gives one"
                )
            if (grain == BY_HOUR) != (self.days.grain == BY_HOUR) and grain is not None:
                expected = "{hour} in place of {day}" if grain != BY_HOUR else "{day} in place of {hour}"
                raise ValueError(
                    f"'files' of table '{name}' names files by {grain} ({table.files}), but the days have grain "
                    f"'{self.days.grain}'; expected {expected}"
                )
            if grain not in {None, BY_DAY, self.days.grain} and (grain, self.days.grain) != ("month", "year"):
                raise ValueError(
                    f"'files' of table '{name}' names files by {grain} ({table.files}), but the days have grain "
                    f"'{self.days.grain}'; expected year, month and day: use {{day}}, or give 'days' the grain "
                    f"'{grain}'"
                )
        return self


class TablesDeclaration(Declaration):
    """Models of the dbt project. Each is the asset `tables/<model>`."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Names of the dbt models that this declaration is for. Without it, all that no other declaration "
        "names. Several declarations are for tables with different days.",
    )
    days: Days = Field(description="Days that have a partition.")
    freshness: Freshness | None = Field(default=None, description="Maximum age of the tables.")
    compute: Compute | None = Field(
        default=None, description="Resources of dbt, which then runs in its own pod. Without it: in the pod of its run."
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="CPU cores that DuckDB uses for one table. With more than one, sums and means of floating-point "
        "columns differ in their last digits from run to run; those of whole numbers and decimals do not.",
    )
    quarantine: dict[Name, Share] = Field(
        default={},
        description="Share of a day's rows that may break a rule of the contract, by table. Such rows are quarantined. "
        "For a table that is not named, one such row rejects the day.",
    )
