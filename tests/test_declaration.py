from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.declaration.automation import AutomationDeclaration, UpdatesSettings
from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.model import METRICS, ModelDeclaration
from ml_assets.declaration.parts import Days, Stage
from ml_assets.declaration.reading import KINDS, DeclarationError, read_all, read_declaration
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from tests.flights import DEFS
from tests.stages.shop import MODEL

RAW = """\
type: ml_assets.RawTables
attributes:
  days: {first: 2024-01-01}
  tables:
    orders:
      file: data/orders.csv
      partition_by: {column: ordered_at}
    shops: {file: data/shops.csv}
"""


def problem(text: str) -> str:
    """Return the message about a declaration that cannot be used."""
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, where="shop/defs.yaml")
    return str(caught.value)


def model(text: str = MODEL) -> ModelDeclaration:
    found = read_declaration(text, where="shop/defs.yaml")
    assert isinstance(found, ModelDeclaration)
    return found


def write(folder: Path, name: str, text: str | bytes) -> Path:
    (folder / name).mkdir()
    path = folder / name / "defs.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


REGRESSION = MODEL.replace("task: binary", "task: regression")


RANKING = MODEL.replace("task: binary", "task: ranking") + "  ranking: {query: search_id, at: 5}\n"


def with_lines(*lines: str) -> str:
    return MODEL + "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize(
    "given",
    [
        "file: 'https://joe:hunter2@host/t.csv'",
        "file: 'https://hunter2@host/t.csv'",
        "file: 'simplecache::s3://key:hunter2@bucket/t.csv'",
        "file: 'https://host/t.csv?X-Amz-Date=20240101&X-Amz-Signature=hunter2'",
        "file: 'https://host/t.csv?sv=2024&sig=hunter2'",
        "file: 'https://host/t.csv?access_token=hunter2'",
        "file: 'https://host/t.csv?api-key=hunter2#top'",
        'file: "https://joe:pa\'hunter2@host/t.csv"',
        "file: 'https://joe:my hunter2@host/t.csv'",
        "files: 's3://key:hunter2@bucket/{day}.csv'",
        "files: 'https://joe:hunter2@host/{day}.csv'",
        "file: 'https://joe:hunter2@host/t.csv'\n      files: 'in/{day}.csv'",
        "fiel: 'https://joe:hunter2@host/t.csv'",
        "file: [ 'https://joe:hunter2@host/t.csv' ]",
    ],
)
def test_a_secret_in_an_address_is_refused_without_repeating_it(given: str) -> None:
    message = problem(RAW.replace("file: data/orders.csv", given))

    assert "shop/defs.yaml:" in message
    assert "hunter2" not in message
    assert "did you mean" not in message or "fiel:" in given


def test_dagsters_own_loader_shows_no_secret_of_an_address_either() -> None:
    with pytest.raises(ValidationError) as caught:
        RawDeclaration.model_validate(
            {"days": {"first": "2024-01-01"}, "tables": {"orders": {"file": "https://joe:hunter2@host/t.csv"}}}
        )

    assert "https://***@host/t.csv" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://bucket/a@b.csv", "https://host/t.csv?page=2&keyword=x&country_code=US"])
def test_an_address_without_a_secret_is_accepted(address: str) -> None:
    found = read_declaration(RAW.replace("data/orders.csv", f"'{address}'"), where="shop/defs.yaml")

    assert isinstance(found, RawDeclaration)
    assert address == found.tables["orders"].file


def test_files_that_are_not_utf_8_are_named_with_the_line_and_all_others_are_still_checked(tmp_path: Path) -> None:
    write(tmp_path, "a", RAW.replace("orders:", "b\u00e9b\u00e9:").encode("latin-1"))
    write(tmp_path, "b", "just text")

    with pytest.raises(DeclarationError) as caught:
        read_all(tmp_path)

    assert f"{tmp_path}/a/defs.yaml:5: it has bytes that are not UTF-8; save the file in UTF-8." in str(caught.value)
    assert f"{tmp_path}/b/defs.yaml:1: expected 'type:'" in str(caught.value)


# ---------------------------------------------------------------- what is right


