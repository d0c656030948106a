{# Extends dbt's own macro: a test of a table by day reads only the days of the run without the look-back, and a test of
   single rows ignores released rows. dbt calls it for every test of a project whose dbt_project.yml has
   `dispatch: [{macro_namespace: dbt, search_order: [<project>, ml_assets, dbt]}]`. #}
{% macro default__get_where_subquery(relation) -%}
  {%- set conditions = [] -%}
  {%- if config.get('where') -%}
    {%- do conditions.append("(" ~ config.get('where') ~ ")") -%}
  {%- endif -%}
  {%- set table = ml_assets.lake_model(relation) if execute else none -%}
  {%- if table and table.config.materialized == 'by_day' -%}
    {%- do conditions.append(ml_assets.in_run()) -%}
  {%- endif -%}
  {%- if table and model.test_metadata and model.test_metadata.name in ml_assets.row_tests() -%}
    {%- set released = ml_assets.is_released(table.name, table.columns, 'tested') -%}
    {%- if released != 'false' -%}
      {%- do conditions.append("not " ~ released) -%}
    {%- endif -%}
  {%- endif -%}
  {%- if conditions -%}
    {%- do return("(select * from " ~ relation ~ " as tested where " ~ conditions | join(" and ") ~ ") dbt_subquery") -%}
  {%- else -%}
    {%- do return(relation) -%}
  {%- endif -%}
{%- endmacro %}

{# Tests that apply to each row by itself. #}
{% macro row_tests() -%}
  {%- do return(['not_null', 'accepted_values', 'relationships', 'in_range', 'accepted_range']) -%}
{%- endmacro %}

{% macro lake_model(relation) -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' -%}
    {%- if node.schema == relation.schema and node.alias == relation.identifier -%}
      {%- do return(node) -%}
    {%- endif -%}
  {%- endfor -%}
{%- endmacro %}
