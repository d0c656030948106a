{# dbt's own, and for tables by day more: a test reads the days of the run, not the look-back beside them. #}
{% macro get_where_subquery(relation) -%}
  {%- set conditions = [] -%}
  {%- if config.get('where') -%}
    {%- do conditions.append("(" ~ config.get('where') ~ ")") -%}
  {%- endif -%}
  {%- if execute and is_by_day(relation) -%}
    {%- do conditions.append("day between " ~ first_day() ~ " and " ~ last_day()) -%}
  {%- endif -%}
  {%- if conditions -%}
    {%- do return("(select * from " ~ relation ~ " where " ~ conditions | join(" and ") ~ ") dbt_subquery") -%}
  {%- else -%}
    {%- do return(relation) -%}
  {%- endif -%}
{%- endmacro %}

{% macro is_by_day(relation) -%}
  {%- set found = [] -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized == 'by_day' -%}
    {%- if node.schema == relation.schema and node.alias == relation.identifier -%}
      {%- do found.append(node.name) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- do return(found | length > 0) -%}
{%- endmacro %}
