{% test looks_nice(model, column_name) %} select 1 where false {% endtest %}
