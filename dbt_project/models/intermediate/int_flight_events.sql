with flights as (

    select * from {{ ref('int_flights') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

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
    from flights
    where {{ known_at }} is not null
    {{ "union all" if not loop.last }}
    {% endfor %}

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
    case when event = 'arrived' then arrival_delay_minutes end as arrival_delay_minutes
from events
-- events that became known later are left out: they would be visible only to builds that look back further
where known_at < cast(day as timestamp) + interval '4 days'
