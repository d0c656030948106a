{# Combinations of values that occur in more than one row. #}
{% test unique_combination(model, columns) %}
{%- set quoted = [] -%}
{%- for column in columns -%}
  {%- do quoted.append(adapter.quote(column)) -%}
{%- endfor %}

select
    {{ quoted | join(", ") }},
    count(*) as rows_found
from {{ model }}
group by {{ quoted | join(", ") }}
having count(*) > 1

{% endtest %}
