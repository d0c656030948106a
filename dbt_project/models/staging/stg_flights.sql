{# Taxiing out and in beside the time in the air: 99 % of the year's flights took less (see _staging.yml). #}
{% set taxi_minutes = 90 %}

with source as (

    select * from {{ source('raw', 'flights') }}

),

renamed as (

    select
        make_date(cast(year as integer), cast(month as integer), cast(day as integer)) as day,
        carrier,
        flight as flight_number,
        tailnum as tail_number,
        origin,
        dest,
        cast(replace(replace(time_hour, 'T', ' '), 'Z', '') as timestamp)
            + minute * interval '1 minute' as scheduled_departure_at,
        hour * 60 + minute as departure_minute_of_day,
        -- integer division, written so that every adapter agrees
        (sched_arr_time - sched_arr_time % 100) * 60 / 100 + sched_arr_time % 100 as arrival_minute_of_day,
        dep_delay as departure_delay_minutes,
        arr_delay as arrival_delay_minutes,
        air_time as air_time_minutes,
        distance as distance_miles
    from source

),

timed as (

    select
        *,
        concat_ws('_', cast(day as varchar), carrier, cast(flight_number as varchar), origin, dest) as flight_id,
        scheduled_departure_at + departure_delay_minutes * interval '1 minute' as departed_at,
        case
            when departure_delay_minutes is null then 'cancelled'
            when arrival_delay_minutes is null then 'diverted'
            else 'arrived'
        end as outcome
    from renamed

),

known as (

    select
        *,
        case
            when outcome = 'arrived' then departed_at + (air_time_minutes + {{ taxi_minutes }}) * interval '1 minute'
        end as landed_at
    from timed

)

select
    flight_id,
    day,
    carrier,
    flight_number,
    tail_number,
    origin,
    dest,
    scheduled_departure_at,
    departure_minute_of_day,
    cast(arrival_minute_of_day as bigint) as arrival_minute_of_day,
    distance_miles,
    departed_at,
    landed_at,
    departure_delay_minutes,
    arrival_delay_minutes,
    outcome,
    case outcome
        when 'arrived' then landed_at
        when 'diverted' then departed_at + interval '24 hours'
        when 'cancelled' then scheduled_departure_at + interval '3 hours'
    end as outcome_known_at
from known
