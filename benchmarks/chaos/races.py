"""Several processes at once, and clocks that are wrong: nothing is lost, and nothing counts twice."""

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.chaos.flows import CHILD, command, environment
from benchmarks.chaos.trials import Ended, Scene, Trial, end, run, start
from ml_assets.contracts.artifacts.training import Model
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from tests.killing import MODEL, PREDICTED

WRITERS: Final = 3
LANDED: Final = "benchmarks.chaos.landed"


def landings(scene: Scene) -> Iterator[Trial]:
    """Several processes land files of the same day, each with its own correction: all are stored."""
    for trial in range(scene.trials):
        lake = scene.lake(trial)
        shutil.copytree(scene.flow.lake, lake)
        numbers = scene.random.sample(range(100), WRITERS)
        sources = [_corrected(scene, lake, number) for number in numbers]
        ended = _together(LANDED, [[str(lake), str(it), PREDICTED, "0"] for it in sources], lake)
        kept = _minutes(Lake(str(lake)))
        lost = [number for number in numbers if _minute(number) not in kept]
        wrong = [it.summary for it in ended if it.code != 0]
        what = f"{WRITERS} landings of {PREDICTED}"
        if lost or wrong:
            yield Trial(what, "lost", f"corrections {lost} of {numbers} are gone; {' '.join(wrong)}")
        else:
            yield Trial(what, "survived")


def _corrected(scene: Scene, lake: Path, number: int) -> Path:
    """Return a folder with the sources in which one flight of the day has another air time."""
    folder = lake.with_name(f"{lake.name}-sources-{number}")
    shutil.copytree(scene.flow.sources, folder)
    rows = pl.read_csv(folder / "flights.csv", infer_schema=False)
    of_day = rows.with_row_index().filter(pl.col("day") == str(int(PREDICTED[-2:])))["index"]
    chosen = of_day[number]
    rows.with_columns(
        pl.when(pl.int_range(pl.len()) == chosen)
        .then(pl.lit(str(_minute(number))))
        .otherwise("air_time")
        .alias("air_time")
    ).write_csv(folder / "flights.csv")
    return folder


def _minute(number: int) -> int:
    """Return an air time that no flight of the small flow has."""
    return 900 + number


def _minutes(lake: Lake) -> set[float]:
    frame: pl.DataFrame = lake.get(lake.find("raw/flights", PREDICTED), pl.DataFrame)
    return set(frame["air_time"].drop_nulls().cast(pl.Float64))


def clocks(scene: Scene) -> Iterator[Trial]:
    """A day is landed again and again, each time by a clock that is right or a year off: the last counts."""
    for trial in range(scene.trials):
        lake = scene.lake(trial)
        shutil.copytree(scene.flow.lake, lake)
        numbers = scene.random.sample(range(100), 3)
        off = [scene.random.choice((-365, 0, 365)) for _ in numbers]
        for number, days in zip(numbers, off, strict=True):
            source = _corrected(scene, lake, number)
            ended = run(LANDED, [str(lake), str(source), PREDICTED, str(days)])
            if ended.code != 0:  # rows with an earlier received_at than the stored ones are rejected
                is_reported = ended.is_refusal(1) and "received_at" in ended.output
                yield Trial(f"clocks {off} days", "noticed" if is_reported else "lost", ended.summary)
                break
        else:
            missing = [number for number in numbers if _minute(number) not in _minutes(Lake(str(lake)))]
            yield Trial(f"clocks {off} days", "lost" if missing else "survived", f"corrections {missing} are hidden")


def flows(scene: Scene) -> Iterator[Trial]:
    """Two commands train the same model at once: one log without duplicates or comparisons with the own version."""
    for trial in range(max(1, scene.trials // 4)):
        lake = scene.lake(trial)
        shutil.copytree(scene.flow.lake, lake)
        shutil.rmtree(lake / "promotions")
        for stage in ("model", "evaluation", "champion", "predictions", "drift", "performance", "card"):
            shutil.rmtree(lake / "artifacts" / MODEL / stage)
        ended = _together(CHILD, [command(scene)] * 2, lake)
        log = PromotionLog(Lake(str(lake)), MODEL).entries()
        decisions = [(entry.number, entry.action) for entry in log]
        wrong = [it.summary for it in ended if it.code != 0]
        is_right = decisions == [(1, "promote")] and not wrong
        yield Trial("2 flows", "survived" if is_right else "lost", f"the log is {decisions}; {' '.join(wrong)}")


def promotions(scene: Scene) -> Iterator[Trial]:
    """Several people promote at once: each learns that the promotion succeeded, or that another was first."""
    for trial in range(max(1, scene.trials // 4)):
        lake = scene.lake(trial)
        shutil.copytree(scene.flow.lake, lake)
        opened = Lake(str(lake))
        model: Model = opened.get(opened.find(f"{MODEL}/model"), Model)
        others = [dataclasses.replace(model, reference=model.reference.head(n)) for n in range(1, WRITERS + 1)]
        versions = [opened.put(f"{MODEL}/model", None, it, Origin()).version for it in others]
        commands = [command(scene, "promote", version, "--why", "a race") for version in versions]
        ended = _together(CHILD, commands, lake)
        log = PromotionLog(Lake(str(lake)), MODEL).entries()
        won = {version for version, it in zip(versions, ended, strict=True) if it.code == 0}
        failures = [it.summary for it in ended if it.code != 0 and not it.is_refusal(1)]
        is_right = {entry.challenger for entry in log[1:]} == won and len(log) == 1 + len(won) and won and not failures
        yield Trial(
            f"{WRITERS} promotions", "survived" if is_right else "lost", f"{len(won)} won, {log[1:]}; {failures}"
        )


def _together(module: str, arguments: Sequence[Sequence[str]], lake: Path) -> list[Ended]:
    since = time.monotonic()
    started = [
        start(module, it, {**environment(lake), "DAGSTER_HOME": f"{lake}-dagster-{number}"})
        for number, it in enumerate(arguments)
    ]
    return [end(process, since=since) for process in started]
