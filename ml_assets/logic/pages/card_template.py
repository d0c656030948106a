"""The Jinja template and the style of the model card, both inline so that the page needs no other file.

Its texts are computed in `card`; the template computes nothing.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --sheet: #f6f7f9; --ink: #1d2228; --muted: #5d6671; --line: #dde1e6; --accent: #0067a3;
  --good: #00734f; --good-paper: #e3f4ee; --bad: #b34700; --bad-paper: #fdeee2; --bar: #8cc3e6;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --sheet: #1b2027; --ink: #e4e9ee; --muted: #9ba6b2; --line: #2e353e; --accent: #6bbcf0;
    --good: #4fd1a5; --good-paper: #12332a; --bad: #ff9b5e; --bad-paper: #3a2414; --bar: #2a6590;
    --plot-paper: #14181d; --plot-ink: #e4e9ee; --plot-muted: #9ba6b2; --plot-faint: #59636e; --plot-grid: #272e36;
    --plot-blue: #56b4e9; --plot-sky: #2f6f96; --plot-green: #2fc79c; --plot-vermillion: #ff7f3a;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
.page { max-width: 66rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
@media screen and (min-width: 60rem) {
  .page { display: grid; grid-template-columns: 12rem minmax(0, 46rem); column-gap: 4rem; }
  header, footer { grid-column: 2; }
  nav { grid-column: 1; grid-row: 1 / span 3; position: sticky; top: 2rem; align-self: start;
        max-height: calc(100vh - 3rem); overflow-y: auto; }
  main { grid-column: 2; }
}
nav { font-size: .875rem; }
nav h2 { margin: 0 0 .6rem; padding: 0; border: 0; font-size: .75rem; letter-spacing: .08em; text-transform:
uppercase;
         color: var(--muted); font-weight: 600; }
nav ol { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .2rem 0; color: var(--muted); text-decoration: none; }
nav a:hover, nav a:focus-visible { color: var(--accent); }
@media screen and (max-width: 59.99rem) {
  nav { margin: 1.8rem 0 0; } nav ol { columns: 2; }
}
.eyebrow { margin: 0; font-size: .75rem; letter-spacing: .08em; text-transform: uppercase; color: var(--muted);
           font-weight: 600; }
h1 { margin: .2rem 0 .6rem; font-size: 2.4rem; line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere; }
.lead { margin: 0 0 1rem; font-size: 1.15rem; line-height: 1.5; }
h2 { margin: 3.2rem 0 .9rem; padding-top: 1.1rem; border-top: 1px solid var(--line); font-size: 1.4rem;
     line-height: 1.25; letter-spacing: -.01em; }
main > section:first-child h2 { margin-top: 2.2rem; }
h3 { margin: 1.8rem 0 .5rem; font-size: 1rem; }
p, ul { margin: 0 0 .9rem; } ul { padding-left: 1.2rem; } li { margin: .2rem 0; }
a { color: var(--accent); }
code { font: .86em/1.4 var(--mono); overflow-wrap: anywhere; }
.quiet { color: var(--muted); font-size: .875rem; }
.missing { padding: .7rem .9rem; border: 1px dashed var(--line); border-radius: 6px; color: var(--muted); }
.badge { display: inline-block; padding: .15rem .6rem; border-radius: 99px; font-size: .8125rem; font-weight: 600;
         background: var(--sheet); color: var(--muted); }
.badge.good { background: var(--good-paper); color: var(--good); }
.badge.bad { background: var(--bad-paper); color: var(--bad); }
.good-text { color: var(--good); } .bad-text { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(12.5rem, 40%), 1fr));
         gap: 1px; margin: 1.6rem 0 0; padding: 0;
         border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.tiles div { padding: .8rem 1rem; box-shadow: 0 0 0 1px var(--line); }
.tiles dt { font-size: .8125rem; color: var(--muted); }
.tiles dd { margin: .1rem 0 0; font-size: 1.55rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.25;
            font-variant-numeric: tabular-nums; }
.tiles dd.aside { font-size: .8125rem; font-weight: 400; color: var(--muted); letter-spacing: 0; }
dl.facts { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: .3rem 1.4rem;
           margin: 0 0 1rem; }
dl.facts dt { color: var(--muted); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0 0 1.1rem; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.4;
        font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: 0 0 .4rem; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: .8125rem; vertical-align: bottom; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { color: var(--ink); font-size: inherit; vertical-align: top; }
tbody th:has(.about) { min-width: 11rem; }
tbody th code { white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.own { font-weight: 600; }
.keep, td code { white-space: nowrap; } td.decision { min-width: 10rem; }
th.n { white-space: normal; }
table.narrow { width: auto; min-width: min(100%, 24rem); }
tr.group th { padding-top: .9rem; color: var(--muted); }
tr.faded td, tr.faded th { color: var(--muted); }
.about { display: block; color: var(--muted); font-size: .8125rem; font-weight: 400; }
.bar { display: block; height: .3rem; margin-top: .25rem; border-radius: 2px; background: var(--bar); min-width:
1px; }
.reasons { list-style: none; padding: 0; } .reasons li { padding: .45rem .8rem; border-left: 3px solid var(--line); }
.reasons.good li { border-color: var(--good); } .reasons.bad li { border-color: var(--bad); }
figure { margin: 1.2rem 0 1.6rem; }
svg.plot { display: block; width: 100%; max-width: 720px; height: auto; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
         font-size: .8125rem; }
@media (max-width: 34rem) {
  .page { padding-top: 1.5rem; } h1 { font-size: 1.8rem; }
  dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: .5rem; }
}
@page { size: A4; margin: 18mm 16mm 18mm; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 9.5pt; line-height: 1.42; }
  .page { max-width: none; padding: 0; }
  nav { margin: 6mm 0 0; } nav ol { columns: 3; } nav a { color: var(--ink); padding: .5mm 0; }
  h1 { font-size: 22pt; } .lead { font-size: 11.5pt; } .tiles dd { font-size: 13pt; }
  .tiles { grid-template-columns: repeat(3, 1fr); margin-top: 4mm; }
  h2 { font-size: 13.5pt; margin: 8mm 0 2.5mm; padding-top: 3mm; break-after: avoid; } h3 { break-after: avoid; }
  main > section:first-child h2 { margin-top: 6mm; }
  table { font-size: 8.2pt; } th, .about, .quiet, caption { font-size: 7.8pt; }
  th, td { padding-top: .9mm; padding-bottom: .9mm; }
  thead { display: table-header-group; }
  tr, figure, .tiles, .reasons li, dl.facts > * { break-inside: avoid; }
  tr.group, p:has(+ figure) { break-after: avoid; }
  .scroll:not(:has(tbody tr:nth-child(16))) { break-inside: avoid; }
  .scroll { overflow: visible; }
  svg.plot { max-width: 140mm; }
  p { break-inside: avoid; }
  a { color: inherit; text-decoration: none; }
  .bar, .badge, .tiles, .reasons li { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""

TEMPLATE = """
{%- macro missing(asset) -%}
<p class="missing">Not measured yet: materialize <code>{{ asset }}</code>, then the card.</p>
{%- endmacro -%}
{%- macro plot(name) -%}
{%- if name in plots %}<figure>{{ plots[name] }}</figure>{% endif -%}
{%- endmacro -%}
{%- macro facts(pairs) -%}
<dl class="facts">
{%- for name, value in pairs %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor -%}
</dl>
{%- endmacro -%}
{%- macro bullets(items, otherwise) -%}
{%- if items %}<ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul>
{%- else %}<p class="missing">{{ otherwise }}</p>{% endif -%}
{%- endmacro -%}
{%- macro head(id, title) -%}
<h2 id="{{ id }}">{{ title }}</h2>
{%- endmacro -%}
{%- macro comparisons(items, caption) -%}
<div class="scroll"><table>{% if caption %}<caption>{{ caption }}</caption>{% endif %}
<thead><tr><th>Against</th><th>Metric</th><th class="n">This model</th><th class="n">The other</th>
<th class="n">Difference (above 0 is better)</th><th class="n">Rows</th></tr></thead><tbody>
{%- for item in items %}
<tr><th scope="row">{{ item.against }}</th><td class="keep">{{ item.metric | metric }}</td>
<td class="n">{{ item.challenger | number }}</td>
<td class="n">{{ item.other | number }}</td>
<td class="n {{ item | tone }}">{{ item.difference | signed }}</td><td class="n">{{ item.rows | number }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro -%}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Model card: {{ card.name }}</title>
<style>{{ style }}</style>
</head>
<body>
<div class="page">
<header>
<p class="eyebrow">Model card</p>
<h1>{{ card.name }}</h1>
<p class="lead">{{ card.description or "No description is declared." }}</p>
<p><span class="badge {{ status.tone }}">{{ status.words }}</span></p>
<dl class="tiles">
{%- for tile in tiles %}
<div><dt>{{ tile.name }}</dt><dd class="{{ tile.tone }}">{{ tile.figure }}</dd>
<dd class="aside">{{ tile.aside }}</dd></div>
{%- endfor %}
</dl>
</header>
<nav aria-label="Contents"><h2>Contents</h2>
<ol>{% for id, title in sections %}<li><a href="#{{ id }}">{{ title }}</a></li>{% endfor %}</ol></nav>
<main>

