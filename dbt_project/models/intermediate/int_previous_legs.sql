with flights as (

    select
        *,
        scheduled_departure_at - interval '2 hours' as prediction_at
    from {{ ref('int_flights') }}
    where
        day between {{ look_back_first_day(3) }} and {{ last_day() }}
        -- a flight added later would stand between two others before anybody knew of it
        and schedule_known_at <= cast(day as timestamp)

),

paired as (

    select
        flight_id,
        day,
        prediction_at,
        scheduled_departure_at,
        {%- for column in [
            'scheduled_departure_at', 'departure_known_at', 'arrival_known_at', 'departure_delay_minutes',
            'arrival_delay_minutes', 'distance_miles'
        ] %}
        lag({{ column }}) over aircraft as previous_{{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from flights
    where tail_number is not null
    window aircraft as (partition by tail_number order by scheduled_departure_at, flight_id)

),

recent as (

    select *
    from paired
    where
        day between {{ first_day() }} and {{ last_day() }}
        and previous_scheduled_departure_at >= scheduled_departure_at - interval '48 hours'

)

select
    flight_id,
    day,
    prediction_at,
    cast(extract(epoch from scheduled_departure_at - previous_scheduled_departure_at) as double)
        / 3600 as previous_leg_hours,
    previous_distance_miles as previous_leg_distance_miles,
    case when previous_departure_known_at <= prediction_at then previous_departure_delay_minutes end
        as previous_leg_departure_delay_minutes,
    case when previous_arrival_known_at <= prediction_at then previous_arrival_delay_minutes end
        as previous_leg_arrival_delay_minutes,
    -- how late it already is, whether or not it has left
    case
        when previous_departure_known_at <= prediction_at then previous_departure_delay_minutes
        when previous_scheduled_departure_at <= prediction_at
            then cast(extract(epoch from prediction_at - previous_scheduled_departure_at) / 60 as bigint)
    end as previous_leg_minutes_behind,
    coalesce(previous_departure_known_at <= prediction_at, false) as previous_leg_is_departed
from recent
