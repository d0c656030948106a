import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.contracts.artifacts.training import Model
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.lock import Lock
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import NAMED_BY, PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.mark import Policy
from ml_assets.provenance.gc.sweep import collect
from ml_assets.provenance.lineage import backward
from tests.builders import files_of, frame, put
from tests.cli.commands import Command
from tests.provenance.gc.test_mark import NOW, ago, decide, made, trained
from tests.provenance.gc.test_sweep import leave
from tests.publications import newest_manifest


@pytest.fixture
def lake(home: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    (home / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home / "tmp"))
    return Lake(str(home / "lake"))


def served(lake: Lake) -> dict[str, ArtifactRef]:
    """Put a champion, an older model that is not needed, a leftover, and an old study."""
    trained(lake, 1, 400)
    champion = trained(lake, 2, 300)
    decide(lake, 1, 299, champion)
    leave(lake, made(lake, "raw/other", 3, 1))
    return champion


def test_by_default_gc_lists_what_would_be_removed_and_removes_nothing(lake: Lake, command: Command) -> None:
    champion = served(lake)
    before = files_of(lake)

    printed = command("gc")
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["asset", "kept", "size", "removed", "size", "main", "reason", "for", "keeping"] == lines[0]
    model = next(line for line in lines if line[0] == "flight_delay/model")
    assert ["1", "1"] == [model[1], model[4]]
    why = f"champion {champion['model'].version[:12]} of flight_delay, {ago(299):%Y-%m-%d} (entry 1), serving (1 of 1)"
    assert why == " ".join(model[7:])
    assert "left-overs" == lines[-2][0]
    assert printed.out.endswith("would be freed; nothing was removed. Run it with --yes to remove it.\n")
    assert "reading all manifests" in printed.err
    assert before == files_of(lake)


def test_folders_that_killed_processes_left_on_this_machine_are_removed_too(
    lake: Lake, tmp_path: Path, command: Command
) -> None:
    served(lake)
    folder = tmp_path / "tmp" / "ml-assets-replay-x"
    folder.mkdir()
    os.utime(folder, (0, 0))

    assert f"{folder} was left by a killed process; it would be removed" in command("gc").out
    assert folder.exists()

    assert f"{folder} was left by a killed process; it is removed" in command("gc", "--yes").out
    assert not folder.exists()


def test_a_needed_and_lost_artifact_stops_gc_until_it_is_given_up(lake: Lake, command: Command) -> None:
    champion, newer = trained(lake, 2, 300), trained(lake, 3, 200)
    decide(lake, 1, 299, champion)
    decide(lake, 2, 199, newer)
    for ref in (champion["raw"], newer["raw"]):
        newest_manifest(lake, ref).unlink()

    for ref in (newer["raw"], champion["raw"]):
        assert ref.version in command("gc", "--yes", code=1).err
        given = ["gc", "--give-up", f"{ref.asset}@{ref.version}", "--partition", str(ref.partition)]
        command(*given, "--why", "the disk is broken")

    command("gc", "--yes")
    assert "the disk is broken" == lake.removal(champion["raw"]).reason
    with pytest.raises(MissingArtifactError, match="the disk is broken"):
        lake.manifest(champion["raw"])
    model = champion["model"]
    given = ["gc", "--give-up", f"{model.asset}@{model.version}", "--why", "so"]
    assert "has a manifest, so it is not lost" in command(*given, code=2).err


@pytest.mark.parametrize("naming", NAMED_BY)
def test_a_missing_promotion_log_stops_gc(naming: str, lake: Lake, command: Command) -> None:
    champion = served(lake)
    head = PromotionLog(lake, "flight_delay").verified().head
    assert head is not None
    named = {"promotion_log_entry": head.model_dump()}
    made(lake, f"flight_delay/{naming}", 7, 200, champion["model"], parameters=named)
    shutil.rmtree(Path(lake.url) / "promotions")
    before = files_of(lake, "artifacts")

    printed = command("gc", "--yes", code=1)

    log = lake.path("promotions", "flight_delay", "000001.json")
    assert (
        f"the promotion log of flight_delay is damaged, so it is used for no decision and no prediction: "
        f"{log} is missing" in printed.err
    )
    assert before == files_of(lake, "artifacts")


def test_with_yes_gc_removes_and_reports_what_it_removed(lake: Lake, command: Command) -> None:
    champion = served(lake)

    printed = command("gc", "--yes")
    assert "freed, 5 folders removed; the manifests of what is gone are under removed/\n" in printed.out
    assert "4 are not" in printed.err
    assert [champion["model"]] == lake.versions("flight_delay/model")[""]
    assert "0 B freed" in command("gc", "--yes").out


