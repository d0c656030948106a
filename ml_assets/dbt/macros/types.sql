{# The type of a column, or that of the column of this name in the tables that the model reads. They have the same type:
   `ml-assets parse` refuses a project in which they differ. #}
{% macro column_type(node, name) %}
  {%- if node.columns[name].data_type -%}{{ return(node.columns[name].data_type) }}{%- endif -%}
  {%- for uid in (node.depends_on or {}).get('nodes', []) -%}
    {%- set parent = graph.nodes.get(uid) or graph.sources.get(uid) -%}
    {%- if parent and name in parent.columns -%}
      {%- set found = ml_assets.column_type(parent, name) -%}
      {%- if found -%}{{ return(found) }}{%- endif -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(none) }}
{% endmacro %}

{# Gives the columns of the model that is built their types, which an enforced contract of dbt needs. #}
{% macro inherit_types() %}
  {%- for column in model.columns.values() if not column.data_type -%}
    {%- do column.update({'data_type': ml_assets.column_type(model, column.name)}) -%}
  {%- endfor -%}
{% endmacro %}
