from ml_assets.contracts.words import counted


def test_a_count_has_its_noun() -> None:
    assert [counted(1, "row"), counted(1200, "row"), counted(0, "day")] == ["1 row", "1,200 rows", "0 days"]
