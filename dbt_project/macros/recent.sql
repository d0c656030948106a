{# What was known about flights that share `columns`, over the hours before each moment of asking: a CTE body.

   Events and questions stand in one table in the order of their times, with running totals. Each question is put
   twice or more, once at its own moment and once at the start of every window; the difference of two totals is what
   became known in between. An event known at the very moment is counted, a later one cannot be. On a year of flights a
   sum over RANGE frames cost three times as much CPU, and every adapter has running totals.

   Totals are whole numbers, exact as double, and divided once, last: the result does not depend on what else the
   table holds. (As bigint they cost over three times as much: DuckDB sums those in 128 bits.)

   windows: name -> measures of `recent_measure`. Columns come out as <prefix>_<measure>_<window>. #}
{% macro recent(prefix, columns, windows) %}
    {%- set keys = columns | join(', ') %}
    {%- set totals = recent_totals(windows) %}
    select
        {{ keys }},
        asked_at as prediction_at
        {%- for window, measures in windows.items() %}
        {%- for measure in measures %},
        {{ recent_measure(measure, window) }} as {{ prefix }}_{{ measure }}_{{ window }}
        {%- endfor %}
        {%- endfor %}
    from (
        select
            {{ keys }},
            asked_at
            {%- for window in windows %}
            {%- for total in totals %},
            max(case when since = 'now' then {{ total }} end)
                - max(case when since = '{{ window }}' then {{ total }} end) as {{ total }}_{{ window }}
            {%- endfor %}
            {%- endfor %}
        from (
            select
                {{ keys }},
                asked_at,
                since
                {%- for total in totals %},
                sum({{ total }}) over so_far as {{ total }}
                {%- endfor %}
            from (
                select
                    {{ keys }},
                    known_at as moment,
                    cast(null as timestamp) as asked_at,
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
                from (select distinct {{ keys }}, prediction_at from flights) as questions
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
        group by {{ keys }}, asked_at
    ) as known
{% endmacro %}

{# How many flights that share `columns` wait at each moment of asking: a CTE body over `waits`, whose rows began to wait
   at one time and ended at another. This is a stock: everything that began less everything that ended. The difference
   of two totals, as above, would be what came less what went. #}
{% macro waiting(prefix, columns) %}
    {%- set keys = columns | join(', ') %}
    select
        {{ keys }},
        asked_at as prediction_at,
        cast(waiting as bigint) as {{ prefix }}_overdue_24h
    from (
        select
            {{ keys }},
            asked_at,
            sum(change) over (
                partition by {{ keys }} order by moment range between unbounded preceding and current row
            ) as waiting
        from (
            select
                {{ keys }},
                began_at as moment,
                cast(null as timestamp) as asked_at,
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
    where asked_at is not null
{% endmacro %}

{% macro recent_intervals() %}
  {%- do return({'3h': '3 hours', '24h': '24 hours', '28d': '28 days'}) -%}
{% endmacro %}

{# The totals that the measures of some windows need, and how events add up to them. #}
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
