"""A declared file that stands for several: which files are read, in which order, and what is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ml_assets.declaration.tables import RawTable
from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.landing import folders
from ml_assets.landing.folders import each_file, is_several, source_digest


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")


def names(file: str) -> list[str]:
    found = [*each_file(file, Access())]
    assert all(data.decode().endswith(name) for name, _, data in found)
    return [name for name, _, _ in found]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("data/orders.csv", False), ("data/orders", False), ("data/orders/", True), ("data/*.parquet", True),
        ("s3://in/orders/", True), ("s3://in/orders/*/a.csv", True), ("s3://in/orders.csv", False),
        ("https://example.org/export/", False), ("https://example.org/export?q=*", False), ("package://shop/a*", False),
    ],
)  # fmt: skip
def test_a_folder_ends_with_a_slash_and_a_pattern_has_a_star(file: str, *, expected: bool) -> None:
    assert is_several(file) == expected


def test_all_files_of_a_folder_are_read_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    write(tmp_path, "in/b.csv", "in/a{day}.csv", "in/a-10.csv", "in/_SUCCESS", "in/.a.csv.crc", "in/_temporary/0/c.csv")

    assert ["a-10.csv", "a{day}.csv", "b.csv"] == names(f"{tmp_path}/in/")


def test_a_pattern_reads_what_it_matches(tmp_path: Path) -> None:
    write(tmp_path, "in/2024/b.csv", "in/2023/c.csv", "in/2023/d.txt", "in/2023/.e.csv", "in/_f/g.csv", "in/h.csv")

    assert ["2023/c.csv", "2024/b.csv", "_f/g.csv"] == names(f"{tmp_path}/in/*/*.csv")
    assert ["c.csv", "d.txt"] == names(f"{tmp_path}/in/2023/*")


def test_a_folder_or_link_in_a_folder_is_an_error_because_its_rows_would_be_missing(tmp_path: Path) -> None:
    write(tmp_path, "in/a.csv", "in/year=2023/b.csv", "c.csv")
    with pytest.raises(SourceError, match=r"/in/ contains year=2023, which would not be read.*/in/\*/\*\.parquet"):
        names(f"{tmp_path}/in/")

    write(tmp_path, "out/a.csv")
    (tmp_path / "out" / "c.csv").symlink_to(tmp_path / "c.csv")
    with pytest.raises(SourceError, match=r"/out/ contains c\.csv, which would not be read: folders in it and links"):
        names(f"{tmp_path}/out/")


def test_no_file_or_more_than_memory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "in/_SUCCESS")
    with pytest.raises(SourceError, match=r"there is no file .*/in/\*\. Put one there, or correct 'file'"):
        names(f"{tmp_path}/in/")
    with pytest.raises(SourceError, match=r"/out cannot be listed for .*/out/\*: No such file or directory"):
        names(f"{tmp_path}/out/")

    write(tmp_path, "in/a.csv", "in/b.csv")
    monkeypatch.setattr(folders, "memory_bytes", lambda: 9)
    with pytest.raises(SourceError, match=r"the 2 files of .*/in/ have 16 bytes, more than this machine's memory"):
        names(f"{tmp_path}/in/")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("in/**/a.csv", r"'\*\*' is not supported"),
        ("in/../*.csv", "has an empty part, or '..'"),
        ("s3://*/a.csv", "has no fixed bucket"),
        ("s3://key:hunter2@in/*.csv", "contains a secret"),
    ],
)
def test_an_invalid_pattern_is_refused_when_it_is_declared(file: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        RawTable(file=file)
    assert "hunter2" not in str(error.value)


def test_the_digest_of_a_folder_changes_with_the_content_and_the_name_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, "in/a.csv", "in/b.csv")
    folder, found = f"{tmp_path}/in/", []

    def note() -> None:
        found.append(source_digest(folder, Access()))

    note()
    (tmp_path / "in" / "b.csv").write_text("c")
    note()
    (tmp_path / "in" / "b.csv").rename(tmp_path / "in" / "c.csv")
    note()
    (tmp_path / "in" / "c.csv").rename(tmp_path / "in" / "b.csv")
    (tmp_path / "in" / "b.csv").write_text("in/b.csv")
    note()

    assert 3 == len({*found})
    assert found[0] == found[3]


def test_objects_of_a_bucket_are_read_as_files_of_a_folder(s3: Callable[[str], Mapping[str, Any]]) -> None:
    import boto3

    options = s3("folders")
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1",
                          aws_access_key_id="key", aws_secret_access_key="secret")  # fmt: skip
    for name in ["in/b.csv", "in/a b.csv", "in/_SUCCESS", "in/_temporary/a.csv", "other/a.csv", "deep/x/a.csv"]:
        client.put_object(Bucket="folders", Key=name, Body=name.encode())
    client.close()
    access = Access.of({**options, "client_kwargs": {"region_name": "us-east-1"}})

    found = [("in/a b.csv", "s3://folders/in/a b.csv"), ("in/b.csv", "s3://folders/in/b.csv")]
    for file in ("s3://folders/in/", "s3://folders/in/*.csv"):
        assert [(*it, it[0].encode()) for it in found] == [*each_file(file, access)]
    with pytest.raises(SourceError, match=r"the folder s3://folders/deep/ contains x/, which would not be read"):
        [*each_file("s3://folders/deep/", access)]
    with pytest.raises(SourceError, match=r"there is no file s3://folders/none/\*"):
        [*each_file("s3://folders/none/", access)]