def test_as_json_a_program_can_read_it(lake: Lake, command: Command) -> None:
    champion = served(lake)

    answer = command.json("gc", "--keep-days", "10")
    assert (10, False, []) == tuple(answer[name] for name in ("keep_days", "is_removed", "returned"))
    model = next(one for one in answer["assets"] if one["asset"] == "flight_delay/model")
    assert (1, 1) == (model["kept"]["versions"], model["removed"]["versions"])
    assert champion["model"].version[:12] in model["held_by"][0]["root"]
    assert 1 == answer["others"]["left-overs"]["count"]
    sizes = [one["removed"]["bytes"] for one in answer["assets"]] + [it["bytes"] for it in answer["others"].values()]

    done = command.json("gc", "--keep-days", "10", "--yes")
    assert (True, answer["bytes"], sum(sizes)) == (done["is_removed"], done["bytes"], answer["bytes"])


def test_explain_shows_which_root_needs_an_artifact_and_the_path_to_it(lake: Lake, command: Command) -> None:
    champion = served(lake)

    lines = command("gc", "--explain", f"raw/flights@{champion['raw'].version[:8]}").out.splitlines()
    assert lines[0].startswith(f"{champion['raw']} (")
    assert lines[0].endswith("(entry 1), serving")
    assert [f"    read by {champion[name]}" for name in ("training_set", "model")] == lines[1:]

    answers = command.json("gc", "--explain", "raw/flights", "--partition", "2013-01-01")
    stays = {answer["version"]: answer["stays"] for answer in answers}
    assert {True: 1, False: 1} == {value: [*stays.values()].count(value) for value in (True, False)}
    assert stays[champion["raw"].version]


def test_explain_reports_artifacts_that_do_not_exist(lake: Lake, command: Command) -> None:
    old = trained(lake, 1, 400)["model"]
    served(lake)
    command("gc", "--yes")

    for arguments, printed in (
        (["raw/flight"], f"there is no 'raw/flight' in {lake.url} (did you mean 'raw/flights'?)"),
        (["raw/flights@ffff"], "raw/flights has no version that starts with 'ffff'"),
        (["raw/flights", "--partition", "1999-01-01"], f"there is no raw/flights[1999-01-01] in {lake.url}"),
        ([f"{old.asset}@{old.version}"], f"{old} was removed by gc on "),
    ):
        assert command("gc", "--explain", *arguments, code=1).out.startswith(printed)
        answer = command.json("gc", "--explain", *arguments, code=1)
        assert (arguments[0], True) == (answer["artifact"], answer["problem"].startswith(printed))


def test_a_locked_or_unreadable_lake_ends_with_1(lake: Lake, command: Command) -> None:
    champion = served(lake)
    with Lock(lake, "gc", now=NOW):
        assert "ml-assets: nothing was removed: process " in command("gc", "--yes", code=1).err

    newest_manifest(lake, champion["raw"]).write_text("{}")
    printed = command("gc", code=1)
    assert ("", True) == (printed.out, ".json is not a manifest" in printed.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-days", "-1"], "--keep-days is -1; expected 0 to 36,500"),
        (["--explain", "raw/a", "--yes"], "--explain and --give-up remove nothing"),
        (["--partition", "2013-01-01"], "needs --explain ASSET"),
        (["--explain", f"raw/flights@{'0' * 32}", "--partition", "../x"], "--partition is '../x'"),
    ],
)
def test_contradictory_arguments_end_with_2_and_a_fix(
    lake: Lake, arguments: list[str], message: str, command: Command
) -> None:
    served(lake)

    assert message in command("gc", *arguments, code=2).err


@pytest.mark.long  # it needs the lake of the whole flow
def test_after_a_second_training_the_champion_of_the_real_flow_is_still_traced_to_raw_files(own_flown: Path) -> None:
    lake = Lake(str(own_flown))
    entry = PromotionLog(lake, "flight_delay").last()
    assert entry is not None
    champion = ArtifactRef(asset="flight_delay/model", version=str(entry.champion))
    before = backward(lake, [champion])
    train_again(lake, champion)
    current = {asset: lake.newest(asset, [""]) for asset in ("flight_delay/model", "flight_delay/training_set")}

    judgement, removed = collect(lake, Policy(NOW + timedelta(days=200), 0, forget_champions=True), lambda _: None)

    assert len(removed.folders) >= 2
    assert before == backward(lake, [champion])
    assert {"present"} == {node.state for node in before.nodes.values()}
    assert any(asset.startswith("raw/") for asset, _, _ in before.nodes)
    assert lake.get(champion, Model).spec.model == "flight_delay"
    assert all(hold.root for hold in judgement.kept.values())
    assert current == {asset: lake.newest(asset, [""]) for asset in current}


def train_again(lake: Lake, champion: ArtifactRef) -> None:
    """Make two more training sets and models from the champion's inputs: one that is current, one that was."""
    inputs = lake.manifest(champion).inputs
    for n in (1, 2):
        rows = put(lake, frame(n), asset="flight_delay/training_set", inputs=inputs).ref
        put(lake, frame(n), asset="flight_delay/model", inputs=(rows,))
