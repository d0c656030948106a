{# Scheduled, and a quarter of an hour later still at the gate: anybody can see that. #}
{% set overdue_minutes = 15 %}

with flights as (

    select
        *,
        greatest(scheduled_departure_at + {{ overdue_minutes }} * interval '1 minute', schedule_known_at)
            as overdue_known_at,
        -- least() skips a null: a flight waits until the one or the other is known
        least(departure_known_at, cancellation_known_at) as wait_over_at
    from {{ ref('int_flights') }}
    where day between {{ first_day() }} and {{ last_day() }}

),

waited as (

    select
        *,
        wait_over_at is null or wait_over_at > overdue_known_at as is_overdue
    from flights

),

events as (

    {% for event, known_at in [
        ('departed', 'departure_known_at'), ('arrived', 'arrival_known_at'), ('diverted', 'diversion_known_at'),
        ('cancelled', 'cancellation_known_at')
    ] %}
    select
        *,
        '{{ event }}' as event,
        {{ known_at }} as known_at
    from waited
    where {{ known_at }} is not null
    union all
    {% endfor %}
    select
        *,
        'overdue' as event,
        overdue_known_at as known_at
    from waited
    where is_overdue

)

select
    flight_id,
    day,
    event,
    known_at,
    carrier,
    flight_number,
    origin,
    dest,
    case when event = 'departed' then departure_delay_minutes end as departure_delay_minutes,
    case when event = 'arrived' then arrival_delay_minutes end as arrival_delay_minutes,
    cast(
        case
            when not is_overdue then 0
            when event = 'overdue' then 1
            when event = 'departed' and departure_known_at = wait_over_at then -1
            when event = 'cancelled' and (departure_known_at is null or departure_known_at > wait_over_at) then -1
            else 0
        end as bigint
    ) as overdue_change
from events
-- Later news is left out, so that a row never depends on how far back its build could look.
where known_at < cast(day as timestamp) + interval '4 days'
