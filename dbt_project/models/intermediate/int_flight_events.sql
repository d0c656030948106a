{# Scheduled, and a quarter of an hour later still at the gate: anybody can see that. #}
{% set overdue_minutes = 15 %}

with flights as (

    select
        *,
        scheduled_departure_at + {{ overdue_minutes }} * interval '1 minute' as overdue_at
    from {{ ref('stg_flights') }}
    where day between {{ first_day() }} and {{ last_day() }}

),

departed as (

    select
        *,
        'departed' as event,
        departed_at as known_at
    from flights
    where outcome <> 'cancelled'

),

ended as (

    select
        *,
        outcome as event,
        outcome_known_at as known_at
    from flights

),

overdue as (

    select
        *,
        'overdue' as event,
        overdue_at as known_at
    from flights
    where outcome = 'cancelled' or departed_at > overdue_at

),

events as (

    select * from departed
    union all
    select * from ended
    union all
    select * from overdue

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
            when event = 'overdue' then 1
            when event = 'cancelled' then -1
            when event = 'departed' and departed_at > overdue_at then -1
            else 0
        end as bigint
    ) as overdue_change
from events
-- Later news is left out, so that a row never depends on how far back its build could look.
where known_at < cast(day as timestamp) + interval '4 days'
