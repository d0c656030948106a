{# Rows whose value is below `minimum` or above `maximum` (both optional), or is NaN or infinite. Only the latter do not
   give 0 when subtracted from themselves. #}
{% test in_range(model, column_name, minimum=none, maximum=none) %}

select {{ column_name }}
from {{ model }}
where
    {{ column_name }} - {{ column_name }} <> 0
    {%- if minimum is not none %}
    or {{ column_name }} < {{ minimum }}
    {%- endif %}
    {%- if maximum is not none %}
    or {{ column_name }} > {{ maximum }}
    {%- endif %}

{% endtest %}
