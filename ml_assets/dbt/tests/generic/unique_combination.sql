{# Values of several columns that more than one row holds. #}
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
