"use strict";
const MOST_BARS = 20;
const at = (id) => document.getElementById(id);
let token = "";
let form = null;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function showProblem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

async function ask(path, body) {
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch(path, { headers, method: body ? "POST" : "GET", body: body && JSON.stringify(body) });
  const found = await answer.json();
  if (answer.ok) return found;
  const fields = (found.errors ?? []).map((it) => `${it.field}: ${it.detail}`);
  throw Object.assign(new Error([found.detail, ...fields].join("\n")), { status: answer.status });
}

async function guarded(work) {
  showProblem("");
  try {
    await work();
  } catch (error) {
    if (error.status === 401) {
      at("login").hidden = false;
      at("service").hidden = true;
    }
    if (error.status !== 401 || token) showProblem(error.message);
  }
}

async function start() {
  const { models } = await ask("/v1/models");
  at("login").hidden = true;
  at("service").hidden = false;
  at("model").replaceChildren(...models.map((it) => element("option", it.name, { value: it.name })));
  await showModel();
}

async function showModel() {
  const name = at("model").value;
  form = await ask(`/v1/models/${name}/form`);
  at("version").textContent = `Version ${form.version.slice(0, 12)}, entry ${form.entry} of the promotion log.`;
  at("fields").replaceChildren(...form.fields.map(fieldOf));
  const rows = form.rows.map((_, number) => element("option", `golden row ${number + 1}`, { value: number }));
  at("example").replaceChildren(element("option", "an empty row", { value: "" }), ...rows);
  at("example-choice").hidden = !rows.length;
  at("example").value = rows.length ? "0" : "";
  at("result").hidden = true;
  fill();
}

function fieldOf(field, number) {
  const label = element("label", `${field.name} `);
  if (field.unit) label.append(element("small", field.unit));
  const input = element("input", "", { name: `field-${number}`, placeholder: field.is_nullable ? "no value" : "a value" });
  input.autocomplete = "off";
  if (field.description) label.title = field.description;
  if (field.kind === "number" || field.kind === "integer") input.inputMode = "decimal";
  const choices = field.kind === "boolean" ? ["true", "false"] : field.choices;
  if (choices.length) {
    const list = element("datalist", "", { id: `choices-${number}` });
    list.append(...choices.map((it) => element("option", "", { value: it })));
    input.setAttribute("list", list.id);
    label.append(list);
  }
  label.append(input);
  return label;
}

function fill() {
  const row = at("example").value === "" ? {} : form.rows[Number(at("example").value)];
  form.fields.forEach((field, number) => {
    at("row").elements[`field-${number}`].value = row[field.name] ?? "";
  });
}

function valueOf(field, text) {
  if (text === "") return null;
  if (field.kind === "boolean" && (text === "true" || text === "false")) return text === "true";
  const number = Number(text);
  return (field.kind === "number" || field.kind === "integer") && Number.isFinite(number) ? number : text;
}

async function score() {
  at("result").hidden = true;
  const texts = form.fields.map((_, number) => at("row").elements[`field-${number}`].value.trim());
  const row = Object.fromEntries(form.fields.map((field, number) => [field.name, valueOf(field, texts[number])]));
  const path = `/v1/models/${at("model").value}/${form.is_explained ? "explain" : "predict"}`;
  const answer = await ask(path, { rows: [row] });
  const { base, contributions, ...figures } = answer.predictions[0];
  at("score").textContent = written(figures.score);
  const unseen = Object.keys(answer.unseen_categories ?? {});
  const facts = { ...figures, version: answer.version, entry: answer.entry };
  if (unseen.length) facts["categories unseen in training"] = unseen.join(", ");
  at("figures").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]),
  );
  at("contributions").hidden = !contributions;
  if (contributions) showBars(base, contributions, row);
  at("result").hidden = false;
}

function written(value) {
  return Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6 ? value.toFixed(4) : value.toPrecision(4);
}

function showBars(base, contributions, row) {
  const ordered = Object.entries(contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const raw = ordered.reduce((sum, [, added]) => sum + added, base);
  const largest = Math.abs(ordered[0][1]) || 1;
  const shown = ordered.slice(0, MOST_BARS);
  const rest = ordered.slice(MOST_BARS).reduce((sum, [, added]) => sum + added, 0);
  const more = ordered.length > MOST_BARS ? ` ${ordered.length - MOST_BARS} further features add ${written(rest)}.` : "";
  at("base").textContent =
    `What each feature adds to the raw score (SHAP), from ${written(base)} on average to ${written(raw)}.${more}`;
  at("bars").replaceChildren(...shown.map(([name, added]) => {
    const item = element("li", "");
    const title = element("span", `${name} `, { class: "name" });
    title.append(element("small", row[name] === null ? "no value" : String(row[name])));
    const track = element("span", "", { class: "track" });
    const bar = element("i", "", { class: added < 0 ? "down" : "up" });
    bar.style.width = `${(50 * Math.abs(added)) / largest}%`;
    track.append(bar);
    item.append(title, track, element("span", (added < 0 ? "" : "+") + written(added), { class: "figure" }));
    return item;
  }));
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  guarded(start);
});
at("row").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(score);
});
at("model").addEventListener("change", () => guarded(showModel));
at("example").addEventListener("change", () => {
  fill();
  at("result").hidden = true;
});
guarded(start);
