{# Quarantine: rows that break rules are set aside instead of failing the table. The rules as SQL, and released rows, are
   in the bindings. Without them, the cost is one query of a table of the schema `lake`. #}

{% macro quarantine_rules(name) -%}
  {%- if not execute -%}
    {%- do return([]) -%}
  {%- endif -%}
  {%- do return(run_query(
    "select rule, predicate from lake.rules where model = '" ~ name ~ "' order by position"
  ).rows) -%}
{%- endmacro %}

{# Each row of the model's SQL with the rules that it breaks, and whether it is set aside. #}
{% macro with_broken_rules(name, columns, sql, rules) -%}
  select
    marked.*,
    len(broken_rules) > 0 and not {{ ml_assets.is_released(name, columns, 'marked') }} as __is_aside
  from (
    select
      unmarked.*,
      [rule for rule in [
        {%- for rule in rules %}
        case when {{ rule[1] }} then '{{ rule[0] | replace("'", "''") }}' end{{ "," if not loop.last }}
        {%- endfor %}
      ] if rule is not null] as broken_rules
    from (
{{ sql }}
    ) as unmarked
  ) as marked
{%- endmacro %}

{# Whether a row equals a released row. The time of arrival is ignored. #}
{% macro is_released(name, columns, row) -%}
  {%- if execute and run_query(
    "select name from lake.tables where name = '" ~ name ~ "__released'"
  ).rows | length -%}
    exists (
      select 1 from lake."{{ name }}__released" as released
      where true
      {%- for column in columns if column not in ['received_at', 'gone_at'] %}
        and released.{{ adapter.quote(column) }} is not distinct from {{ row }}.{{ adapter.quote(column) }}
      {%- endfor %}
    )
  {%- else -%}
    false
  {%- endif -%}
{%- endmacro %}
