"""The image: what its Dockerfile installs and leaves behind, and how it is built."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VALUES = yaml.safe_load((ROOT / "deploy/values.yaml").read_text(encoding="utf-8"))


@dataclass
class Stage:
    """One stage: what it is made from, and its instructions in order."""

    name: str
    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [words for name, words in self.steps if name == instruction]


def read() -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the arguments before the first stage, and the stages by name."""
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for line in filter(str.strip, lines):
        name, _, words = line.strip().partition(" ")
        if name == "FROM":
            parent, _, stage = words.partition(" AS ")
            stages[stage] = Stage(stage, parent)
        elif not stages:
            arguments.update([words.split("=", 1)])
        else:
            [*stages.values()][-1].steps.append((name, " ".join(words.split())))
    return arguments, stages


ARGUMENTS, STAGES = read()


def chain(name: str) -> Iterator[Stage]:
    """Return a stage and those it is made from, first first."""
    if name in STAGES:
        yield from chain(STAGES[name].parent)
        yield STAGES[name]


def commands(stage: Stage) -> list[str]:
    return [command.strip() for run in stage.all("RUN") for command in run.split("&&")]


def test_every_image_from_outside_is_an_argument_with_a_pinned_tag() -> None:
    outside = {stage.parent for stage in STAGES.values()} - {*STAGES}

    assert {f"${{{name}}}" for name in ARGUMENTS} == outside
    assert all(re.search(r":.*\d+\.\d+\.\d+", image) for image in ARGUMENTS.values())


def test_nothing_is_added_from_an_address() -> None:
    assert [] == [words for stage in STAGES.values() for words in stage.all("ADD")]
    assert "://" not in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def test_everything_that_pip_downloads_is_in_a_lock_with_its_hash() -> None:
    pip = [
        command
        for stage in STAGES.values()
        for command in commands(stage)
        if re.search(r"pip\S* .*(install|download|wheel)", command)
    ]
    locked = [command for command in pip if "--require-hashes" in command and "--no-deps" in command]

    assert ["--no-index", "--no-index"] == [
        word for command in pip if command not in locked for word in command.split() if "index" in word
    ]
    assert {"requirements.lock", "lightgbm-build.lock", "lightgbm.lock"} == {
        re.findall(r"-r (\S+)", command)[-1] for command in locked
    }


def test_the_lightgbm_of_the_gpu_image_is_the_locks_from_source() -> None:
    script = next(command for command in commands(STAGES["lightgbm-cuda"]) if command.startswith("sed"))
    pattern = script.split("'")[1]
    command = ["/usr/bin/env", "sed", "-n", pattern, "deploy/requirements.lock"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()

    assert found[0].startswith("lightgbm==")
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in found[1:])
    assert len(found) > 2


def test_cmake_gets_its_cuda_option_from_the_environment_with_every_version_of_pip() -> None:
    (wheel,) = (command for command in commands(STAGES["lightgbm-cuda"]) if "pip wheel" in command)

    assert wheel.endswith(" ./lightgbm")  # whose path is in the library, so it is the same in every build
    assert wheel.startswith('CMAKE_ARGS="-DUSE_CUDA=ON ')
    assert "--config-settings" not in wheel


@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf")
def test_a_lightgbm_without_code_for_gpus_ends_the_build(tmp_path: Path) -> None:
    guard = next(command for command in commands(STAGES["lightgbm-cuda"]) if "readelf" in command)
    built = tmp_path / "unpacked/lightgbm/lib"
    built.mkdir(parents=True)
    (installed,) = Path(str(find_spec("lightgbm").submodule_search_locations[0])).glob("lib/lib_lightgbm.*")
    shutil.copy(installed, built / "lib_lightgbm.so")

    done = subprocess.run(["/bin/sh", "-c", guard], cwd=tmp_path, check=False, capture_output=True, text=True)

    assert (1, "the LightGBM that was built has no code for GPUs\n") == (done.returncode, done.stderr)


