{# A correction does not replace an earlier value: features of past days used the first value and must not change. A
   value that the first report does not contain comes from the first report that does. #}
with reports as (

    select
        *,
        case when outcome = 'arrived' then outcome_known_at end as arrival_known_at,
        case when outcome = 'diverted' then outcome_known_at end as diversion_known_at,
        case when outcome = 'cancelled' then outcome_known_at end as cancellation_known_at,
        case when outcome = 'withdrawn' then outcome_known_at end as withdrawal_known_at
    from {{ ref('stg_flights') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

first_values as (

    select
        flight_id,
        day,
        carrier,
        flight_number,
        origin,
        dest,
        scheduled_departure_at,
        schedule_known_at,
        departure_minute_of_day,
        arrival_minute_of_day,
        distance_miles,
        report_number,
        first_value(departure_delay_minutes) over by_departure as departure_delay_minutes,
        first_value(departure_known_at) over by_departure as departure_known_at,
        first_value(arrival_delay_minutes) over by_arrival as arrival_delay_minutes,
        first_value(arrival_known_at) over by_arrival as arrival_known_at,
        min(diversion_known_at) over by_flight as diversion_known_at,
        min(cancellation_known_at) over by_flight as cancellation_known_at,
        min(withdrawal_known_at) over by_flight as withdrawal_known_at
    from reports
    window
        by_flight as (partition by flight_id),
        by_departure as (partition by flight_id order by departure_known_at nulls last, report_number),
        by_arrival as (partition by flight_id order by arrival_known_at nulls last, report_number)

)

select
    flight_id,
    day,
    carrier,
    flight_number,
    origin,
    dest,
    scheduled_departure_at,
    schedule_known_at,
    departure_minute_of_day,
    arrival_minute_of_day,
    distance_miles,
    departure_delay_minutes,
    departure_known_at,
    arrival_delay_minutes,
    arrival_known_at,
    diversion_known_at,
    cancellation_known_at,
    withdrawal_known_at
from first_values
where report_number = 1
