from pathlib import Path

import pytest

from ml_assets.project import Project, ProjectError


def project(folder: Path, settings: str) -> Project:
    (folder / "pyproject.toml").write_text(f"[tool.ml-assets]\n{settings}\n", encoding="utf-8")
    return Project(folder)


def test_the_parts_of_a_project_are_where_the_table_says_else_at_the_usual_places(tmp_path: Path) -> None:
    found = project(tmp_path, 'defs = "src/shop/defs"\ndefinitions = "src/shop/definitions.py"')

    assert (tmp_path / "src/shop/defs", tmp_path / "src/shop/definitions.py", tmp_path / "dbt_project") == (
        found.declarations,
        found.definitions,
        found.dbt,
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('def = "x"', "has the unknown setting 'def'; expected one of definitions, defs, dbt_project."),
        ('defs = "/x"', "sets defs = '/x'; expected a path from the project's folder, as in defs = \"src/shop/defs\"."),
        ("defs = 1", 'sets defs = 1; expected a path from the project\'s folder, as in defs = "src/shop/defs".'),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(settings: str, expected: str, tmp_path: Path) -> None:
    wrong = project(tmp_path, settings)

    with pytest.raises(ProjectError) as error:
        _ = wrong.declarations

    assert f"{tmp_path / 'pyproject.toml'}: [tool.ml-assets] {expected}" == str(error.value)
