import re

from hypothesis import given
from hypothesis import strategies as st

from ml_assets.stages.champion import in_markdown


def test_values_from_data_are_text_in_markdown() -> None:
    assert in_markdown("![x](http://a/b.png)\n<script>") == r"\!\[x\]\(http\:\/\/a\/b.png\) \<script\>"


@given(st.text())
def test_every_markdown_character_is_escaped_and_none_is_lost(text: str) -> None:
    shown = in_markdown(text)

    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())
    assert not re.search(r"[`*_\[\]()<>!]", re.sub(r"\\.", "", shown))