def test_a_short_declaration_is_filled_with_defaults() -> None:
    found = model()

    assert ("returns", "binary", "roc_auc", "roc_auc") == (found.name, found.task, found.metric, found.tuning_metric)
    assert (date(2024, 1, 1), date(2024, 6, 30)) == (found.days.first, found.days.last)
    assert ("order_id",) == found.features.key
    assert (20, 1) == (found.tuning.trials, found.seed)
    metrics = {
        task: model(MODEL.replace("task: binary", f"task: {task}")).metric for task in METRICS if task != "ranking"
    }
    assert {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"} == metrics


def test_the_study_optimizes_the_deciding_metric_by_default() -> None:
    assert "brier" == model(with_lines("evaluation: {metric: brier}")).tuning_metric
    both = model(with_lines("evaluation: {metric: brier}", "tuning: {metric: log_loss}"))
    assert ("brier", "log_loss") == (both.metric, both.tuning_metric)


def test_the_example_declaration_is_valid() -> None:
    declared = read_all(DEFS)

    assert ["flight_delay"] == [one.name for one in declared.models]
    assert ["flights", "weather", "planes", "airports", "airlines"] == [*declared.raw[0].tables]
    assert 1 == len(declared.tables)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("split: {by: random, test_days: 5}", "a split with 'by: random' is by shares or folds; found 'test_days'."),
        ("split: {folds: 5}", "a split with 'by: time' is by windows in days; found 'folds'. Remove them, or"),
        ("split: {by: random, repeats: 5}", "'repeats' belongs to 'folds', which is missing. Declare 'folds', or"),
        ("split: {by: random, folds: 5, test_share: 0.2}",
         "a split with 'folds' has no shares, because each fold is a test part; found 'test_share'. Remove them"),
        ("split: {by: random, folds: 3, repeats: 1}",
         "folds 3 times repeats 1 is 3 test parts, too few for an interval; expected at least 5. Increase one"),
        ("split: {by: time, test_share: 0.1}",
         "a split with 'by: time' is by windows in days; found 'test_share'. Remove them, or declare 'by: random' or"),
        ("split: {by: group}", "a split with 'by: group' needs 'group', the column whose values stay together"),
        ("split: {by: random, group: shop}",
         "'group' belongs to 'by: group' or 'by: time'; found 'by: random'. Remove it, or declare one of them"),
        ("split: {by: random, validation_share: 0.5, test_share: 0.5}",
         "validation_share 0.5 and test_share 0.5 leave no share to train on; expected a sum below 1"),
        ("retraining: {split: {by: random}}",
         "the model is split 'by: time' and its retrainings 'by: random'; only windows of time may differ"),
        ("retraining: {split: {test_days: 9, group: shop}}",
         "group: the windows of a retraining have no group of their own; leave it out, split.group applies"),
    ],
)  # fmt: skip
def test_fields_of_one_kind_of_split_do_not_fit_another(given: str, message: str) -> None:
    place = "retraining.split" if "retraining" in given else "split"
    between = "." if message.startswith("group:") else ": "
    assert f"shop/defs.yaml:16: {place}{between}{message}" in problem(with_lines(given))


def test_trials_are_judged_on_several_windows_only_of_a_split_by_time() -> None:
    assert 3 == model(with_lines("tuning: {windows: 3}")).tuning.windows
    found = problem(with_lines("tuning: {windows: 3}\n  split: {by: random}"))
    assert "tuning.windows: the split of the model is 'by: random', which has no windows of time; leave it out" in found


def test_challengers_are_in_shadow_only_of_a_split_by_time_and_satisfy_the_gate_only_in_shadow() -> None:
    random = problem(with_lines("split: {by: random}", "challengers: {shadow: true}"))
    unscored = problem(with_lines("challengers: {satisfies_gate: true}"))

    assert "challengers.shadow: the split of the model is 'by: random', so no rows are later than a training" in random
    assert "challengers: 'satisfies_gate' needs the scores of challengers in shadow; declare 'shadow: true'" in unscored


def test_folds_do_not_fit_models_that_are_compared_with_a_pooled_one() -> None:
    lines = ["split: {by: random, folds: 5}", "for_each: {column: shop, values: [a, b]}"]

    assert "split.folds: the models of 'for_each' are compared with the pooled model" in problem(with_lines(*lines))
    alone = model(with_lines(lines[0], lines[1].replace("]}", "], pooled: false}")))
    assert (5, 5) == (alone.split.folds, alone.split.repeats)


def test_the_minimums_of_the_gate_are_those_of_small_tables_without_windows() -> None:
    windows, shares, own = (
        model(with_lines(*lines)).gate
        for lines in ((), ["split: {by: random}"], ["split: {by: random}", "gate: {min_rows: 90}"])
    )

    assert [(500, 200), (50, 50), (90, 50)] == [(it.min_rows, it.min_slice_rows) for it in (windows, shares, own)]


def test_a_split_is_stored_with_the_fields_of_its_kind() -> None:
    windows, crossed, shares, groups = (
        model(with_lines(line)).split.model_dump()
        for line in (
            "split: {test_days: 9}", "split: {test_days: 9, group: shop}", "split: {by: random}",
            "split: {by: group, group: shop}",
        )
    )  # fmt: skip

    assert {"train_days": None, "validation_days": 30, "test_days": 9} == windows
    assert {"group": "shop", **windows} == crossed
    assert {"by": "random", "validation_share": 0.2, "test_share": 0.2} == shares
    assert {"by": "group", "group": "shop", "validation_share": 0.2, "test_share": 0.2} == groups


def test_the_deciding_metric_may_be_the_mean_within_days() -> None:
    declared = "evaluation: {metric: average_precision, within: day, operating_point: {top_share: 0.2}}"
    found = model(with_lines(declared))
    tuned = model(with_lines(declared, "tuning: {within: order_id}"))

    assert ("average_precision within day", "average_precision") == (found.metric, found.overall_metric)
    assert "average_precision" == found.tuning_metric
    assert "average_precision within order_id" == tuned.tuning_metric
    assert ("average_precision within day", "roc_auc") == found.measured[:2]
    assert OperatingPoint(top_share=0.2, within="day") == found.operating_point


def test_each_kind_of_declaration_has_its_type() -> None:
    assert isinstance(read_declaration(RAW, where="x"), RawDeclaration)
    tables = "type: ml_assets.DbtTables\nattributes: {days: {first: 2024-01-01}}\n"
    assert isinstance(read_declaration(tables, where="x"), TablesDeclaration)
    automation = "type: ml_assets.Automation\nattributes: {updates: {days: 7}}\n"
    assert AutomationDeclaration(updates=UpdatesSettings(days=7)) == read_declaration(automation, where="x")
    assert {"Model", "RawTables", "DbtTables", "Automation"} == {name.removeprefix("ml_assets.") for name in KINDS}


