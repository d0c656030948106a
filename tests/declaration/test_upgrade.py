from collections.abc import Iterator

import pytest
import yaml

from ml_assets.declaration.reading import DeclarationError, read_declaration
from ml_assets.declaration.upgrade import Edit, Revision, Rewrite, upgrade_declaration

TABLES = """\
# Äpfel: the dbt project  # yes
type: ml_assets.DbtTables
attributes:
  # Days of the shop.
  days:   {first: 2024-01-01}   # opened
  threads: 2
"""
ADDED = "A declaration states the version of its format, so that a later ml-assets can upgrade it."


def renamed(old: str, new: str) -> Rewrite:
    """Return a rewrite that renames a field of the declaration."""

    def rewrite(_: str, attributes: yaml.MappingNode) -> Iterator[Edit]:
        for key, _ in attributes.value:
            if key.value == old:
                yield Edit(
                    key.start_mark.index, key.end_mark.index, new, f"renames '{old}' to '{new}'", "It is clearer."
                )

    return rewrite


def test_a_declaration_of_the_current_version_is_unchanged() -> None:
    text = TABLES.replace("  threads", "  version: 1\n  threads")

    assert (text, ()) == (upgrade_declaration(text, where="a").text, upgrade_declaration(text, where="a").revisions)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_declaration_without_a_version_gets_it_as_its_first_field_and_nothing_else_changes(end: str) -> None:
    upgraded = upgrade_declaration(TABLES.replace("\n", end), where="a")

    assert TABLES.replace("  days", "  version: 1\n  days").replace("\n", end) == upgraded.text
    assert (Revision(5, "adds 'version: 1'", ADDED),) == upgraded.revisions
    assert read_declaration(TABLES, where="a") == read_declaration(upgraded.text, where="a")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("{days: {first: 2024-01-01}}", "{version: 1, days: {first: 2024-01-01}}"),
        ("\n    'days': {first: 2024-01-01}", "\n    version: 1\n    'days': {first: 2024-01-01}"),
    ],
)
def test_the_version_is_written_in_the_style_of_the_declaration(attributes: str, expected: str) -> None:
    text = "type: ml_assets.DbtTables\nattributes: "

    assert text + expected == upgrade_declaration(text + attributes, where="a").text


def test_an_empty_declaration_gets_its_version() -> None:
    text = "type: ml_assets.Automation\nattributes: {}\n"

    assert text.replace("{}", "{version: 1}") == upgrade_declaration(text, where="a").text


def test_rewrites_are_applied_one_version_after_the_other() -> None:
    rewrites = {2: renamed("threads", "workers"), 4: renamed("workers", "cores")}
    upgraded = upgrade_declaration(TABLES, where="a", rewrites=rewrites, version=4)

    assert TABLES.replace("  days", "  version: 4\n  days").replace("threads", "cores") == upgraded.text
    assert [
        Revision(6, "renames 'threads' to 'workers'", "It is clearer."),
        Revision(6, "renames 'workers' to 'cores'", "It is clearer."),
        Revision(5, "adds 'version: 4'", ADDED),
    ] == [*upgraded.revisions]


def test_only_the_rewrites_after_a_declarations_version_are_applied() -> None:
    text = TABLES.replace("threads: 2", "threads: 2\n  version: 2  # of the format")
    rewrites = {2: renamed("threads", "workers"), 3: renamed("days", "partitions")}
    upgraded = upgrade_declaration(text, where="a", rewrites=rewrites, version=3)

    assert text.replace("days:", "partitions:").replace("version: 2", "version: 3") == upgraded.text
    assert "sets 'version: 3'" == upgraded.revisions[-1].change


@pytest.mark.parametrize("version", ["2", "0", "'1'", "true", "null"])
def test_a_version_that_the_engine_does_not_know_is_refused(version: str) -> None:
    with pytest.raises(DeclarationError, match="expected a whole number from 1 to 1, the version of the installed"):
        upgrade_declaration(TABLES + f"  version: {version}\n", where="a")


def test_the_result_must_be_a_declaration_that_can_be_read() -> None:
    with pytest.raises(DeclarationError, match="a:7: threads: Input should be greater than or equal to 1, got 0"):
        upgrade_declaration(TABLES.replace("2\n", "0\n"), where="a")
