"""The price table: its content, and how its errors are reported."""

from pathlib import Path

import pytest

from ml_assets.provenance.prices import PRICES, Prices, read_prices
from ml_assets.settings import SettingsError

TABLE = """
currency: CHF
cpu_hour: 0.045
memory_gib_hour: 0.006
gpu_hour: {NVIDIA-L4: 0.9, default: 2.6}
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the setting names; not there yet."""
    path = tmp_path / "prices.yaml"
    monkeypatch.setenv(PRICES, str(path))
    return path


def test_without_the_setting_there_are_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRICES, raising=False)

    assert read_prices() is None


def test_the_file_that_is_named_is_read(table: Path) -> None:
    table.write_text(TABLE)

    prices = read_prices()

    assert prices is not None
    assert ("CHF", 0.045, 0.006) == (prices.currency, prices.cpu_hour, prices.memory_gib_hour)
    assert (0.9, 2.6, 2.6) == (prices.of_gpu("NVIDIA-L4"), prices.of_gpu("NVIDIA-T4"), prices.of_gpu(None))


def test_a_gpu_costs_one_price_or_that_of_its_type_or_is_unknown() -> None:
    def table(gpu_hour: object) -> Prices:
        return Prices.model_validate({"currency": "CHF", "cpu_hour": 1, "memory_gib_hour": 1, "gpu_hour": gpu_hour})

    assert 2.0 == table(2).of_gpu("NVIDIA-L4")
    assert table({"NVIDIA-L4": 1}).of_gpu("NVIDIA-T4") is None
    assert table(None).of_gpu(None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("currency: CHF\ncpu_hour: [", r"prices\.yaml:2: not YAML"),
        ("- 1", "expected fields currency, cpu_hour, memory_gib_hour, gpu_hour, got list"),
        ("currency: CHF\ncpu_hour: 1", "memory_gib_hour is missing"),
        (f"{TABLE}disk_hour: 1", "there is no 'disk_hour'; expected some of currency"),
        (TABLE.replace("0.045", "-1"), "cpu_hour: Input should be greater than or equal to 0, got -1"),
        (TABLE.replace("2.6", "dear"), r"gpu_hour\.default: .*got 'dear'"),
        (TABLE.replace("CHF", "francs"), "currency: String should match .*got 'francs'"),
    ],
)
def test_an_error_is_reported_with_the_file_and_the_field(table: Path, text: str, message: str) -> None:
    table.write_text(text)

    with pytest.raises(SettingsError, match=message) as raised:
        read_prices()
    assert "prices.yaml" in str(raised.value)


def test_a_file_that_is_not_there_is_reported_with_the_setting(table: Path) -> None:
    assert not table.exists()

    with pytest.raises(SettingsError, match=r"ML_ASSETS_PRICES names .*prices\.yaml, which cannot be read \(No such"):
        read_prices()


def test_aliases_in_a_price_table_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A few lines of aliases to aliases stand for billions of values, which a message would quote."""
    (tmp_path / "prices.yaml").write_text("currency: &a [x, x]\ncpu_hour: *a\n")
    monkeypatch.setenv("ML_ASSETS_PRICES", str(tmp_path / "prices.yaml"))

    with pytest.raises(SettingsError, match=r"prices.yaml has an alias \(\*name\)"):
        read_prices()