def test_the_deadline_is_the_time_of_the_cron_plus_the_declared_delay() -> None:
    assert "0 8 * * 1-5" == Freshness(cron="30 6 * * 1-5", within_minutes=90).deadline
    assert "45 * * * *" == Freshness(cron="15 * * * *", within_minutes=30).deadline
    assert Freshness(data_lag_days=2).deadline is None


def test_automation_is_declared_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, name, "type: ml_assets.Automation\nattributes: {}\n")

    with pytest.raises(
        DeclarationError, match=r"two/defs\.yaml: automation is also declared in .*one/defs\.yaml; remove one"
    ):
        read_all(tmp_path)


def test_metrics_that_may_be_declared_are_those_that_can_be_measured() -> None:
    from ml_assets.contracts.objective import Objective
    from ml_assets.logic.evaluation.metrics import METRICS as MEASURED
    from ml_assets.logic.evaluation.metrics import metrics_of

    ranked = metrics_of("ranking", Objective(loss="lambdarank", query="search", at=3))

    assert {task: {*names} for task, names in METRICS.items()} == {
        **{task: {name for name, metric in MEASURED.items() if task in metric.tasks} for task in METRICS},
        "ranking": {it.name.partition(" ")[0] for it in ranked},
    }


def test_stages_that_may_be_declared_are_those_there_are() -> None:
    from typing import get_args

    from ml_assets.assembly import STAGES

    assert [*get_args(Stage)] == [stage.__name__ for stage in STAGES]


def test_numbers_of_cores_need_no_quotes_and_a_stage_may_request_only_its_own_pod() -> None:
    found = model(with_lines("compute: {model: {cpu: 1.5}, tuning: {cpu: 2}, card: {}}")).compute

    assert ("1.5", "2", None) == (found["model"].cpu, found["tuning"].cpu, found["card"].cpu)
    assert (10, 2) == (found["card"].start_timeout_minutes, found["card"].retries)


