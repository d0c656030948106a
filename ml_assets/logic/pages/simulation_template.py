"""The page of a simulated life as text: what its style adds to the model card's, and its Jinja template.

What the page says is decided in `simulation_page`; nothing is computed here.
"""

OWN_STYLE = """
.tiles { grid-template-columns: repeat(auto-fit, minmax(min(9.6rem, 45%), 1fr)); }
nav li { break-inside: avoid; }
td.day { white-space: nowrap; }
td ul { margin: 0; padding-left: 1rem; } td li { margin: 0 0 .2rem; }
tr.looked-at th { color: var(--accent); }
details { margin: 0 0 1.1rem; } summary { cursor: pointer; color: var(--muted); margin: 0 0 .5rem; }
td .badge { padding: .05rem .5rem; font-size: .75rem; white-space: nowrap; }
@media (max-width: 34rem) { .said td:last-child, .said th:last-child { min-width: 20rem; } }
"""

TEMPLATE = """
{%- macro retrainings(rows) -%}
<div class="scroll"><table class="said"><thead><tr><th>As of</th><th>Cause</th><th>Verdict</th>
<th class="n">Fit</th><th>Facts, and what the gate said</th></tr></thead><tbody>
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
<th class="n">Gain over never</th><th class="n">Of weekly's gain</th><th class="n">Fits</th><th class="n">They took</th>
<th>Verdicts</th></tr></thead><tbody>
{%- for it in results %}
<tr{% if it.policy == "triggered" %} class="looked-at"{% endif %}><th scope="row">{{ it.policy }}</th>
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
<p><span class="badge bad">put into the data: {{ summary.injections | join("; ") }}</span></p>
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

<section>{{ head("policies", "What each policy came to") }}
<p>All policies begin with the same model, and differ in nothing but when they train; the same gate judges every
challenger. Measured on {{ summary.rows | number }} labelled predictions of {{ reported_from }} to
{{ summary.last_day }}, each made by the champion of its day. Below each figure stands its 95 % interval, from whole
days drawn again, the same for all policies.</p>
{{ table_of(summary.policies) }}
{%- if summary.choice %}
<h3>On the days that the policy was chosen on</h3>
<p>{{ summary.first_day }} to {{ summary.chosen_until }}. The best of several looks better than it is on the days that
it was chosen by, so these figures are no estimate; nor are those above, if the rules were tuned by looking at them.</p>
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
<div class="scroll"><table class="said"><thead><tr><th>Week from</th><th class="n">Triggered</th>
<th class="n">{{ against | capitalize }}</th><th class="n">Gain</th><th>What happened</th></tr></thead><tbody>
{%- for row in rows %}
<tr><td class="day">{{ row.first_day }}</td><td class="n">{{ row.value | fixed }}</td>
<td class="n">{{ row.other | fixed }}</td>
<td class="n {{ "good-text" if row.gain > 0 else "bad-text" }}">{{ row.gain | signed }}</td>
<td>{{ row.happened }}</td></tr>
{%- endfor %}
</tbody></table></div>
<p class="quiet">The worst weeks first, then the best; a week without a difference is neither.</p>
{%- endif %}
{%- else %}<p class="missing">Triggered retraining was not simulated beside another policy.</p>
{%- endfor %}
</section>

<section>{{ head("retrainings", "Each retraining") }}
{%- if own %}
<h3>Triggered</h3>
{{ retrainings(own) }}
{%- else %}<p>Triggered retraining trained nothing.</p>{% endif %}
{%- for policy, rows in calendars %}
<details><summary>{{ policy | capitalize }}: {{ rows | length }} retrainings</summary>
{{ retrainings(rows) }}
</details>
{%- endfor %}
</section>

<section>{{ head("held", "What was held back") }}
{%- if held %}
<div class="scroll"><table class="said"><thead><tr><th>Days</th><th class="n">How many</th>
<th>On the last of them</th></tr></thead><tbody>
{%- for span in held %}
<tr><td class="day">{{ span.first }}{% if span.days > 1 %} to {{ span.last }}{% endif %}</td>
<td class="n">{{ span.days }}</td><td>{{ span.sentence }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}<p>Nothing: whatever asked for a retraining got it.</p>{% endif %}
</section>

<section>{{ head("rules", "How far the rules can be trusted") }}
{%- if detection.why_not %}
<p>{{ detection.why_not }}</p>
{%- else %}
<p>The rules that asked above are tried on streams of their own, drawn with replacement from every other day of
{{ detection.first_day }} to {{ detection.last_day }} as the first model scored them; what is usual was learned from the
days between. Where nothing is put in, whatever asks is a false alarm;
cool-downs do not count here.</p>
<div class="scroll"><table><thead><tr><th>False alarms</th><th class="n">Days</th><th class="n">Judged</th>
<th class="n">Over a drift limit</th>
<th class="n">Drift asked</th><th class="n">Performance asked</th></tr></thead><tbody>
{%- for how, it in detection.false_alarms.items() %}
<tr><th scope="row">{{ "whole days drawn" if how == "days" else "rows drawn" }}</th><td class="n">{{ it.days }}</td>
<td class="n">{{ it.judged }}</td><td class="n">{{ it.over }}</td><td class="n">{{ it.asked_by_drift }}</td>
<td class="n">{{ it.asked_by_performance }}</td></tr>
{%- endfor %}
</tbody></table></div>
<p>Put in is one drift of each kind, in what matters most to the model; it is found if a rule asks within three days
(performance: three days whose labels are known).</p>
<div class="scroll"><table><thead><tr><th>Put in</th><th>Where</th><th class="n">Size</th>
<th class="n">It costs of {{ summary.metric | metric }}</th><th class="n">Trials</th><th class="n">Found by drift</th>
<th class="n">By performance</th><th class="n">By either</th></tr></thead><tbody>
{%- for it in detection.power %}
<tr><th scope="row">{{ it.kind }}</th><td>{{ it.column }}</td><td class="n">{{ "%g" % it.size }}</td>
<td class="n">{{ it.cost | fixed }}</td><td class="n">{{ it.trials }}</td><td class="n">{{ it.by_drift }}</td>
<td class="n">{{ it.by_performance }}</td><td class="n">{{ it.by_either }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
</section>

<section>{{ head("how", "How it was simulated") }}
<p>Each day is predicted by who serves. At its end the rules of the sensors look at its drift and at the labels known
by then; a challenger is trained, in the windows of a retraining, on what was known by the end of the day, and judged by
the gate; it serves from the next day on. The first days of a new champion are held against the one before. A fit's
seconds are those of a CPU of this machine; importances, parameters and the evaluation are not in them
{%- if summary.is_tuned %}, but for those that were chosen anew{% endif %}.</p>
<dl class="facts">
{%- for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor -%}
</dl>
</section>
</main>
<footer>Made by <code>ml-assets simulate {{ summary.model }} --from {{ summary.first_day }} --to
{{ summary.last_day }} --choose-until {{ summary.chosen_until }}</code></footer>
</div>
</body>
</html>
"""