<section>{{ head("about", "What it is and who owns it") }}
{{ facts(about) }}
</section>

<section>{{ head("use", "Intended use and limits of use") }}
<p>{{ card.intended_use or "No intended use is declared." }}</p>
<h3>Limits</h3>
{{ bullets(card.limits, "No limits are declared.") }}
</section>

<section>{{ head("data", "Data") }}
{%- if card.tables %}
<div class="scroll"><table><caption>Tables that the model reads</caption>
<thead><tr><th>Table</th><th>Role</th><th class="n">Rows</th><th>Days</th></tr></thead><tbody>
{%- for table in card.tables %}
<tr><th scope="row"><code>{{ table.name }}</code>{% if table.description %}<span class="about">{{ table.description }}
</span>{% endif %}</th><td>{{ table.role }}</td><td class="n">{{ table.rows | number }}</td>
<td class="keep">{{ (table.first_day, table.last_day) | days }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
<h3>Leaks</h3>
{%- if card.leaks and card.leaks.cuts %}
<p>{{ card.leaks.sentence }}</p>
{%- else %}<p class="missing">These features were not tested for leaks.</p>{% endif %}
{%- if card.leaks and card.leaks.suspects %}
<p>Features that predict the target almost alone, and that neither the leak test cleared nor the declaration
acknowledges:</p>
<ul>{% for suspect in card.leaks.suspects %}<li>{{ suspect.sentence }}</li>{% endfor %}</ul>
{%- endif %}
{%- for title, is_observed in (("Assumed known times, which no rebuild can prove wrong", false),
                              ("Observed known times, which the sources record", true)) %}
{%- set times = card.leaks.known_times | selectattr("is_observed", "eq", is_observed) | list if card.leaks else [] %}
{%- if times %}
<div class="scroll"><table><caption>{{ title }}</caption>
<thead><tr><th>Table</th><th>Columns</th><th>Known time</th></tr></thead><tbody>
{%- for time in times %}
<tr><th scope="row"><code>{{ time.table }}</code></th><td>{{ time.columns | join(", ") or "the row" }}</td>
<td><code>{{ time.sql }}</code></td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
{%- endfor %}
{%- if card.training_set %}
<div class="scroll"><table><caption>Windows of the training set, as of {{ card.training_set.as_of }}</caption>
<thead><tr><th>Window</th><th>Days</th><th class="n">Rows</th><th class="n">{{ target_words }}</th></tr>
</thead><tbody>
{%- for window in card.training_set.windows %}
<tr><th scope="row">{{ window.split }}</th><td class="keep">{{ (window.first_day, window.last_day) | days }}</td>
<td class="n">{{ window.rows | number }}</td><td class="n">{{ window.target_mean | target }}</td></tr>
{%- endfor %}
</tbody></table></div>
<h3>Excluded rows</h3>
{%- if card.training_set.excluded_rows %}
<div class="scroll"><table class="narrow"><thead><tr><th>Reason</th><th class="n">Rows</th></tr></thead><tbody>
{%- for reason, rows in card.training_set.excluded_rows.items() %}
<tr><td>{{ reason }}</td><td class="n">{{ rows | number }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}<p>None.</p>{% endif %}
<p class="quiet">Each row is a prediction with key {{ card.training_set.key | codes }}, made at
<code>{{ card.training_set.prediction_time }}</code> for the event at
<code>{{ card.training_set.event_time }}</code>. Its label becomes known at
<code>{{ card.training_set.known_time }}</code>. Only labels known by the as-of day are used.</p>
{%- else %}{{ missing("training_set") }}{% endif %}
</section>

<section>{{ head("features", "Features") }}
{%- if features %}
<p>{{ features_sentence }}</p>
<div class="scroll"><table>
<thead><tr><th>Feature</th><th>Unit</th><th class="n">Share of |SHAP|</th><th class="n">Permutation</th>
<th>Decision</th>
</tr></thead><tbody>
{%- for feature in features %}
<tr{% if feature.kept == false %} class="faded"{% endif %}><th scope="row"><code>{{ feature.name }}</code>
{%- if feature.description %}<span class="about">{{ feature.description }}</span>{% endif %}</th>
<td>{{ feature.unit or ("category" if feature.is_categorical else "–") }}</td>
<td class="n">{{ feature.shap_share | share }}
{%- if feature.width %}<span class="bar" style="width:{{ feature.width }}%"></span>{% endif %}</td>
<td class="n">{{ feature.permutation | fixed }}</td>
<td class="decision">
{%- if feature.kept is none %}not measured yet{% else %}{{ "selected" if feature.kept else "dropped" }}
{%- if feature.reason %}: {{ feature.reason }}{% endif %}{% endif %}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- if encoding %}<p class="quiet">{{ encoding }}</p>{% endif %}
{%- else %}{{ missing("training_set") }}{% endif %}
</section>

