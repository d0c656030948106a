{# The days of a run, or of a model that has days of its own in the bindings. They are read from the bindings at execute
   time. Passing them through --vars would force dbt to parse everything again. At parse time there is no run, so any
   literal is valid. #}

{% macro first_day() -%}
  {{ ml_assets.run_day('first_day') }}
{%- endmacro %}

{% macro last_day() -%}
  {{ ml_assets.run_day('last_day') }}
{%- endmacro %}

{% macro look_back_first_day(days) -%}
  {{ ml_assets.run_day('first_day', days) }}
{%- endmacro %}

{# The condition on the rows of the run, by `day`; with grain `hour`, by `hour`. `of` is the name of a table in the query,
   if several have such a column. Every model by day may use it in place of first_day() and last_day(). #}
{% macro in_run(of='') -%}
  {%- if not execute -%}
    true
  {%- else -%}
    {%- set column = run_query("select period_column from lake.calendar")[0][0] -%}
    {%- set value = (of ~ '.' if of) ~ column -%}
    ({{ value }} >= {{ ml_assets.run_value('begin') }} and {{ value }} < {{ ml_assets.run_value('until') }})
  {%- endif -%}
{%- endmacro %}

{% macro run_day(which, days_before=0) -%}
  {%- if not execute -%}
    date '1970-01-01'
  {%- else -%}
    date '{{ ml_assets.run_value("cast(" ~ which ~ " - " ~ days_before ~ " as varchar)") }}'
  {%- endif -%}
{%- endmacro %}

{% macro run_value(sql) -%}
  {%- set found = run_query(
    "select " ~ sql ~ " from lake.run"
    ~ " where model is null or model = '" ~ model.name ~ "' order by model nulls last limit 1"
  )[0][0] -%}
  {%- if found is none -%}
    {{ exceptions.raise_compiler_error(
      model.name ~ " uses the days of the run, but its bindings contain no 'first' and 'last'."
      ~ " Pass the days of the run, or exclude models that are built by day."
    ) }}
  {%- endif -%}
  {%- do return(found) -%}
{%- endmacro %}