def test_the_build_lock_pins_every_distribution_by_hash_and_names_no_address() -> None:
    text = (ROOT / "deploy/lightgbm-build.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=\w)", text.split("\n", 1)[1], flags=re.MULTILINE)[1:]

    assert all(re.match(r"[\w-]+==[\d.]+", entry) and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


@pytest.mark.parametrize("target", ["base", "gpu"])
def test_the_last_user_is_a_number_the_one_that_the_values_name(target: str) -> None:
    users = [user for stage in chain(target) for user in stage.all("USER")]
    security = VALUES["dagsterWebserver"]["podSecurityContext"]

    assert f"{security['runAsUser']}:{security['runAsGroup']}" == users[-1]


@pytest.mark.parametrize("target", ["base", "gpu"])
def test_the_final_image_has_one_debian_package_and_no_build_tools(target: str) -> None:
    ran = [command for stage in chain(target) for command in commands(stage)]
    installed = [command.split()[2:] for command in ran if command.startswith("apt-get install")]

    assert [["-y", "--no-install-recommends", "libgomp1"]] == installed
    assert not [command for command in ran if "pip" in command]
    assert any("/var/lib/apt/lists" in command for command in ran if command.startswith("rm "))
    assert [] == [words for stage in chain(target) for words in stage.all("ENTRYPOINT")]  # the chart gives commands


def test_dagsters_home_is_where_the_values_mount_it() -> None:
    environment = " ".join(words for stage in chain("base") for words in stage.all("ENV"))

    assert f"DAGSTER_HOME={VALUES['global']['dagsterHome']} " in environment


def sent() -> list[str]:
    """Return the files and folders at the top, and the requested ones below, that are sent to the builder."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    names = [path.name for path in ROOT.iterdir()] + [rule[1:] for rule in rules if rule.startswith("!")]
    found = []
    for name in dict.fromkeys(names):
        is_out = False
        for rule in rules:
            if fnmatch(name, rule.removeprefix("!")):
                is_out = not rule.startswith("!")
        if not is_out:
            found.append(name)
    return sorted(found)


def test_only_files_of_the_image_are_sent_to_the_builder() -> None:
    copied = {
        word
        for stage in STAGES.values()
        for words in stage.all("COPY")
        if not words.startswith("--from")
        for word in words.split()[:-1]
    }

    assert sorted(copied) == sent()
    assert all((ROOT / path).exists() for path in copied)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Return a folder for the only programs there are: those the script needs, and no builder yet."""
    for program in ("sh", "dirname", "sed", "git", "date"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    return tmp_path


def pretend(folder: Path, name: str, *, works: bool = True) -> None:
    """Put a double of a builder there, which prints what it is given."""
    answer = "exit 0" if works else "exit 1"
    text = f'#!/bin/sh\nif [ "$1" = info ]; then {answer}; fi\necho {name} "$@"\n'
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o755)


def build(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    return subprocess.run(
        [str(ROOT / "deploy/build-image"), *arguments],
        env={**environ, "PATH": str(folder), "HOME": str(folder), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_first_working_builder_is_used_and_gets_the_commit_and_the_version(bench: Path) -> None:
    pretend(bench, "docker", works=False)
    pretend(bench, "buildah")

    done = build(bench, "gpu", IMAGE="registry.example/ml-assets", SOURCE_DATE_EPOCH="86400")

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607
    output = done.stdout
    assert output.startswith("buildah build --file deploy/Dockerfile --target gpu --tag registry.example/ml-assets:")
    assert f":{version}-gpu --timestamp 86400" in output
    assert f"COMMIT={commit.strip()}" in output
    assert f"VERSION={version} " in output
    assert "CREATED=1970-01-02T00:00:00Z" in output


def test_without_a_builder_the_supported_ones_are_listed(bench: Path) -> None:
    done = build(bench)

    assert 2 == done.returncode
    assert "expected docker, podman or buildah" in done.stderr


def test_another_target_is_refused(bench: Path) -> None:
    done = build(bench, "cuda")

    assert (2, "deploy/build-image: target 'cuda'; expected base or gpu\n") == (done.returncode, done.stderr)
