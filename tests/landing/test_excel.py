"""Excel workbooks: each cell's value as the contract's type, or the cell and the reason why not."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import openpyxl
import polars as pl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import SourceError
from ml_assets.landing.excel import ExcelSheet
from ml_assets.landing.sources import Source

SCHEMA = {
    "n": pl.Int64(), "x": pl.Float64(), "word": pl.String(), "flag": pl.Boolean(), "day": pl.Date(),
    "at": pl.Datetime("us"),
}  # fmt: skip
HEADER = tuple(SCHEMA)
AT = datetime(2024, 1, 31, 5, 6, 7)  # noqa: DTZ001 - naive UTC is the house's form
ONE = (1, 0.1, "007", True, date(2024, 1, 31), AT)
ROWS = [ONE, (None,) * 4 + ("2024-02-01", None), (2, 3, 12, "f", None, "2024-01-31T05:06:07Z")]
READ = pl.DataFrame(
    [ONE, (None, None, None, None, date(2024, 2, 1), None), (2, 3.0, "12", False, None, AT)],
    schema=SCHEMA,
    orient="row",
)
Edit = Callable[[Any], object]


def workbook(rows: Sequence[Sequence[Any]], edit: Edit = lambda _: None, *, above: int = 0, epoch: Any = None) -> bytes:
    """Return a workbook with one sheet `Orders`, after an edit of the sheet."""
    book = openpyxl.Workbook()
    book.epoch = epoch or book.epoch
    [sheet] = book.worksheets
    sheet.title = "Orders"
    for n in range(above):
        sheet.append([f"note {n}"])
    for row in rows:
        sheet.append(row)
    edit(sheet)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def read(data: bytes, schema: Any = None, **how: Any) -> pl.DataFrame:
    how = {"null_values": ("",), **how}
    return Source("orders.xlsx", SCHEMA if schema is None else schema, **how).frame(data)


def table(*cells: Any, kind: Any = None) -> tuple[list[list[Any]], dict[str, pl.DataType]]:
    """Return the rows of a sheet with one column `v` after a column `n`, and its types."""
    return [["n", "v"], *([n, cell] for n, cell in enumerate(cells))], {"n": pl.Int64(), "v": kind or pl.String()}


@pytest.mark.parametrize("epoch", [None, CALENDAR_MAC_1904])
def test_every_row_below_the_header_is_read_with_the_types_of_the_contract(epoch: Any) -> None:
    assert_frame_equal(READ, read(workbook([HEADER, *ROWS], epoch=epoch)))


def test_sheet_and_header_row_are_as_declared() -> None:
    def add(sheet: Any) -> None:
        sheet.merge_cells("A1:C1")
        sheet.parent.create_sheet("Notes", 0).append(["n"])
        sheet.parent["Notes"].sheet_state = "hidden"

    data = workbook([HEADER, *ROWS], add, above=2)

    assert_frame_equal(READ, read(data, excel=ExcelSheet(sheet="Orders", header_row=3)))
    with pytest.raises(SourceError, match=r"has 2 sheets \('Notes', 'Orders'\); declare one: 'excel: \{sheet: …\}'"):
        read(data)
    with pytest.raises(SourceError, match="has no sheet 'orders'; expected one of 'Notes', 'Orders'"):
        read(data, excel=ExcelSheet(sheet="orders"))
    with pytest.raises(SourceError, match="sheet 'Notes' has no row 9; correct 'header_row'"):
        read(data, excel=ExcelSheet(sheet="Notes", header_row=9))


@pytest.mark.parametrize("pack", [gzip.compress, None])
def test_a_packed_workbook_is_read_under_any_name(pack: Any) -> None:
    data = workbook([HEADER, *ROWS])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.xlsx", data)

    source = Source("orders.csv", SCHEMA, ("",))
    assert_frame_equal(READ, source.frame(pack(data) if pack else packed.getvalue()))


def test_empty_rows_at_the_end_and_columns_without_a_name_and_values_are_not_read() -> None:
    def widen(sheet: Any) -> None:
        sheet.insert_cols(1)
        sheet.insert_cols(3)
        for cell in ("H9", "B9"):
            sheet[cell].font = openpyxl.styles.Font(bold=True)

    assert_frame_equal(READ, read(workbook([HEADER, *ROWS], widen)))
    assert_frame_equal(READ.clear(), read(workbook([HEADER])))


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ((2**53 - 1, "12", 3.0, "-4"), pl.Int64(), [2**53 - 1, 12, 3, -4]),
        ((0.1, 1e300, 7, "1e3", 1 / 3), pl.Float64(), [0.1, 1e300, 7.0, 1000.0, 1 / 3]),
        ((12, 3.0, 0.5, "007", True), pl.String(), ["12", "3", "0.5", "007", "true"]),
        ((" a\n", time(3, 4)), pl.String(), [" a\n", "03:04:00"]),
        ((True, 0, "t"), pl.Boolean(), [True, False, True]),
        ((date(2024, 1, 31), "2024-02-01"), pl.Date(), [date(2024, 1, 31), date(2024, 2, 1)]),
        ((date(2024, 1, 31), AT), pl.Datetime("us"), [datetime(2024, 1, 31), AT]),  # noqa: DTZ001
        (("NA", "", None, 1), pl.Int64(), [None, None, None, 1]),
    ],
)  # fmt: skip
def test_a_value_that_the_type_represents_is_read(cells: tuple[Any, ...], kind: Any, expected: list[Any]) -> None:
    rows, schema = table(*cells, kind=kind)

    assert expected == read(workbook(rows), schema, null_values=("", "NA"))["v"].to_list()


def test_dates_are_read_beside_texts_in_a_declared_format() -> None:
    rows, schema = table(date(2024, 1, 31), "01.02.2024", kind=pl.Date())

    found = read(workbook(rows), schema, formats={"v": "%d.%m.%Y"})
    assert [date(2024, 1, 31), date(2024, 2, 1)] == found["v"].to_list()
    with pytest.raises(SourceError, match=r"'v' has 1 value that is not date, in cell B3 \('2024-02-01'\)"):
        read(workbook([*rows[:2], [1, "2024-02-01"]]), schema, formats={"v": "%d.%m.%Y"})


def formula(value: str) -> Edit:
    def edit(sheet: Any) -> None:
        sheet["B2"] = value

    return edit


def error(sheet: Any) -> None:
    sheet["B2"].value, sheet["B2"].data_type = "#N/A", "e"


@pytest.mark.parametrize(
    ("cells", "kind", "edit", "message"),
    [
        (("a", "b"), pl.Int64(), None, "'v' has 2 values that are not bigint, the first in cell B2 ('a'); expected"),
        ((1.5,), pl.Int64(), None, "in cell B2 ('1.5'); it is not a whole number, declare data_type double"),
        (("31.01.2024",), pl.Date(), None, "otherwise declare 'formats: {v: …}'"),
        ((AT,), pl.Date(), None, "'v' has 1 value that is not date, in cell B2 ('2024-01-31T05:06:07')"),
        (("a", date(2024, 3, 1)), pl.String(), None, "has a date in cell B3, expected a text for 'v'. Excel"),
        ((timedelta(hours=30),), pl.Float64(), None, "column 'v' has 1 cell with a duration, the first is B2. Format"),
        ((1, 2), pl.Int64(), error, "column 'v' has 1 cell with an error, the first is B2 (#N/A). Correct the"),
        ((1, 2), pl.Int64(), formula("=A3*2"), "cell B2 of sheet 'Orders' has a formula whose value is not stored"),
        (("a", "b"), None, lambda it: it.merge_cells("B2:B3"), "cells B2:B3 of sheet 'Orders' are merged, so"),
        (("a", "b"), None, lambda it: it.insert_rows(3), "row 3 of sheet 'Orders' is empty, and rows follow it"),
        (("a",), None, lambda it: it.insert_rows(1), "cell A1 of sheet 'Orders' has no name, but cell A2"),
        (("a",), None, lambda it: it.cell(2, 4, "x"), "cell D1 of sheet 'Orders' has no name, but cell D2"),
        (("a",), None, lambda it: it.cell(1, 4, "v"), "cells B1 and D1 of sheet 'Orders' both name a column 'v'"),
        (("a",), None, lambda it: it.cell(1, 4, "w"), "has other columns than its contract: missing [], unknown ['w']"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_exactly_is_rejected_with_its_cell(
    cells: tuple[Any, ...], kind: Any, edit: Edit | None, message: str
) -> None:
    rows, schema = table(*cells, kind=kind)

    with pytest.raises(SourceError) as found:
        read(workbook(rows, edit or (lambda _: None)), schema)
    assert message in str(found.value)


@pytest.mark.parametrize("value", [timedelta(hours=30), "=B3*2"])
def test_a_column_that_is_not_declared_does_no_harm_if_it_cannot_be_read(value: object) -> None:
    rows, schema = table("a", "b")

    def edit(sheet: Any) -> None:
        sheet["C1"], sheet["C2"] = "w", value

    assert rows[1:] == [[*row] for row in read(workbook(rows, edit), schema).rows()]


def test_the_stored_value_of_a_formula_and_a_declared_error_are_read() -> None:
    rows, schema = table(1, 2, 3, kind=pl.Int64())
    data = workbook(rows, lambda it: (formula("=A3*2")(it), it.cell(3, 2, "=NA()"), it.cell(4, 2, '=""')))
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(stored, "w") as after:
        for name in before.namelist():
            text = before.read(name).decode()
            if name == "xl/worksheets/sheet1.xml":  # as Excel writes them
                text = text.replace("<f>A3*2</f><v />", "<f>A3*2</f><v>42</v>")
                text = re.sub(
                    r'<c r="B3"([^>]*)><f>NA\(\)</f><v ?/>', r'<c r="B3"\1 t="e"><f>NA()</f><v>#N/A</v>', text
                )
                text = re.sub(r'<c r="B4"([^>]*)><f>""</f><v ?/>', r'<c r="B4"\1 t="str"><f>""</f><v></v>', text)
            after.writestr(name, text)

    assert [42, None, None] == read(stored.getvalue(), schema, null_values=("", "#N/A"))["v"].to_list()
    with pytest.raises(SourceError, match=r"the first is B3 \(#N/A\).*add '#N/A' to 'null_values'"):
        read(stored.getvalue(), schema)


def test_a_value_of_a_personal_column_is_not_shown() -> None:
    rows, schema = table("Jane Roe", kind=pl.Int64())

    with pytest.raises(SourceError, match="not bigint, in cell B2; expected a number") as found:
        read(workbook(rows), schema, personal={"v"})
    assert "Jane" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: data[:-9] if name.endswith("sheet1.xml") else data, "is not readable as an Excel workbook"),
        (lambda name, data: None if name.endswith("sheet1.xml") else data, "has no sheet with cells"),
    ],
)  # fmt: skip
def test_a_damaged_workbook_is_refused(change: Callable[[str, bytes], bytes | None], message: str) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook([HEADER]))) as before, zipfile.ZipFile(data, "w") as after:
        for name in before.namelist():
            changed = change(name, before.read(name))
            if changed is not None:
                after.writestr(name, changed)

    with pytest.raises(SourceError, match=f"source file orders.xlsx {message}"):
        read(data.getvalue())


def test_a_workbook_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = workbook([HEADER])
    monkeypatch.setattr("ml_assets.landing.excel.most_bytes", lambda: 10_000)

    with pytest.raises(SourceError, match=r"unpacks to [\d,]+ bytes, too many for this machine's memory"):
        read(data)
