{# The body of a CTE: for each prediction time, counts, means and shares of the events that became known in a window
   before it, among flights with the same values of `columns`.

   Events and prediction times are in one table, ordered by time, with running totals. A prediction time has one row
   for itself and one row for the start of each window. The difference of their totals is what became known in the
   window. An event that became known exactly at the prediction time counts. On a year of flights, sums over RANGE
   frames took three times as much CPU. Every adapter supports running totals.

   Totals are whole numbers, which are exact as double, and division comes last. So the result does not depend on
   the other rows of the table. (bigint would take more than three times as long, because DuckDB sums it in 128
   bits.)

   windows: measures of `recent_measure` by the name of the window. The columns are named
   <prefix>_<measure>_<window>. #}
{% macro recent(prefix, columns, windows) %}
    {%- set keys = columns | join(', ') %}
    {%- set totals = recent_totals(windows) %}
    select
        {{ keys }},
        predicted_at as prediction_at
        {%- for window, measures in windows.items() %}
        {%- for measure in measures %},
        {{ recent_measure(measure, window) }} as {{ prefix }}_{{ measure }}_{{ window }}
        {%- endfor %}
        {%- endfor %}
    from (
        select
            {{ keys }},
            predicted_at
            {%- for window in windows %}
            {%- for total in totals %},
            max(case when since = 'now' then {{ total }} end)
                - max(case when since = '{{ window }}' then {{ total }} end) as {{ total }}_{{ window }}
            {%- endfor %}
            {%- endfor %}
        from (
            select
                {{ keys }},
                predicted_at,
                since
                {%- for total in totals %},
                sum({{ total }}) over so_far as {{ total }}
                {%- endfor %}
            from (
                select
                    {{ keys }},
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since
                    {%- for total, sum in totals.items() %},
                    cast({{ sum }} as double) as {{ total }}
                    {%- endfor %}
                from events
                group by {{ keys }}, known_at
                union all
                select
                    {{ keys }},
                    prediction_at - length,
                    prediction_at,
                    since
                    {%- for total in totals %},
                    cast(0 as double)
                    {%- endfor %}
                from (select distinct {{ keys }}, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours')
                    {%- for window in windows %}, ('{{ window }}', interval '{{ recent_intervals()[window] }}'){% endfor %}
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by {{ keys }} order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by {{ keys }}, predicted_at
    ) as known
{% endmacro %}

{# The body of a CTE: for each prediction time, the number of overdue flights with the same values of `columns`.
   `waits` has one row for each flight, with the times at which its wait began and ended. The number is the waits
   that have begun minus the waits that have ended. #}
{% macro waiting(prefix, columns) %}
    {%- set keys = columns | join(', ') %}
    select
        {{ keys }},
        predicted_at as prediction_at,
        cast(waiting as bigint) as {{ prefix }}_overdue_24h
    from (
        select
            {{ keys }},
            predicted_at,
            sum(change) over (
                partition by {{ keys }} order by moment range between unbounded preceding and current row
            ) as waiting
        from (
            select
                {{ keys }},
                began_at as moment,
                cast(null as timestamp) as predicted_at,
                cast(1 as double) as change
            from waits
            where began_at < ended_at
            union all
            select
                {{ keys }},
                ended_at,
                cast(null as timestamp),
                cast(-1 as double)
            from waits
            where began_at < ended_at
            union all
            select distinct
                {{ keys }},
                prediction_at,
                prediction_at,
                cast(0 as double)
            from flights
        ) as moments
    ) as running
    where predicted_at is not null
{% endmacro %}

{% macro recent_intervals() %}
  {%- do return({'3h': '3 hours', '24h': '24 hours', '28d': '28 days'}) -%}
{% endmacro %}

{# The totals that the measures of the windows need: the SQL of each, by its name. #}
{% macro recent_totals(windows) %}
  {%- set sums = {
    'departures': "count(departure_delay_minutes)",
    'departure_delay': "coalesce(sum(departure_delay_minutes), 0)",
    'arrivals': "count(arrival_delay_minutes)",
    'arrival_delay': "coalesce(sum(arrival_delay_minutes), 0)",
    'late': "count(case when arrival_delay_minutes > 15 then 1 end)",
    'cancelled': "count(case when event = 'cancelled' then 1 end)",
  } -%}
  {%- set needs = {
    'departures': ['departures'],
    'departure_delay_minutes': ['departures', 'departure_delay'],
    'arrivals': ['arrivals'],
    'arrival_delay_minutes': ['arrivals', 'arrival_delay'],
    'late_share': ['arrivals', 'late'],
    'cancelled_share': ['departures', 'cancelled'],
  } -%}
  {%- set needed = {} -%}
  {%- for measures in windows.values() -%}
    {%- for measure in measures -%}
      {%- for total in needs[measure] -%}
        {%- do needed.update({total: sums[total]}) -%}
      {%- endfor -%}
    {%- endfor -%}
  {%- endfor -%}
  {%- do return(needed) -%}
{% endmacro %}

{% macro recent_measure(measure, window) -%}
  {%- if measure == 'departure_delay_minutes' -%}
    departure_delay_{{ window }} / nullif(departures_{{ window }}, 0)
  {%- elif measure == 'arrival_delay_minutes' -%}
    arrival_delay_{{ window }} / nullif(arrivals_{{ window }}, 0)
  {%- elif measure == 'late_share' -%}
    late_{{ window }} / nullif(arrivals_{{ window }}, 0)
  {%- elif measure == 'cancelled_share' -%}
    cancelled_{{ window }} / nullif(departures_{{ window }} + cancelled_{{ window }}, 0)
  {%- else -%}
    cast({{ measure }}_{{ window }} as bigint)
  {%- endif -%}
{%- endmacro %}
