"""The documentation, compared with the code: commands, declarations, examples, settings, paths and links."""

import argparse
import re
import shlex
import shutil
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.assembly import STAGES
from ml_assets.cli.flow.summary import summary_text
from ml_assets.cli.main import parser
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import read_declaration
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.models.plan import ModelPlan
from ml_assets.orchestration.flow import CARD, INPUTS, MONITORING, SERVED, SHADOW, TRAINING
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_manifest

ROOT = Path(__file__).parent.parent
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "BENCHMARKS.md", "deploy/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
README, CONTRIBUTING, CHANGELOG = (TEXTS[page] for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
OWN_TABLE, COMMANDS = (TEXTS[f"docs/{page}.md"] for page in ("your-own-table", "commands"))
README_LINES = 150
WRITTEN_BY_THE_READER = {"defs/flight_minutes/defs.yaml", "dbt_project/models/_models.yml"} | {
    f"dbt_project/models/{name}.sql" for name in ("staging/stg_orders", "marts/order_features", "marts/order_outcomes")
}


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of the surrounding list."""
    found = re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE) for match in found]


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def quoted(text: str) -> list[str]:
    """Return the text in backticks outside of blocks, across line ends too."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without_blocks(text))]


def commands(text: str) -> list[list[str]]:
    """Return every command line of a page as words, without comments and without the brackets of optional words."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()] + quoted(text)
    return [words for line in lines if (words := shlex.split(re.sub(r"[\[\]]", "", line), comments=True))]


def ours(text: str) -> list[list[str]]:
    return [words[1:] for words in commands(text) if words[0].removeprefix(".venv/bin/") == "ml-assets" and words[1:]]


def subcommands() -> Mapping[str, argparse.ArgumentParser]:
    action = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_every_quoted_command_parses(page: str) -> None:
    for words in ours(TEXTS[page]):
        assert parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES)
def test_every_quoted_module_that_python_runs_exists(page: str) -> None:
    modules = re.findall(r"python -m (benchmarks[\w.]*)", TEXTS[page])

    assert [name for name in modules if find_spec(name) is None] == []


def test_every_section_of_the_benchmarks_has_its_command() -> None:
    sections = re.split(r"^## ", TEXTS["BENCHMARKS.md"], flags=re.MULTILINE)[1:]

    assert [section.splitlines()[0] for section in sections if "python -m benchmarks." not in section] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_quoted_make_target_is_in_the_makefile(page: str) -> None:
    named = {words[1] for words in commands(TEXTS[page]) if words[0] == "make" and len(words) > 1}

    assert named - targets() == set()


def test_the_page_of_commands_lists_every_command_and_each_of_its_options() -> None:
    text = " ".join(" ".join(words) for words in ours(COMMANDS)) + " ".join(quoted(COMMANDS))
    options = {
        f"{name} {option}"
        for name, command in subcommands().items()
        for action in command._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }

    assert {words[0] for words in ours(COMMANDS)} == set(subcommands())
    assert {option for option in options if option.split()[1] not in text} == set()


def test_the_arguments_of_the_short_demo_are_those_of_run_and_the_same_everywhere() -> None:
    written = [
        match
        for text in (*TEXTS.values(), *((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", ".ci/run")))
        for match in re.findall(r'(?:DEMO_ARGS|short)="(--[^"]+)"', text)
    ]

    assert len(written) >= 3
    assert len(set(written)) == 1
    assert parser().parse_args(["run", "flight_delay", *written[0].split()]).as_of


def test_the_clean_clone_check_is_executable_and_calls_the_readmes_two_commands_and_the_long_tests() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")

    assert script.stat().st_mode & 0o111
    assert [text.count(f"\nmake {target} ") for target in ("test", "demo", "test-long")] == [1, 2, 1]


def test_the_readme_fits_on_few_screens_and_has_the_two_commands_of_the_clean_clone_check() -> None:
    assert len(README.splitlines()) <= README_LINES
    assert [["make", target] in commands(README) for target in ("demo", "test")] == [True, True]


def test_the_second_model_of_the_own_table_page_fits_the_projects_tables(manifest: Mapping[str, Any]) -> None:
    declaration = read_declaration(blocks(OWN_TABLE, "yaml")[5], where="your-own-table.md")

    assert isinstance(declaration, ModelDeclaration)
    plan = ModelPlan.of(declaration, contracts_from_dbt(manifest))
    assert plan.labels_table.column(declaration.labels.target).role == "label"


def test_the_raw_table_and_the_days_of_the_own_table_page_are_valid() -> None:
    raw, tables = (read_declaration(blocks(OWN_TABLE, "yaml")[at], where="your-own-table.md") for at in (0, 2))

    assert isinstance(raw, RawDeclaration)
    assert isinstance(tables, TablesDeclaration)
    assert raw.tables["orders"].csv.encoding == "windows-1252"
    assert raw.days == tables.days


def test_the_model_of_the_own_table_page_fits_its_contracts_and_its_sql(tmp_path: Path) -> None:
    _, sources, _, models, model, _, each = blocks(OWN_TABLE, "yaml")
    dbt = ROOT / "dbt_project"
    shutil.copy(dbt / "profiles.yml", tmp_path)
    shutil.copy(dbt / "dbt_project.yml", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "_sources.yml").write_text(sources, encoding="utf-8")
    (tmp_path / "models" / "_models.yml").write_text(models, encoding="utf-8")
    for name, sql in zip(("stg_orders", "order_features", "order_outcomes"), blocks(OWN_TABLE, "sql"), strict=True):
        (tmp_path / "models" / f"{name}.sql").write_text(sql, encoding="utf-8")
    prepare_manifest(tmp_path)
    contracts = contracts_from_dbt(read_manifest(tmp_path))
    declaration = read_declaration(model, where="your-own-table.md")

    assert isinstance(declaration, ModelDeclaration)
    plan = ModelPlan.of(declaration, contracts)
    assert plan.labels_table.column(declaration.labels.target).role == "label"
    assert contracts["raw/orders"].column("returned_at").known_time == "returned_at"
    several = ModelDeclaration.model_validate(yaml.safe_load(model)["attributes"] | yaml.safe_load(each))
    names = [ModelPlan.of(it, contracts).name for it in several.members]
    assert names == ["order_return", "order_return_north", "order_return_south"]
    assert [column.name for column in contracts["order_features"].with_role("feature")] == ["warehouse", "items"]


@pytest.mark.parametrize(
    ("page", "field"), [("deploy", "compute"), ("operate", "freshness"), ("how-it-decides", "challengers")]
)
def test_the_fields_of_a_declaration_that_a_page_shows_are_valid(page: str, field: str) -> None:
    examples = [it for it in blocks(TEXTS[f"docs/{page}.md"], "yaml") if it.startswith(f"{field}:")]
    text = (ROOT / "defs/flight_delay/defs.yaml").read_text(encoding="utf-8")

    for example in examples:
        shown, declared = yaml.safe_load(example), yaml.safe_load(text)["attributes"]
        assert ModelDeclaration.model_validate(declared | shown).model_fields_set >= set(shown)
    assert examples


def test_the_example_of_calling_an_asset_runs_unchanged(manifest: Mapping[str, Any]) -> None:
    assert manifest["nodes"]
    (example,) = blocks(CONTRIBUTING, "python")

    exec(compile(example, "CONTRIBUTING.md", "exec"), {})  # noqa: S102 - the example is this project's own


def test_the_summary_shown_has_the_parts_of_the_real_one() -> None:
    shown = blocks(README, "text")[0]
    real = summary_text(
        {
            "model": "m", "grain": "day", "as_of": "2013-12-31",
            "rows": {"train": 1}, "excluded_rows": {"no label yet": 1},
            "labels_without_features": 0,
            "sources": {"rows": [{"raw/flights": 2, "m/features": 2}], "excluded_rows": {}, "empty_days": {}},
            "leaks": {"proven": [], "suspects": [], "sentence": "No leak was found.", "assumed_known_times": []},
            "missing_days": {},
            "features": {"selected": 1, "dropped": [], "shap_share": {"carrier": 1.0}, "left_out": {"tail": "unknown"}},
            "tested": "2 test rows",
            "metrics": {"roc_auc": {"value": 0.7, "low": 0.6, "high": 0.8}},
            "baselines": {"constant": {"roc_auc": 0.5}},
            "decides": {"metric": "roc_auc", "groups": None}, "operating_point": None,
            "known_groups": None,
            "verdict": {"action": "promote", "challenger": "a" * 32, "number": 1, "reasons": ["it is better"]},
            "champion": "a" * 32, "anchor": "a" * 32,
            "predicted": {"first": "2013-11-01", "last": "2013-12-31", "rows": 2, "labelled": 1, "learned_from": 0},
            "performance": {"metric": "roc_auc", "days": 1, "days_measured": 1, "labelled": 1, "last": "it is 0.7"},
            "drift": {"verdict": "over the limits on 1 day", "days_over": ["2013-12-31"], "last": "over"},
            "card": "lake/card.html", "lake": "lake", "seconds": 1.0,
        }
    )  # fmt: skip

    def parts(text: str) -> list[str]:
        return re.findall(r"^  (\w+)  ", text, re.MULTILINE)

    assert parts(real) == parts(shown)


def test_every_stage_is_in_the_readmes_flow_and_materialized_by_run() -> None:
    names = {factory.__name__ for factory in STAGES}

    assert names == {*INPUTS, *TRAINING, *MONITORING, *SHADOW, *CARD, *SERVED}
    assert {name for name in names if name not in blocks(README, "")[0]} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_this_project_that_a_page_names_exists(page: str) -> None:
    names = ("ml_assets", "resources", "sensors", "dbt_project", "tests", "docs", "deploy", "benchmarks", ".ci")
    tops = tuple(f"{name}/" for name in names)
    paths = [path for path in quoted(TEXTS[page]) if re.fullmatch(r"[\w./-]+", path) and path.startswith(tops)]
    missing = {path for path in paths if not (ROOT / path).exists()}

    assert missing - WRITTEN_BY_THE_READER == set()


def test_the_layout_names_real_paths_and_leaves_no_part_of_the_code_out() -> None:
    listed = {line.split()[0].rstrip("/") for line in blocks(CONTRIBUTING, "text")[0].splitlines()}
    packages = {
        f"ml_assets/{path.name}"
        for path in (ROOT / "ml_assets").iterdir()
        if path.suffix == ".py" or any(path.glob("**/*.py")) or any(path.glob("**/*.yaml"))
    } - {"ml_assets/__init__.py"}

    assert {path for path in listed if not (ROOT / path).exists()} == set()
    assert packages - listed == set()


def test_the_layers_in_the_guide_are_those_that_the_linter_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checked = next(c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    written = [re.split(r"   +", line)[0] for line in blocks(CONTRIBUTING, "text")[1].splitlines()]

    assert [" | ".join(re.split(r" *\| *", line)) for line in checked] == [
        " | ".join(re.split(r" *\| *", line)) for line in written
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: str) -> None:
    links = [it for it in re.findall(r"\]\(([^)]+)\)", without_blocks(TEXTS[page])) if not it.startswith("https://")]

    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, link


def test_the_index_links_every_page() -> None:
    linked = {f"docs/{link}" for link in re.findall(r"\]\(([\w-]+\.md)\)", TEXTS["docs/index.md"])}

    assert {page for page in PAGES if page.startswith("docs/")} - linked == {"docs/index.md"}


def test_the_page_of_settings_lists_every_variable_that_the_code_reads() -> None:
    code = [path for top in ("ml_assets", "dbt_project") for path in (ROOT / top).rglob("*.*")]
    read = {
        name
        for path in code
        if path.suffix in {".py", ".sql", ".yml"} and "target" not in path.relative_to(ROOT).parts
        for name in re.findall(r"\bML_ASSETS_[A-Z_]+", path.read_text(encoding="utf-8"))
    }

    listed = {name.removesuffix("<CHANNEL>") for name in quoted(TEXTS["docs/settings.md"])}
    assert read - listed == {"ML_ASSETS_DBT_BINDINGS"}  # set for dbt by the warehouse, not by a person


def test_the_changelogs_newest_release_is_the_version_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert re.findall(r"^## (\d\S+)", CHANGELOG, re.MULTILINE)[0] == project["version"]


def test_the_licence_is_the_one_that_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert project["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert text.rstrip().endswith("limitations under the License.")