# ---------------------------------------------------------------- what is wrong, with line, field and near name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MODEL.replace("task: binary", "tusk: binary"),
         ["shop/defs.yaml:5: tusk: there is no such field; expected one of ", "did you mean 'task'?",
          "shop/defs.yaml:2: task: is missing and has no default."]),
        (MODEL.replace("task: binary", "task: binry"),
         ["shop/defs.yaml:5: task: ", "'multiclass' or 'ranking', got 'binry' (did you mean 'binary'?)."]),
        (MODEL.replace("    target: is_returned\n", ""),
         ["shop/defs.yaml:12: labels.target: is missing and has no default."]),
        (MODEL.replace("    target: is_returned\n", "    target: is_returned\n    know_time: known_at\n"),
         [("shop/defs.yaml:15: labels.know_time: there is no such field; expected one of known_time, maturity_days, "
          "positive, reason, table, target, weight (did you mean 'known_time'?).")]),
        (MODEL.replace("name: returns", "name: Returns!"),
         ["shop/defs.yaml:3: name: ", "got 'Returns!'"]),
        (MODEL.replace("name: returns", "name: ../returns"),
         ["shop/defs.yaml:3: name: ", "got '../returns'"]),
        (MODEL.replace("last: 2024-06-30", "last: 2023-06-30"),
         ["shop/defs.yaml:6: days: last day 2023-06-30 lies before first day 2024-01-01; swap them"]),
        (MODEL.replace("first: 2024-01-01", "first: January"),
         ["shop/defs.yaml:6: days.first: ", "got 'January'"]),
        (MODEL.replace("key: [order_id]", "key: []"),
         ["shop/defs.yaml:9: features.key: "]),
        (MODEL.replace("key: [order_id]", "key: [order_id, '']"),
         ["shop/defs.yaml:9: features.key.1: ", "got ''"]),
        (with_lines("tuning: {trails: 5}"), ["shop/defs.yaml:16: tuning.trails: ", "did you mean 'trials'?"]),
        (with_lines("tuning:", "  metric: roc_acu"),
         ["shop/defs.yaml:17: tuning.metric: expected a metric of a binary model, one of 'roc_auc', ",
          "got 'roc_acu' (did you mean 'roc_auc'?)."]),
        (with_lines("evaluation: {metric: rmse}"),
         ["shop/defs.yaml:16: evaluation.metric: expected a metric of a binary model", "got 'rmse'"]),
        (with_lines("evaluation: {within: origin}", "tuning: {within: week}"),
         ["shop/defs.yaml:16: evaluation.within: expected one of 'day', 'order_id', which every prediction has",
          "shop/defs.yaml:17: tuning.within: "]),
        (with_lines("evaluation: {operating_point: {}}"),
         ["shop/defs.yaml:16: evaluation.operating_point: an operating point is either a 'top_share' or a "]),
        (with_lines("evaluation: {operating_point: {top_share: 0.1}}").replace("task: binary", "task: regression"),
         ["shop/defs.yaml:16: evaluation.operating_point: a regression model has no operating point"]),
        (with_lines("evaluation:", "  baselines:", "    - [shop]", "    - shop"),
         ["shop/defs.yaml:19: evaluation.baselines.1: ", "got 'shop'"]),
        (with_lines("freshness: {prediction: {fail_hours: 3}}"),
         ["shop/defs.yaml:16: freshness.prediction", "did you mean 'predictions'?"]),
        (with_lines("freshness: {predictions: {fail_hours: 3, warn_hours: 4}}"),
         ["shop/defs.yaml:16: freshness.predictions: warn_hours 4.0 must be below fail_hours 3.0"]),
        (with_lines("freshness: {labels: {}}"),
         ["shop/defs.yaml:16: freshness.labels: give 'fail_hours', 'cron' or 'data_lag_days'"]),
        (with_lines("freshness: {labels: {cron: 0 6 * *, within_minutes: 5}}"),
         ["shop/defs.yaml:16: freshness.labels.cron: expected a cron of five fields", "got '0 6 * *'"]),
        (with_lines("freshness: {labels: {cron: 61 6 * * *, within_minutes: 5}}"),
         ["freshness.labels.cron: 61 in the cron's field '61' lies outside 0 to 59, got '61 6 * * *'."]),
        (with_lines("freshness: {labels: {cron: 0 6 * * monday, within_minutes: 5}}"),
         ["freshness.labels.cron: 'monday' in the cron's field 'monday' is no number; expected a number or one of"]),
        (with_lines("freshness: {labels: {cron: 0 six * * *, within_minutes: 5}}"),
         ["freshness.labels.cron: 'six' in the cron's field 'six' is no number; expected a number, got"]),
        (with_lines("freshness: {labels: {cron: 0 6 * 5-2 *, within_minutes: 5}}"),
         ["freshness.labels.cron: '5-2' in the cron's field '5-2' ends before it begins"]),
        (with_lines("freshness: {labels: {cron: 0 6 30 2 *, within_minutes: 5}}"),
         ["freshness.labels.cron: no month named has a day 30"]),
        (with_lines("watch: {days: 2}"), ["shop/defs.yaml:16: watch: days 2 must not be below min_days 5"]),
        (with_lines("freshness: {labels: {cron: 0 23 * * *, within_minutes: 90}}"),
         ["freshness.labels: 90 minutes after '0 23 * * *' is no cron; give a fixed minute and hour"]),
        (with_lines("freshness: {labels: {cron: 0 6 * * *}}"),
         ["shop/defs.yaml:16: freshness.labels: 'cron' and 'within_minutes' go together"]),
        (with_lines("freshness: {labels: {cron: 0 6 * * *, within_minutes: 5, fail_hours: 3}}"),
         ["shop/defs.yaml:16: freshness.labels: give either 'fail_hours' or 'cron'; Dagster supports one policy"]),
        (with_lines("freshness: {labels: {cron: 0 6 * * *, within_minutes: 5, timezone: Mars}}"),
         ["shop/defs.yaml:16: freshness.labels.timezone: expected a time zone such as Europe/Zurich, got 'Mars'"]),
        (with_lines("compute:", "  model: {cpu: two}"),
         ["shop/defs.yaml:17: compute.model.cpu: ", "got 'two'"]),
        (with_lines("compute:", "  model:", "    gpus: 1"),
         ["shop/defs.yaml:18: compute.model.gpus: there is no such field", "did you mean 'gpu'?"]),
        (with_lines("compute: {model: {cpu: 1Gi}}"),
         ["shop/defs.yaml:16: compute.model.cpu: '1Gi' is not a number of cores",
          "expected a value such as 500m or 1.5"]),
        (with_lines("compute: {model: {memory: 4}}"),
         ["compute.model.memory: expected between 4Mi and 1Pi of bytes, such as 512Mi or 4Gi, got 4."]),
        (with_lines("compute: {model: {memory: 4gb}}"), ["compute.model.memory: '4gb' is not a number of bytes"]),
        (with_lines("compute: {model: {memory: 4Gi, memory_ceiling: 2Gi}}"),
         ["shop/defs.yaml:16: compute.model: memory_ceiling 2Gi must not be below memory 4Gi"]),
        (with_lines("compute: {model: {memory_ceiling: 2Gi}}"),
         ["compute.model: 'memory_ceiling' needs 'memory' to begin with"]),
        (with_lines("compute: {model: {pod: {spec: {nodeSelector: {pool: gpu}}}}}"),
         ["compute.model.pod: 'spec.nodeSelector' cannot be declared here: use 'node_selector' instead"]),
        (with_lines("compute: {model: {pod: {container: {command: [sh]}}}}"),
         ["compute.model.pod: 'container.command' cannot be declared here: a step's pod has its own; leave it out"]),
        (with_lines("compute: {model: {pod: {spec: {service_account: x}}}}"),
         ["compute.model.pod: 'spec.service_account' is no field of Kubernetes' PodSpec"]),
        (with_lines("compute: {model: {pod: {spec: {affinity: {nodeAfinity: {}}}}}}"),
         ["compute.model.pod: 'spec.affinity.nodeAfinity' is no field of Kubernetes' Affinity"]),
        (with_lines("compute: {model: {pod: {spec: {serviceAccountName: 5}}}}"),
         ["compute.model.pod: 'spec.serviceAccountName' is 5; expected text; put a number in quotes"]),
        (with_lines("compute: {model: {pod: {container: {env: [{name: A, value: 1}]}}}}"),
         ["compute.model.pod: 'container.env.0.value' is 1; expected text; put a number in quotes"]),
        (with_lines("compute: {model: {pod: {container: {resources: {limits: null}}}}}"),
         ["compute.model.pod: 'container.resources' has no amounts"]),
        (with_lines("compute: {model: {pod: {container: {resources: {limits: {memory: 1Gi}}}}}}"),
         ["compute.model: 'pod.container.resources.limits.memory' cannot be declared here: use 'memory' instead"]),
        (with_lines('compute: {model: {cpu: 4, pod: {container: {resources: {limits: {cpu: "2"}}}}}}'),
         ["compute.model: the limit of CPU in 'pod', 2, must not be below cpu 4"]),
        (with_lines("compute: {model: {pod: {metadata: {labels: {dagster/run-id: x}}}}}"),
         ["compute.model.pod.metadata: label 'dagster/run-id' identifies the pods of a run"]),
        (with_lines("compute: {model: {gpu_type: A100}}"), ["compute.model: 'gpu_type' needs 'gpu', how many of them"]),
        (with_lines("compute: {model: {image: 'shop 1'}}"), ["compute.model.image: ", "got 'shop 1'"]),
        (with_lines("compute: {model: {priority_class: High}}"), ["compute.model.priority_class: ", "got 'High'"]),
        (with_lines("compute: {model: {node_selector: {pool: 'a b'}}}"),
         ["compute.model.node_selector.pool: ", "got 'a b'"]),
        (with_lines("compute:", "  model:", "    tolerations:", "      - {key: gpu, operator: Exists, value: x}"),
         ["shop/defs.yaml:19: compute.model.tolerations.0: operator 'Exists' has no value; leave the value out"]),
        (with_lines("compute: {model: {tolerations: [{value: x}]}}"), ["tolerations.0: operator 'Equal' needs a key"]),
        (with_lines("compute: {model: {tolerations: [{key: a, toleration_seconds: 5}]}}"),
         ["tolerations.0: 'toleration_seconds' goes with effect 'NoExecute' alone"]),
        (with_lines("compute: {model: {tolerations: [{key: a, efect: NoExecute}]}}"),
         ["tolerations.0.efect: there is no such field; expected one of effect, key, operator, ",
          "did you mean 'effect'?"]),
        (with_lines("compute: {modle: {cpu: 1}}"), ["compute.modle", "did you mean 'model'?"]),
        (RAW.replace("  tables:", "  compute: {cpus: 1}\n  tables:"),
         ["compute.cpus: there is no such field", "did you mean 'cpu'?"]),
        (with_lines("training: {device: tpu}"), ["shop/defs.yaml:16: training.device: ", "got 'tpu'"]),
        (with_lines("training: {device_fallback: cpu}"),
         ["shop/defs.yaml:16: training: 'device_fallback' goes with device 'gpu' or 'cuda'; leave it out"]),
        (MODEL.replace("task: binary", "task: regression") + "  gate: {max_calibration_error: 0.05}\n",
         ["shop/defs.yaml:16: gate.max_calibration_error: a regression model has no calibration error", "got 0.05"]),
        (REGRESSION.replace("    target: ", '    positive: "yes"\n    target: '),
         ["shop/defs.yaml:14: labels.positive: a regression model has no positive class; leave it out"]),
        (with_lines("intervals: {coverage: 0.9}"),
         ["shop/defs.yaml:16: intervals: a binary model has no prediction intervals; leave it out"]),
        (REGRESSION + "  intervals: {coverage: 1}\n", ["shop/defs.yaml:16: intervals.coverage: ", "got 1"]),
        (MODEL.replace("task: binary", "task: ranking"),
         ["shop/defs.yaml:5: task: declare 'ranking: {query: COLUMN}', the column within whose values"]),
        (with_lines("ranking: {query: search_id}"),
         ["shop/defs.yaml:16: ranking: a binary model has no ranking; leave it out, or declare 'task: ranking'"]),
        (RANKING + "  split: {by: random}\n  training: {workers: 2}\n  evaluation: {within: day}\n",
         ["shop/defs.yaml:17: split.by: rows of the same 'search_id' must be in the same part; declare 'split: {by:",
          "shop/defs.yaml:18: training.workers: a ranking is trained by one worker",
          "shop/defs.yaml:19: evaluation.within: a ranking is measured within ranking.query; leave it out"]),
        (RANKING.replace("known_time: ", "weight: seats\n    known_time: ")
         + "  evaluation: {own_metrics: [{function: shop.cost, direction: lower}]}\n",
         ["labels.weight: a ranking has no weights of rows; leave it out",
          "evaluation.own_metrics: a ranking is measured by its own metrics only; leave them out"]),
        (RANKING + "  split: {by: group, group: search_id, folds: 5}\n",
         ["shop/defs.yaml:17: split.folds: a ranking is not tested in folds; declare shares instead"]),
        (RANKING + "  gate: {margin: 2}\n", ["gate.margin: ndcg at 5 within search_id lies between 0 and 1"]),
        (RANKING + "  evaluation: {metric: roc_auc}\n", ["one of 'ndcg', 'mean_average_precision', 'mean_reciprocal"]),
        (RANKING.replace("at: 5", "at: 0"), ["shop/defs.yaml:16: ranking.at: ", "got 0"]),
        (with_lines("objective: {loss: mae}"),
         ["shop/defs.yaml:16: objective: a binary model has no objective to choose; leave it out"]),
        (REGRESSION + "  objective: {loss: pinball}\n", ["shop/defs.yaml:16: objective.loss: ", "got 'pinball'"]),
        (REGRESSION + "  objective: {loss: quantile}\n",
         ["shop/defs.yaml:16: objective: loss 'quantile' needs 'alpha'; declare it"]),
        (REGRESSION + "  objective: {loss: mae, alpha: 0.5, delta: 1}\n",
         ["objective: 'alpha' belongs to loss 'quantile', not to 'mae'; leave it out; 'delta' belongs to "]),
        (REGRESSION + "  objective: {loss: poisson, transform: log1p}\n",
         ["objective: loss 'poisson' has a logarithm of its own; leave 'transform' out"]),
        (REGRESSION + "  objective: {loss: tweedie, variance_power: 2}\n", ["objective.variance_power: ", "got 2"]),
        (REGRESSION + "  objective: {loss: mae}\n  tuning: {fixed: {linear_tree: true}}\n",
         ["shop/defs.yaml:17: tuning.fixed.linear_tree: LightGBM cannot combine linear_tree with the objective mae"]),
        (REGRESSION + "  objective: {loss: mae}\n  evaluation: {metric: pinball_loss}\n",
         ["shop/defs.yaml:17: evaluation.metric: expected a metric of a regression model, one of 'rmse', 'mae', 'r2'"]),
        (REGRESSION + "  tuning: {fixed: {alpha: 0.9}}\n",
         ["tuning.fixed.alpha: 'alpha' follows from the declaration's task, objective, metric and budget"]),
        (with_lines("gate: {own_rules: [shop.rules.a, shop.rules.b, shop.rules.a]}"),
         ["shop/defs.yaml:16: gate.own_rules: it is listed twice; remove one", "got 'shop.rules.a'"]),
        (with_lines("evaluation: {own_metrics: [{function: shop.cost, direction: lower}, {function: shop.cost, "
                    "direction: higher}], slices: [shop, shop], baselines: [[shop, day], [shop, day]]}"),
         ["shop/defs.yaml:16: evaluation.own_metrics: it is listed twice; remove one", "got 'shop.cost'",
          "shop/defs.yaml:16: evaluation.slices: it is listed twice; remove one", "got 'shop'",
          "shop/defs.yaml:16: evaluation.baselines: it is listed twice; remove one", "got 'shop, day'"]),
        (with_lines("gate: {rule: superior}"), ["shop/defs.yaml:16: gate.rule: ", "did you mean 'superiority'?"]),
        (with_lines("gate: {approval: human}"), ["shop/defs.yaml:16: gate.approval: ", "'gate' or 'person'"]),
        (with_lines("gate: {margin: .inf}"), ["shop/defs.yaml:16: gate.margin: ", "finite", "got inf"]),
        (with_lines("tuning: {fixed: {lambda_l2: .nan}}"), ["shop/defs.yaml:16: tuning.fixed.lambda_l2", "finite"]),
        (with_lines("gate: {max_size_mb: 5}"),
         ["shop/defs.yaml:16: gate.max_size_mb: there is no such field", "did you mean 'max_size_mib'?"]),
        (with_lines("expectations: {days: 5}"),
         ["shop/defs.yaml:16: expectations: min_days 7 must not be above days 5"]),
        (with_lines("seed: 1", "seed: 2"), ["shop/defs.yaml:17: seed: is given twice; remove one."]),
        (with_lines("tuning: {trials: 5, trials: 6}"), ["shop/defs.yaml:16: trials: is given twice; remove one."]),
        (MODEL.replace("ml_assets.Model", "ml_assets.Modle"),
         ["shop/defs.yaml:1: type: expected one of ml_assets.Model, ",
          "got 'ml_assets.Modle' (did you mean 'ml_assets.Model'?)."]),
        (MODEL.replace("type: ml_assets.Model", "type: [a]"),
         ["shop/defs.yaml:1: type: expected one of "]),
        ("", ["shop/defs.yaml:1: expected 'type:' and 'attributes:', got NoneType."]),
        ("just text", ["shop/defs.yaml:1: expected 'type:' and 'attributes:', got str."]),
        ("type: ml_assets.Model\nattributes: none\n", ["shop/defs.yaml:"]),
        (MODEL + "  bad: [1, 2\n", ["shop/defs.yaml:17: not YAML: "]),
        (MODEL + "\tbad: 1\n", ["shop/defs.yaml:16: not YAML: "]),
        (RAW.replace("partition_by: {column: ordered_at}", "partition_by: {column: ordered_at, year: y}"),
         ["shop/defs.yaml:7: tables.orders.partition_by: give either 'column', or 'year', 'month' and 'day', or "]),
        (RAW.replace("partition_by: {column: ordered_at}", "partition_by: {column: ordered_at, sql: ordered_at}"),
         ["shop/defs.yaml:7: tables.orders.partition_by: give either 'column', or 'year', 'month' and 'day', or "]),
        (RAW.replace("partition_by: {column: ordered_at}", "partition_by: {year: y, month: m}"),
         ["shop/defs.yaml:7: tables.orders.partition_by: 'year', 'month' and 'day' go together"]),
        (RAW.replace("file: data/orders.csv", "path: data/orders.csv"),
         [("shop/defs.yaml:6: tables.orders.path: there is no such field; expected one of csv, description, excel, "
           "file, files, format, formats, max_row_loss, null_values, partition_by, quarantine, row_key, "
           "settle_seconds.")]),
        (RAW.replace("      file: data/orders.csv\n", ""),
         ["shop/defs.yaml:5: tables.orders: give either 'file', or 'files' with {day} in it"]),
        (RAW.replace("file: data/orders.csv", "file: a.csv\n      files: 'in/{day}.csv'"),
         ["shop/defs.yaml:5: tables.orders: give either 'file', or 'files' with {day} in it"]),
        (RAW.replace("file: data/orders.csv", "files: in/orders.csv"),
         ["shop/defs.yaml:6: tables.orders.files: 'in/orders.csv' has no day in it; expected {day}, as in landing/"]),
        (RAW.replace("file: data/orders.csv", "file: a.csv\n      csv: {delimitr: ';'}"),
         ["shop/defs.yaml:7: tables.orders.csv.delimitr: there is no such field", "did you mean 'delimiter'?"]),
        (RAW.replace("file: data/orders.csv", "file: a.csv\n      csv: {delimiter: '\\n'}"),
         ["shop/defs.yaml:7: tables.orders.csv.delimiter: expected one ASCII character"]),
        (RAW.replace("file: data/orders.csv", "file: a.csv\n      formats: {due: '%m/%Q/%y'}"),
         ["shop/defs.yaml:7: tables.orders.formats.due", "'%Q' is not a directive"]),
        (RAW.replace("file: data/orders.csv", "file: a.csv\n      formats: {price: '# 1'}"),
         ["shop/defs.yaml:7: tables.orders.formats.price", "expected one # in place of the number"]),
        (RAW.replace("first: 2024-01-01", "first: 2023-02-30"),
         ["shop/defs.yaml:3: there is no date '2023-02-30': day is out of range for month."]),
        (RAW + "  \x07: 1\n", ["shop/defs.yaml:9: not YAML: control characters are not allowed."]),
        (RAW.replace("first: 2024-01-01", "first: '2023-02-30'"), ["shop/defs.yaml:3: days.first: ", "'2023-02-30'"]),
        (RAW.replace("shops:", "my shops:"), ["shop/defs.yaml:8: tables.my shops"]),
    ],
)  # fmt: skip
def test_an_error_is_reported_with_line_field_value_and_suggestion(text: str, expected: list[str]) -> None:
    message = problem(text)

    assert [] == [part for part in expected if part not in message], message


