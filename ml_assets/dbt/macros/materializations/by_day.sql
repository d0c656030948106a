{# A table with a column `day`, stored as one Parquet file per day. The SQL builds all days of the run at once. The plugin
   refuses rows outside these days and writes a file for each day, including empty ones. #}
{% materialization by_day, adapter='duckdb' %}
  {{ return(ml_assets.lake_table(is_by_day=true)) }}
{% endmaterialization %}

{# A table stored as one Parquet file. #}
{% materialization whole, adapter='duckdb' %}
  {{ return(ml_assets.lake_table(is_by_day=false)) }}
{% endmaterialization %}

{% macro lake_table(is_by_day) %}
  {%- do ml_assets.inherit_types() -%}
  {%- set target = this.incorporate(type='view') -%}
  {%- set built = ml_assets.lake_scratch('built') -%}
  {%- set unsplit = ml_assets.lake_scratch('unsplit') -%}
  {%- set rules = ml_assets.quarantine_rules(model.name) -%}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% call statement('drop_built') -%}
    drop table if exists {{ built }}
  {%- endcall %}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {#- The contract's constraints apply only to rows that pass, so rows are split before the table is created. -#}
  {%- set split = "create or replace table " ~ unsplit ~ " as "
    ~ ml_assets.with_broken_rules(model.name, model.columns, compiled_code, rules) if rules else "" -%}
  {% if rules %}
    {% call statement('unsplit') -%}
      {{ split }}
    {%- endcall %}
  {% endif %}
  {%- set kept = "select * exclude (broken_rules, __is_aside) from " ~ unsplit ~ " where " -%}
  {%- set create = create_table_as(False, built, kept ~ "len(broken_rules) = 0" if rules else compiled_code) -%}
  {% call statement('main') -%}
    {{ create }}
  {%- endcall %}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {#- The plugin reads through its own cursor, which sees only committed tables. -#}
  {% do adapter.commit() %}
  {% do adapter.store_relation('lake', built, adapter.get_columns_in_relation(built), '', 'parquet', {
    'model': model.name, 'is_by_day': is_by_day, 'key': config.get('meta', {}).get('key', []), 'view': target | string,
    'unsplit': unsplit | string if rules else none, 'statements': [split, create]
  }) %}
  {% call statement('drop_built', auto_begin=False) -%}
    drop table {{ built }};
    drop table if exists {{ unsplit }}
  {%- endcall %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [target]}) }}
{% endmacro %}

{% macro lake_scratch(what) -%}
  {%- do return(api.Relation.create(
    database=this.database, schema=this.schema, identifier=this.identifier ~ '__' ~ what, type='table'
  )) -%}
{%- endmacro %}
