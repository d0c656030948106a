{# The days of a run, or of a model to which the bindings give days of its own. They come from the bindings at execute
   time and never through --vars, which would force dbt to parse everything again. At parse time there is no run: any
   literal will do. #}

{% macro first_day() -%}
  {{ ml_assets.run_day('first_day') }}
{%- endmacro %}

{% macro last_day() -%}
  {{ ml_assets.run_day('last_day') }}
{%- endmacro %}

{% macro look_back_first_day(days) -%}
  {{ ml_assets.run_day('first_day', days) }}
{%- endmacro %}

{% macro run_day(which, days_before=0) -%}
  {%- if not execute -%}
    date '1970-01-01'
  {%- else -%}
    {%- set found = run_query(
      "select cast(" ~ which ~ " - " ~ days_before ~ " as varchar) from lake.run"
      ~ " where model is null or model = '" ~ model.name ~ "' order by model nulls last limit 1"
    )[0][0] -%}
    {%- if found is none -%}
      {{ exceptions.raise_compiler_error(
        model.name ~ " asks for the days of the run, but its bindings name no first_day and last_day."
        ~ " Give the run its days, or leave out what is built by day."
      ) }}
    {%- endif -%}
    date '{{ found }}'
  {%- endif -%}
{%- endmacro %}
