"""The Jinja template of the backtest page, and its additions to the style of the model card.

The values come from `simulation_page`; nothing is computed here.
"""

OWN_STYLE = """
.tiles { grid-template-columns: repeat(auto-fit, minmax(min(9.6rem, 45%), 1fr)); }
nav li { break-inside: avoid; }
td.day { white-space: nowrap; }
td ul { margin: 0; padding-left: 1rem; } td li { margin: 0 0 .2rem; }
tr.shown th { color: var(--accent); }
details { margin: 0 0 1.1rem; } summary { cursor: pointer; color: var(--muted); margin: 0 0 .5rem; }
td .badge { padding: .05rem .5rem; font-size: .75rem; white-space: nowrap; }
@media (max-width: 34rem) { .sentences td:last-child, .sentences th:last-child { min-width: 20rem; } }
"""

TEMPLATE = """
{%- macro retrainings(rows) -%}
<div class="scroll"><table class="sentences"><thead><tr><th>As of</th><th>Cause</th><th>Verdict</th>
<th class="n">Fit</th><th>Facts and verdict</th></tr></thead><tbody>
{%- for row in rows %}
<tr><td class="day">{{ row.day }}</td><td>{{ row.cause }}</td>
<td><span class="badge {{ "good" if row.outcome == "promoted" else "bad" }}">{{ row.outcome }}</span></td>
<td class="n">{{ "–" if row.cause == "watch" else "%.1f s" % row.seconds }}</td>
<td>{{ row.sentence }}
{%- if row.outcome != "rolled back" and row.reasons %}<span class="about">{{ row.reasons[:3] | join(" ") }}
{%- if row.reasons | length > 3 %} And {{ row.reasons | length - 3 }} more rules.{% endif %}</span>{% endif %}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro -%}
{%- macro table_of(results) -%}
<div class="scroll"><table><thead><tr><th>Policy</th><th class="n">{{ summary.metric | metric }}</th>
<th class="n">Gain over never</th><th class="n">Of weekly's gain</th><th class="n">Fits</th>
<th class="n">Time of fits</th><th>Verdicts</th></tr></thead><tbody>
{%- for it in results %}
<tr{% if it.policy == "triggered" %} class="shown"{% endif %}><th scope="row">{{ it.policy }}</th>
<td class="n">{{ it.metric.value | fixed }}<span class="about">{{ it.metric.ends("z.4f") }}</span></td>
<td class="n">{% if it.gain %}{{ it.gain.value | signed }}
<span class="about">{{ it.gain.ends("+z.4f") }}</span>{% else %}–{% endif %}</td>
<td class="n">{{ it.share_of_weekly | share }}</td><td class="n">{{ it.fits }}</td>
<td class="n">{{ "%.1f s" % it.seconds if it.fits else "–" }}</td><td>{{ it | verdicts }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro -%}
{%- macro head(id, title) -%}
<h2 id="{{ id }}">{{ title }}</h2>
{%- endmacro -%}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Simulation: {{ summary.model }}</title>
<style>{{ style }}</style>
</head>
<body>
<div class="page">
<header>
<p class="eyebrow">Simulation, {{ summary.first_day }} to {{ summary.last_day }}</p>
<h1>{{ summary.model }}</h1>
<p class="lead">{{ summary.sentence }}</p>
{%- if summary.injections %}
<p><span class="badge bad">injected: {{ summary.injections | join("; ") }}</span></p>
{%- endif %}
<dl class="tiles">
{%- for tile in tiles %}
<div><dt>{{ tile.name }}</dt><dd>{{ tile.figure }}</dd><dd class="aside">{{ tile.aside }}</dd></div>
{%- endfor %}
</dl>
</header>
<nav aria-label="Contents"><h2>Contents</h2>
<ol>{% for id, title in sections %}<li><a href="#{{ id }}">{{ title }}</a></li>{% endfor %}</ol></nav>
<main>

<section>{{ head("policies", "Results by policy") }}
<p>All policies start with the same model and differ only in when they train. The same gate judges every challenger.
The figures are measured on {{ summary.rows | number }} labelled predictions of {{ reported_from }} to
{{ summary.last_day }}, each by the champion of its day. Below each figure is its 95 % interval, from leaving out one
day at a time, the same days for all policies.</p>
{{ table_of(summary.policies) }}
{%- if summary.choice %}
<h3>On the days on which the policy was chosen</h3>
<p>{{ summary.first_day }} to {{ summary.selection_last_day }}. The best of several policies looks better than it is on
the days on which it was chosen, so these figures are biased. The figures above are biased too if the rules were tuned
on them.</p>
{{ table_of(summary.choice) }}
{%- endif %}
<figure>{{ plots.fits }}</figure>
</section>

<section>{{ head("weeks", "Week by week") }}
<figure>{{ plots.weeks }}</figure>
{%- if "gains" in plots %}<figure>{{ plots.gains }}</figure>{% endif %}
</section>

<section>{{ head("turns", "Where triggered gained or lost") }}
{%- for against, lost, gained, rows in turns %}
<h3>Against {{ against }}: {{ gained }} weeks better, {{ lost }} worse</h3>
{%- if rows %}
<div class="scroll"><table class="sentences"><thead><tr><th>Week from</th><th class="n">Triggered</th>
<th class="n">{{ against | capitalize }}</th><th class="n">Gain</th><th>What happened</th></tr></thead><tbody>
{%- for row in rows %}
<tr><td class="day">{{ row.first_day }}</td><td class="n">{{ row.value | fixed }}</td>
<td class="n">{{ row.other | fixed }}</td>
<td class="n {{ "good-text" if row.gain > 0 else "bad-text" }}">{{ row.gain | signed }}</td>
<td>{{ row.happened }}</td></tr>
{%- endfor %}
</tbody></table></div>
<p class="quiet">The worst weeks come first, then the best. Weeks without a difference are omitted.</p>
{%- endif %}
{%- else %}<p class="missing">Triggered retraining was not compared with another policy.</p>
{%- endfor %}
</section>

<section>{{ head("retrainings", "Each retraining") }}
{%- if own %}
<h3>Triggered</h3>
{{ retrainings(own) }}
{%- else %}<p>Triggered retraining trained no model.</p>{% endif %}
{%- for policy, rows in calendars %}
<details><summary>{{ policy | capitalize }}: {{ rows | length }} retrainings</summary>
{{ retrainings(rows) }}
</details>
{%- endfor %}
</section>

<section>{{ head("held", "Postponed retrainings") }}
{%- if held %}
<div class="scroll"><table class="sentences"><thead><tr><th>Days</th><th class="n">Number</th>
<th>Reason on the last day</th></tr></thead><tbody>
{%- for span in held %}
<tr><td class="day">{{ span.first }}{% if span.days > 1 %} to {{ span.last }}{% endif %}</td>
<td class="n">{{ span.days }}</td><td>{{ span.sentence }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}<p>No retraining was postponed.</p>{% endif %}
</section>

<section>{{ head("rules", "Reliability of the rules") }}
{%- if detection.reason %}
<p>{{ detection.reason }}</p>
{%- else %}
<p>The rules are tested on streams of days, drawn with replacement from every second day of
{{ detection.first_day }} to {{ detection.last_day }} as the first model scored them. The reference comes from the days
in between. In a stream without an injected drift, each request is a false alarm. Cool-downs are ignored.</p>
<div class="scroll"><table><thead><tr><th>False alarms</th><th class="n">Days</th><th class="n">Judged</th>
<th class="n">Over a drift limit</th>
<th class="n">Requests by drift</th><th class="n">Requests by performance</th></tr></thead><tbody>
{%- for how, it in detection.false_alarms.items() %}
<tr><th scope="row">{{ "whole days drawn" if how == "days" else "rows drawn" }}</th><td class="n">{{ it.days }}</td>
<td class="n">{{ it.judged }}</td><td class="n">{{ it.over }}</td><td class="n">{{ it.requested_by_drift }}</td>
<td class="n">{{ it.requested_by_performance }}</td></tr>
{%- endfor %}
</tbody></table></div>
<p>One drift of each kind is injected into the most important columns. It is detected if a rule requests a retraining
within three days (performance: within three days with known labels).</p>
<div class="scroll"><table><thead><tr><th>Drift</th><th>Column</th><th class="n">Size</th>
<th class="n">Loss of {{ summary.metric | metric }}</th><th class="n">Trials</th><th class="n">Detected by drift</th>
<th class="n">By performance</th><th class="n">By either</th></tr></thead><tbody>
{%- for it in detection.power %}
<tr><th scope="row">{{ it.kind }}</th><td>{{ it.column }}</td><td class="n">{{ "%g" % it.size }}</td>
<td class="n">{{ it.cost | fixed }}</td><td class="n">{{ it.trials }}</td><td class="n">{{ it.by_drift }}</td>
<td class="n">{{ it.by_performance }}</td><td class="n">{{ it.by_either }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
</section>

<section>{{ head("how", "Method") }}
<p>The champion predicts each day. At the end of the day the rules of the sensors check its drift and the labels known
by then. If they request a retraining, a challenger is trained on the data known by the end of the day, in the windows
of a retraining, and judged by the gate. A promoted challenger predicts from the next day on. The first days of a new
champion are compared with its predecessor. The seconds of a fit are CPU time of this machine, without importances,
tuning and evaluation{% if summary.is_tuned %}, except for features and parameters that were chosen again{% endif %}.
</p>
<dl class="facts">
{%- for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor -%}
</dl>
</section>
</main>
<footer>Written by <code>ml-assets simulate {{ summary.model }} --from {{ summary.first_day }} --to
{{ summary.last_day }} --choose-until {{ summary.selection_last_day }}</code></footer>
</div>
</body>
</html>
"""