def test_all_errors_are_reported_at_once() -> None:
    """Golden: what a person reads who got four things wrong."""
    text = (
        MODEL.replace("task: binary", "task: binari").replace("table: order_outcomes", "table: Order Outcomes")
        + "  split: {validation_days: 0}\n  sead: 3\n"
    )
    golden = Path(__file__).parent / "golden" / "declaration_mistakes.txt"

    assert golden.read_text(encoding="utf-8") == problem(text) + "\n"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2", "the declaration has version 2, but the installed ml-assets reads versions up to 1. Upgrade ml-assets."),
        ("0", "expected the version of the declaration's format, a whole number from 1 to 1."),
        ("'1'", "expected the version of the declaration's format, a whole number from 1 to 1."),
        ("true", "expected the version of the declaration's format, a whole number from 1 to 1."),
    ],
)
def test_a_declaration_of_another_version_is_rejected_before_its_fields_are_validated(
    version: str, expected: str
) -> None:
    text = MODEL + f"  a_field_of_tomorrow: 3\n  version: {version}\n"

    assert f"shop/defs.yaml:17: version: {expected}" == problem(text)


def test_a_declaration_without_a_version_has_version_1() -> None:
    assert 1 == model().version
    assert model() == model(with_lines("version: 1"))


def test_a_field_of_the_file_that_does_not_exist_is_refused() -> None:
    assert (
        "shop/defs.yaml:16: version: there is no such field; expected one of type, attributes.\n"
        "shop/defs.yaml:1: type: expected one of ml_assets.Model, ml_assets.RawTables, "
        "ml_assets.DbtTables, ml_assets.Automation, got 'ml_assets.Mode' "
        "(did you mean 'ml_assets.Model'?)."
    ) == problem(MODEL.replace("ml_assets.Model", "ml_assets.Mode") + "version: 1\n")


