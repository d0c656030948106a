"""The page of a trace: its content, and that nothing in it is executed or fetched."""

import re
from pathlib import Path

from ml_assets.provenance.lineage import backward
from ml_assets.provenance.tracing.page import render_page
from ml_assets.provenance.tracing.text import render_text
from ml_assets.provenance.tracing.touched import forward
from ml_assets.provenance.tracing.trace import TracePart, trace_of
from tests.page import Page
from tests.provenance.lakes import Chronicle, shop

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J'


def page(chronicle: Chronicle, *, of: str = "shop/model", on: bool = False) -> str:
    root = next(ref for ref in chronicle.made if ref.asset == of)
    lineage = (forward if on else backward)(chronicle.lake, [root])
    return render_page(trace_of(chronicle.lake, str(root), [TracePart("downstream" if on else "upstream", lineage)]))


def test_every_asset_has_a_box_and_a_section_that_link_to_each_other(tmp_path: Path) -> None:
    read = Page(page(shop(tmp_path)))

    assert 6 == len([it for it in read.ids if it.startswith("box-")])
    assert len(read.ids) == len(set(read.ids))
    assert {f"#{it}" for it in read.ids} == set(read.references)
    assert [] == read.open
    for part in ("2026-10-01 … 2026-10-02", "orders.csv", "a" * 32, "model.shop.stg_orders", "never champion"):
        assert part in read.text


def test_the_page_needs_neither_network_nor_script(tmp_path: Path) -> None:
    text = page(shop(tmp_path), of="raw/shops", on=True)
    read = Page(text)

    assert {"script", "link", "img", "iframe", "object", "use", "image"}.isdisjoint(read.tags)
    assert all(link.startswith("#") for link in read.references)
    assert not re.search(r"https?:|url\((?!#)|@import", text)
    assert "prefers-color-scheme: dark" in text


def test_texts_of_a_manifest_become_neither_markup_nor_control_characters(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    raw = chronicle.make(
        f"raw/{EVIL[2:9]}", "x<y>&z", parameters={"file": EVIL, "source": EVIL, "dbt": EVIL, EVIL: EVIL}, run_id=EVIL,
        environment=EVIL, git_commit=EVIL, code_version=EVIL,
    )  # fmt: skip
    chronicle.make("shop/model", None, [raw])
    lineage = backward(chronicle.lake, [chronicle.made[1]])
    trace = trace_of(chronicle.lake, EVIL, [TracePart(EVIL, lineage)])

    read = Page(render_page(trace))

    assert {"script", "img"}.isdisjoint(read.tags)
    assert "alert(1)" in read.text
    assert [] == read.open
    for text in (render_page(trace), render_text(trace, all_days=True)):
        assert all(line.isprintable() for line in text.splitlines())


def test_an_environment_that_is_no_digest_is_never_a_path(tmp_path: Path) -> None:
    outside = '{"python": "3", "platform": "p", "distributions": {"polars": "1"}}'
    (tmp_path / "outside.json").write_text(outside)
    chronicle = Chronicle(tmp_path / "lake")
    model = chronicle.make("shop/model", environment="../../outside")

    trace = trace_of(chronicle.lake, "x", [TracePart("upstream", backward(chronicle.lake, [model]))])

    assert "not a digest" == trace.environments["../../outside"].phrase


def test_the_inputs_of_an_asset_are_left_of_it_and_linked_from_it(tmp_path: Path) -> None:
    text = page(shop(tmp_path))

    layers = [re.findall(r'id="box-([^"]+)"', layer) for layer in text.split('<div class="layer">')[1:]]
    place = {box: number for number, layer in enumerate(layers) for box in layer}
    boxes = re.findall(r'id="box-([^"]+)">(.*?)</div>', text, re.DOTALL)
    links = {box: re.findall('href="#box-([^"]+)"', content) for box, content in boxes}
    assert 6 == len(place)
    assert 5 <= sum(map(len, links.values()))
    assert all(place[other] < place[box] for box, others in links.items() for other in others)


def test_a_chain_of_thousand_assets_is_drawn_and_printed_without_recursion(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    last = chronicle.make("a/n0")
    for number in range(1, 1_100):
        last = chronicle.make(f"a/n{number}", None, [last])
    trace = trace_of(chronicle.lake, "x", [TracePart("upstream", backward(chronicle.lake, [last]))])

    assert 1_100 == render_page(trace).count('id="box-')
    assert max(map(len, render_text(trace).splitlines())) < 300
