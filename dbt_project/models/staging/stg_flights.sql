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
        cast(time_hour as timestamp) + minute * interval '1 minute' as scheduled_departure_at,
        hour * 60 + minute as departure_minute_of_day,
        -- integer division in a form that gives the same result on every adapter
        (sched_arr_time - sched_arr_time % 100) * 60 / 100 + sched_arr_time % 100 as arrival_minute_of_day,
        dep_delay as departure_delay_minutes,
        arr_delay as arrival_delay_minutes,
        distance as distance_miles,
        schedule_known_at,
        departure_known_at,
        outcome_known_at,
        received_at,
        gone_at
    from source

),

reports as (

    select
        *,
        received_at as reported_at,
        false as is_withdrawn
    from renamed
    union all
    -- flights that the source no longer contains: they were deleted, or moved to another day
    select
        *,
        gone_at as reported_at,
        true as is_withdrawn
    from renamed
    where gone_at is not null

),

with_outcome as (

    select
        *,
        concat_ws('_', cast(day as varchar), carrier, cast(flight_number as varchar), origin, dest) as flight_id,
        scheduled_departure_at + departure_delay_minutes * interval '1 minute' as departed_at,
        case
            when is_withdrawn then 'withdrawn'
            when outcome_known_at is null and departure_known_at is null then 'scheduled'
            when outcome_known_at is null then 'departed'
            when departure_delay_minutes is null then 'cancelled'
            when arrival_delay_minutes is null then 'diverted'
            else 'arrived'
        end as outcome
    from reports

)

select
    flight_id,
    day,
    row_number() over (partition by flight_id order by reported_at nulls first) as report_number,
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
    case when outcome = 'arrived' then outcome_known_at end as landed_at,
    departure_delay_minutes,
    case when not is_withdrawn then arrival_delay_minutes end as arrival_delay_minutes,
    outcome,
    -- greatest() ignores nulls. Where the time itself is unknown, it must stay null, so received_at is not used
    greatest(schedule_known_at, reported_at) as schedule_known_at,
    case when departure_known_at is not null then greatest(departure_known_at, reported_at) end as departure_known_at,
    case
        when is_withdrawn then gone_at
        when outcome_known_at is not null then greatest(outcome_known_at, reported_at)
    end as outcome_known_at
from with_outcome
