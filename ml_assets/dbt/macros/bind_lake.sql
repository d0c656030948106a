{# Runs before anything is built: every source and model becomes a view on its bound files, with its contract's columns
   in order. A table without files becomes an empty table of its contract's types. #}

{% macro bind_lake() %}
  {%- if execute -%}
    {%- set known = run_query("select name from lake.tables").columns[0].values() -%}
    {%- for node in graph.sources.values() -%}
      {%- do ml_assets.bind_table(node, node.source_name ~ '.' ~ node.name, known) -%}
    {%- endfor -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized != 'ephemeral' -%}
      {%- do ml_assets.bind_table(node, node.name, known) -%}
    {%- endfor -%}
  {%- endif -%}
{% endmacro %}

{% macro bind_table(node, name, known) %}
  {%- set relation = api.Relation.create(
    database=node.database, schema=node.schema, identifier=node.identifier or node.alias or node.name
  ) -%}
  {%- do run_query("create schema if not exists " ~ relation.without_identifier()) -%}
  {%- set selected = [] -%}
  {%- for column in node.columns.values() -%}
    {%- do selected.append(
      adapter.quote(column.name) if name in known
      else "cast(null as " ~ ml_assets.column_type(node, column.name) ~ ") as " ~ adapter.quote(column.name)
    ) -%}
  {%- endfor -%}
  {%- set origin = ' from lake."' ~ name ~ '"' if name in known else " where false" -%}
  {%- do run_query("create or replace view " ~ relation ~ " as select " ~ selected | join(", ") ~ origin) -%}
{% endmacro %}
