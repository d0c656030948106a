"""Where raw tables come from and how they are cut into days, and which dbt project makes tables of them."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ml_assets.declaration.compute import Compute
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.parts import Days, Name, Part, Share
from resources.csv_dialect import CsvDialect
from resources.day_pattern import DayPattern
from resources.secrets import without_secret
from resources.time_formats import ColumnFormat


class DayColumns(Part):
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

    @property
    def columns(self) -> dict[str, str]:
        """The columns, by the field that names each."""
        return {field: column for field, column in self.model_dump().items() if column is not None}


def _day_pattern(text: str) -> str:
    DayPattern.of(text)
    return text


class RawTable(Part):
    """Where a source's rows come from, one file or files day by day, and how they are cut into days."""

    file: Annotated[str, AfterValidator(without_secret), Field(min_length=1)] | None = Field(
        None, description="a path, a URL, or package://NAME/path"
    )
    files: Annotated[str, AfterValidator(_day_pattern)] | None = Field(
        None,
        description="the files of each day, such as landing/orders/{day}.csv or s3://bucket/orders/{day}/*.parquet",
    )
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60, description="with 'files': how long a file in a folder must have stayed as it is; S3's appear whole"
    )
    by: DayColumns | None = Field(
        None,
        description="absent: the table is landed whole; with 'files', rows are of the day in the name, and a date "
        "column 'day' must agree with it",
    )
    null_values: tuple[str, ...] = Field(
        ("",), description="texts that stand for a missing value; NaN, inf and -inf in Parquet too, where named"
    )
    csv: CsvDialect = Field(CsvDialect(), description="how CSV files are written; absent: RFC 4180, UTF-8, ISO 8601")
    formats: dict[str, ColumnFormat] = Field(
        {},
        description="by date or timestamp column: a format such as %m/%d/%Y that this column alone has, or "
        "unix_seconds, unix_milliseconds, … of whole numbers, in Parquet too",
    )
    description: str = ""
    quarantine: Share | None = Field(
        None, description="share of a day's rows that may break row rules and be set aside; absent: none"
    )

    may_shrink: Share = Field(
        0.5,
        description="share of a day's rows, or of a whole table's, that a new landing may lack; more is rejected. "
        "1 accepts even an empty file",
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


class RawDeclaration(Part):
    """The sources that are landed as `raw/<table>`."""

    owner: str | None = None
    days: Days
    freshness: Freshness | None = None
    compute: Compute | None = Field(None, description="of each landing's pod; absent: it runs in the run's")
    tables: dict[Name, RawTable]


class TablesDeclaration(Part):
    """The dbt project whose models become tables of the lake."""

    days: Days
    freshness: Freshness | None = None
    compute: Compute | None = Field(None, description="of the pod that runs dbt; absent: it runs in the run's")
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1,
        description="cores that DuckDB uses for one table; with more than one, sums and means of floating-point "
        "columns differ in their last digits from run to run, those of whole numbers and decimals do not",
    )
    quarantine: dict[Name, Share] = Field(
        {}, description="by table: share of a day's rows that may break row rules and be set aside"
    )
