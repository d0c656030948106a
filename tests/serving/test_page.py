"""The page for people, and what its form needs."""

import re
from dataclasses import replace

from ml_assets.serving.app import Application
from ml_assets.serving.served_model import ServedModel
from tests.page import Page
from tests.serving.asgi import get, post

FORM = "/v1/models/returns/form"


def test_the_page_needs_no_other_host_and_runs_no_script_but_its_own(application: Application) -> None:
    answer = get(application, "/")
    text = answer.body.decode()
    page = Page(text)

    assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["content-type"])
    assert [] == page.references
    [nonce] = {*re.findall(r'nonce="([^"]+)"', text)}
    policy = answer.headers["content-security-policy"]
    assert f"default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'" in policy
    assert nonce not in get(application, "/").body.decode()
    assert "://" not in text
    assert "1.2.3" in text


def test_each_element_that_the_script_reads_is_on_the_page(application: Application) -> None:
    text = get(application, "/").body.decode()

    assert {*re.findall(r'\bat\("([\w-]+)"\)', text)} <= {*Page(text).ids}


def test_the_form_has_each_field_and_the_golden_rows_are_answered(
    application: Application, served: ServedModel
) -> None:
    form = get(application, FORM).json

    assert (served.version, 1, True) == (form["version"], form["entry"], form["is_explained"])
    kinds = {it["name"]: (it["kind"], it["unit"], it["choices"]) for it in form["fields"]}
    assert {"shop": ("text", None, ["a", "b", "c"]), "items": ("integer", None, []),
            "weight kg": ("number", "kg", [])} == kinds  # fmt: skip
    assert 32 == len(form["rows"])
    assert 200 == post(application, "/v1/models/returns/explain", {"rows": form["rows"]}).status


def test_the_form_shows_no_personal_value(application: Application, served: ServedModel) -> None:
    table = served.inputs.table
    columns = tuple(replace(it, is_pii=it.name == "shop") for it in table.columns)
    fields = tuple(replace(it, column=replace(it.column, is_pii=it.name == "shop")) for it in served.inputs.fields)
    inputs = replace(served.inputs, table=replace(table, columns=columns), fields=fields)
    application.registry.slots["returns"].served = replace(served, inputs=inputs)

    form = get(application, FORM).json

    assert [] == form["rows"]
    assert {"shop": [], "items": [], "weight kg": []} == {it["name"]: it["choices"] for it in form["fields"]}