<section>{{ head("metrics", "Metrics beside baselines") }}
{%- if evaluation %}
<p>On {{ evaluation.rows | number }} frozen test rows{{ test_days }}, which were used neither for training nor for
tuning{{ left_out }}.
Brackets are 95 % intervals, from leaving out one day at a time. They allow for a correlation of neighbouring days of
up to 0.6
{%- if evaluation.metrics[evaluation.metric].reason %} ({{ evaluation.metrics[evaluation.metric].reason }}){% endif %}.
The deciding metric is {{ evaluation.metric | metric }}
{%- if evaluation.groups %}: the {{ evaluation.groups.words }}{% endif %}.
{%- if evaluation.operating_point %} Precision, recall and lift are measured on {{ evaluation.operating_point.words }}.
{%- endif %}</p>
<div class="scroll"><table>
<thead><tr><th>Metric</th><th class="n">This model</th>
{%- for baseline in evaluation.baselines %}<th class="n">{{ baseline.name }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in metric_rows %}
<tr><th scope="row" class="keep">{{ row.title }} <span class="quiet">{{ row.direction }}</span></th>
<td class="n own">{{ row.own | interval }}</td>
{%- for value in row.baselines %}<td class="n">{{ value | number }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- if evaluation.baselines %}
<ul class="quiet">{% for baseline in evaluation.baselines %}<li>{{ baseline.name }}: {{ baseline.description }}</li>
{%- endfor %}</ul>
{%- endif %}
{%- if evaluation.against_baselines %}
{{ comparisons(evaluation.against_baselines, "Against each baseline on the same rows") }}
{%- endif %}
{{ plot("roc") }}{{ plot("precision_recall") }}{{ plot("predicted_actual") }}{{ plot("residuals") }}
{{ plot("confusion") }}
{%- else %}{{ missing("evaluation") }}{% endif %}
</section>