def test_no_code_in_a_declaration_is_run(tmp_path: Path) -> None:
    text = MODEL + f"  seed: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n"

    assert "not YAML" in problem(text)
    assert [] == [*tmp_path.iterdir()]


def test_files_by_day_need_no_day_columns() -> None:
    text = RAW.replace(
        "file: data/orders.csv\n      partition_by: {column: ordered_at}", "files: 's3://in/{day:%Y/%m/%d}/*.csv'"
    )
    found = read_declaration(text, where="shop/defs.yaml")

    assert isinstance(found, RawDeclaration)
    orders, shops = found.tables["orders"], found.tables["shops"]
    assert ((True, None), (False, None)) == ((orders.is_by_day, orders.file), (shops.is_by_day, shops.files))


# ---------------------------------------------------------------- a folder of declarations


def test_errors_of_all_files_are_reported_at_once_with_their_names(tmp_path: Path) -> None:
    one = write(tmp_path, "one", MODEL.replace("task: binary", "task: x"))
    two = write(tmp_path, "two", MODEL + "  sead: 1\n")
    write(tmp_path, "three", MODEL)

    with pytest.raises(DeclarationError) as caught:
        read_all(tmp_path)

    assert f"{one}:5: task: " in str(caught.value)
    assert f"{two}:16: sead: " in str(caught.value)