<section>{{ head("champion", "Against champion and anchor") }}
{%- if not evaluation %}{{ missing("evaluation") }}
{%- else %}
{%- for sentence in opponent_sentences %}<p>{{ sentence }}</p>{% endfor %}
{%- if opponents %}{{ comparisons(opponents, "") }}{% endif %}
{%- endif %}
</section>

<section>{{ head("gate", "The gate's verdict") }}
{%- if card.promotion %}
<p><span class="badge {{ status.tone }}">{{ verdict }}</span>
Entry {{ card.promotion.number }} of the promotion log, decided {{ card.promotion.decided_at | time }}
by {{ card.promotion.decided_by }}.
{%- if card.promotion.cause %} The training was requested by {{ card.promotion.cause }}.{% endif %}</p>
{%- if card.promotion.rules %}
<div class="scroll"><table><thead><tr><th>Rule</th><th>Holds</th><th>Why</th></tr></thead><tbody>
{%- for rule in card.promotion.rules %}
<tr><td>{{ rule.name }}</td><td>{{ "yes" if rule.holds else "no" }}</td><td>{{ rule.sentence }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}
<ul class="reasons {{ status.tone }}">{% for reason in card.promotion.reasons %}<li>{{ reason }}</li>{% endfor %}</ul>
{%- endif %}
{%- if card.promotion.figures %}
<div class="scroll"><table class="narrow"><thead><tr><th>Figure</th><th class="n">Value</th></tr></thead><tbody>
{%- for name, value in card.promotion.figures.items() %}
<tr><td>{{ name }}</td><td class="n">{{ value | figure }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
{%- else %}{{ missing("champion") }}{% endif %}
</section>

<section>{{ head("slices", "Slices") }}
{%- if not evaluation %}{{ missing("evaluation") }}
{%- elif slices %}
<p>{{ slices_sentence or "Brackets are 95 % intervals of each slice alone." }} A slice is judged on the days that have
what the metric needs, such as both classes.</p>
{{ plot("slices") }}
<div class="scroll"><table>
<thead><tr><th>Slice</th><th class="n">Rows</th><th class="n">{{ target_words }}</th>
<th class="n">{{ evaluation.metric | metric }}</th>
{%- if slices_have_champion %}<th class="n">Champion</th><th class="n">Difference</th>{% endif %}
<th>Judged</th></tr></thead>
<tbody>
{%- for column, rows in slices %}
<tr class="group">
<th colspan="{{ 7 if slices_have_champion else 5 }}" scope="rowgroup"><code>{{ column }}</code></th></tr>
{%- for row in rows %}
<tr{% if not row.is_judged %} class="faded"{% endif %}><th scope="row">{{ row.value }}</th>
<td class="n">{{ row.rows | number }}</td><td class="n">{{ row.target_mean | target }}</td>
<td class="n">{{ (row.score, row.low, row.high) | bounds }}</td>
{%- if slices_have_champion %}<td class="n">{{ row.champion_score | number }}</td>
<td class="n {{ row.tone }}">{{ (row.difference, row.difference_low, row.difference_high) | signed_bounds }}</td>{%
endif %}
<td>{% if row.is_judged %}yes, on {{ row.clusters }} {{ row.unit }}{% else %}no: {{ row.reason or "too few rows" }}{%
endif %}</td></tr>
{%- endfor %}{% endfor %}
</tbody></table></div>
{%- else %}<p>No slices are declared.</p>{% endif %}
</section>

<section>{{ head("calibration", "Calibration") }}
{%- if not evaluation %}{{ missing("evaluation") }}
{%- elif calibration %}
{{ plot("calibration") }}
<p>Brackets are 95 % intervals, from leaving out one day at a time. A bin has no interval if it has rows of fewer than
five days, or if all of its days have the same share.</p>
<div class="scroll"><table>
<thead><tr><th class="n">Bin</th><th class="n">Rows</th><th class="n">Mean score</th>
<th class="n">Actual share</th></tr></thead><tbody>
{%- for bin in calibration %}
<tr><td class="n">{{ bin.bin }}</td><td class="n">{{ bin.rows | number }}</td>
<td class="n">{{ bin.score_mean | number }}</td>
<td class="n">{{ (bin.truth_mean, bin.low, bin.high) | bounds }}{{ " (no interval)" if bin.low is none }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}<p>Only binary models have calibration bins; the task of this model is {{ card.task }}
{%- if "predicted_actual" in plots %}. Predicted against actual values are shown under Metrics{% endif %}.</p>{% endif
%}
{{ plot("score_histogram") }}
</section>

<section>{{ head("importances", "Importances") }}
{%- if card.importances %}
{%- if "importances" in plots %}
<p>The importances of this model's features on validation rows: each feature's share of mean |SHAP|, and the loss of the
metric over all rows if the feature's values are shuffled. The loss is measured on {{ permuted }} of
{{ validation_rows }} validation rows, drawn at random, with {{ shuffles }} shuffles of each feature. The lines are ± 1
standard deviation of these shuffles. They do not cover the choice of the rows.</p>
{{ plot("importances") }}
{%- endif %}
<h3>How the features were selected</h3>
<p>In each of {{ card.importances.summary.folds }} time folds, a quick model of
{{ card.importances.summary.rounds }} rounds was fitted on the days before, with columns of noise added to the features.
In the last fold it reached a validation {{ card.importances.summary.metric | metric }} of
{{ card.importances.summary.score | number }} on {{ card.importances.summary.rows | number }} rows (no interval), on
which {{ card.importances.summary.shuffles }} shuffles of each feature were measured too. A feature beats noise in a
fold if its gain is above that of every noise column of its kind, or if shuffling it costs more than shuffling any of
them, by two standard errors. It does not beat noise if the model is better without it, by more than any noise and two
standard errors. A feature is selected if it beats noise in at least half of the folds. If no feature does, all are
selected.</p>
{{ plot("selection") }}
{%- else %}{{ missing("importances") }}{% endif %}
</section>

<section>{{ head("tuning", "Tuning") }}
{%- if card.tuning %}
<p>{{ card.tuning.best.trials }} trials, of which {{ card.tuning.best.pruned }} were pruned; the best reached a
validation
{{ card.tuning.best.metric | metric }} of {{ card.tuning.best.value | number }} (no interval; the figure is optimistic,
because the best trial was chosen on the same {{ validation_rows }} validation rows) with {{ card.tuning.best.rounds }}
rounds
on {{ card.tuning.best.features | length }} features.</p>
{{ plot("tuning") }}
<div class="scroll"><table class="narrow"><caption>The best parameters</caption><thead><tr><th>Parameter</th>
<th class="n">Value</th></tr>
</thead><tbody>
{%- for name, value in card.tuning.best.parameters.items() %}
<tr><td><code>{{ name }}</code></td><td class="n">{{ value | plain }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}{{ missing("tuning") }}{% endif %}
</section>

<section>{{ head("drift", "Drift after training") }}
{%- if drift_summary %}
<p>{{ drift_states[:1] | upper }}{{ drift_states[1:] }}.</p>
{% if "drift" not in plots %}<p>{{ drift_summary.sentence[:1] | upper }}{{ drift_summary.sentence[1:] }}</p>{% endif %}
{%- if drift_summary.drifted_features %}
<p>Over their limits on {{ drift_summary.day }}: {{ drift_summary.drifted_features | codes }}.</p>{% endif %}
{{ plot("drift_history") }}{{ plot("drift") }}
<p class="about">PSI is the sum of (q − p) ln(q / p) over the tenths or categories of the training data. p and q are
the shares of training rows and of the day's rows in each. Excess PSI is the PSI, less what sampling error alone
explains for this number of rows, (bins − 1)(1/n + 1/m), less what 99 of 100 training days do not exceed; at least 0.
No share is taken as less than half a row of a training day of median size.
Weighted excess PSI is the sum over features of excess PSI times the share of mean |SHAP|.</p>
{%- else %}{{ missing("drift") }}{% endif %}
</section>

<section>{{ head("performance", "Performance on new days") }}
{%- if performance %}
{{ plot("performance") }}
<p>Expected is the mean value of the metric if the scores were calibrated: for the rows with a label if the metric is
measured on them, otherwise for all predictions of the day. Brackets are 95 % intervals that treat the rows of a day as
independent. They ignore what all rows of the day have in common.</p>
<div class="scroll"><table><caption>The last days with predictions</caption>
<thead><tr><th>Day</th><th class="n">Predictions</th><th class="n">Labels known</th>
<th class="n">{{ performance_metric | metric }}</th><th class="n">Expected</th></tr></thead><tbody>
{%- for day in performance %}
<tr><td>{{ day.day }}</td><td class="n">{{ day.predictions | number }}</td>
<td class="n">{{ day.labelled | number }}</td>
<td class="n own">
{%- if performance_metric in day.measured %}{{ day.measured[performance_metric] | interval }}{% else %}–{% endif %}
{%- if performance_metric in day.unmeasured %}
<span class="about">{{ day.unmeasured[performance_metric] }}</span>{% endif %}</td>
<td class="n">{{ (day.expected_labelled if performance_metric in day.measured else day.expected).get(performance_metric)
| number }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}{{ missing("performance") }}{% endif %}
</section>

<section>{{ head("test-score", "ML Test Score") }}
{%- if score_groups %}
<p>The score is the minimum of its four groups: <strong>{{ score_total | plain }}</strong> (Breck et al., 2017). A test
scores 1 if it is computed in every run, and 0.5 if a person did it once.</p>
<div class="scroll"><table><thead><tr><th>Test</th><th class="n">Points</th><th>Evidence</th></tr></thead><tbody>
{%- for group, points, lines in score_groups %}
<tr class="group"><th scope="rowgroup">{{ group }}</th><th class="n">{{ points | plain }}</th><th></th></tr>
{%- for line in lines %}
<tr><td>{{ line.test }}</td><td class="n">{{ line.points | plain }}</td><td>{{ line.evidence }}</td></tr>
{%- endfor %}{% endfor %}
</tbody></table></div>
{%- else %}<p class="missing">Not measured yet.</p>{% endif %}
</section>

<section>{{ head("versions", "Versions and lineage") }}
{{ facts(lineage) }}
{%- if card.versions %}
<div class="scroll"><table class="narrow"><caption>Artifacts behind this card</caption>
<thead><tr><th>Artifact</th><th>Version</th></tr></thead><tbody>
{%- for name, version in card.versions.items() %}
<tr><td><code>{{ name }}</code></td><td><code>{{ version }}</code></td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}<p class="missing">No artifact versions were given.</p>{% endif %}
{%- if parameters %}
<h3>Parameters of the model</h3>
<div class="scroll"><table class="narrow"><thead><tr><th>Parameter</th><th class="n">Value</th></tr></thead><tbody>
{%- for name, value in parameters.items() %}
<tr><td><code>{{ name }}</code></td><td class="n">{{ value | plain }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
</section>
</main>
<footer>{{ footer }}</footer>
</div>
</body>
</html>
"""