def test_two_models_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", MODEL), write(tmp_path, "two", MODEL)

    with pytest.raises(DeclarationError, match=f"{two}: model 'returns' is also declared in {one}"):
        read_all(tmp_path)


def test_an_unknown_model_is_reported_with_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path, "one", MODEL)

    with pytest.raises(
        DeclarationError, match=r"there is no model 'retuns'; expected one of returns \(did you mean 'returns'\?\)"
    ):
        read_all(tmp_path).model("retuns")


def test_a_model_needs_no_name_where_it_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path, "one", MODEL)

    assert "returns" == read_all(tmp_path).only_model().name


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the project declares no model"),
        (["one", "two"], "the project declares several models; name one of one, two"),
    ],
)
def test_without_a_name_the_project_must_have_one_model(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        write(tmp_path, name, MODEL.replace("name: returns", f"name: {name}"))

    with pytest.raises(DeclarationError, match=message):
        read_all(tmp_path).only_model()


@pytest.mark.parametrize("given", [{}, {"per_month": 10, "cpu_hours_per_month": 1}, {"when_exceeded": "block"}])
def test_a_budget_is_money_or_cpu_hours_and_not_both(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        BudgetSettings.model_validate(given)


def test_days_end_in_their_zone_and_with_the_last_declared_one() -> None:
    def newest(hour: int, **changes: str) -> date:
        days = {"first": "2024-01-01", "timezone": "America/New_York", **changes}
        return Days.model_validate(days).newest(datetime(2024, 3, 11, hour, tzinfo=UTC))

    assert [date(2024, 3, 9), date(2024, 3, 10)] == [newest(3), newest(4)]  # 10 March has 23 hours in New York
    assert date(2024, 2, 1) == newest(4, last="2024-02-01")
    assert date(2024, 3, 10) == newest(4, last="2025-01-31")


def test_declarations_with_days_of_different_zones_are_rejected(tmp_path: Path) -> None:
    write(tmp_path, "returns", MODEL)
    write(tmp_path, "raw", RAW.replace("first: 2024-01-01", "first: 2024-01-01, timezone: Asia/Tokyo"))

    with pytest.raises(DeclarationError, match=r"'days' have several time zones: Asia/Tokyo .*, UTC .*; expected one"):
        read_all(tmp_path)


def test_declarations_with_different_grains_are_rejected(tmp_path: Path) -> None:
    write(tmp_path, "returns", MODEL)
    write(tmp_path, "raw", RAW.replace("first: 2024-01-01", "first: 2024-01-01, grain: month"))

    with pytest.raises(DeclarationError, match=r"'days' have several grains: month .*, day .*; expected one"):
        read_all(tmp_path)


@pytest.mark.parametrize(("grain", "is_valid"), [("day", False), ("week", False), ("month", True), ("year", True)])
def test_files_may_be_named_by_their_month_if_months_lie_in_the_periods_of_the_declared_grain(
    grain: str,
    is_valid: bool,  # noqa: FBT001
) -> None:
    given = {"days": {"first": "2024-01-01", "grain": grain}, "tables": {"orders": {"files": "in/{day:%Y-%m}.csv"}}}

    if is_valid:
        assert grain == RawDeclaration.model_validate(given).days.grain
    else:
        with pytest.raises(ValidationError, match=rf"names files by month .* but the days have grain '{grain}'"):
            RawDeclaration.model_validate(given)


def test_a_lightgbm_parameter_that_cannot_be_set_is_refused_with_its_line() -> None:
    lines = "tuning:\n    fixed:\n      eta: 0.1\n      machines: 10.0.0.1:80\n      num_leafs: 7\n"

    with pytest.raises(DeclarationError) as error:
        read_declaration(f"{MODEL}  {lines}", where="defs.yaml")

    machines, leaves = str(error.value).splitlines()
    line, reason = MODEL.count("\n") + 4, "is not a LightGBM parameter that can be set"
    assert machines.startswith(f"defs.yaml:{line}: tuning.fixed.machines: 'machines' {reason}")
    assert leaves.startswith(f"defs.yaml:{line + 1}: tuning.fixed.num_leafs: 'num_leafs' {reason}")
    assert "(did you mean 'num_leaves'?)" in leaves


@pytest.mark.parametrize(
    ("lines", "deciding", "tuning", "measured"),
    [
        ("", "rmse", "rmse", ("rmse", "mae", "r2")),
        ("  objective: {loss: mae}\n", "mae", "mae", ("mae", "rmse", "r2")),
        ("  objective: {loss: huber, delta: 2}\n", "mae", "mae", ("mae", "rmse", "r2")),
        ("  objective: {transform: log1p}\n", "rmse", "rmse", ("rmse", "mae", "r2")),
        ("  objective: {loss: poisson}\n", "poisson_deviance", "poisson_deviance",
         ("poisson_deviance", "rmse", "mae", "r2")),
        ("  objective: {loss: tweedie, variance_power: 1.3}\n", "tweedie_deviance at 1.3", "tweedie_deviance at 1.3",
         ("tweedie_deviance at 1.3", "rmse", "mae", "r2")),
        ("  objective: {loss: quantile, alpha: 0.9}\n  evaluation: {metric: mae}\n  tuning: {metric: pinball_loss}\n",
         "mae", "pinball_loss at 0.9", ("mae", "rmse", "r2", "pinball_loss at 0.9")),
        ("  objective: {loss: quantile, alpha: 0.9}\n  evaluation: {metric: pinball_loss, within: day}\n",
         "pinball_loss at 0.9 within day", "pinball_loss at 0.9",
         ("pinball_loss at 0.9 within day", "rmse", "mae", "r2", "pinball_loss at 0.9")),
    ],
)  # fmt: skip
def test_the_objective_decides_the_metrics_unless_they_are_declared(
    lines: str, deciding: str, tuning: str, measured: tuple[str, ...]
) -> None:
    declared = model(REGRESSION + lines)

    assert (deciding, tuning, measured) == (declared.metric, declared.tuning_metric, declared.measured)


def test_the_metrics_of_a_ranking_are_measured_within_its_query() -> None:
    found = model(RANKING + "  evaluation: {metric: mean_reciprocal_rank}\n  tuning: {metric: ndcg}\n")

    first, second = "mean_reciprocal_rank within search_id", "ndcg at 5 within search_id"
    assert (first, second) == (found.metric, found.tuning_metric)
    assert (first, second, "mean_average_precision within search_id") == found.measured
    assert second == model(RANKING).metric
