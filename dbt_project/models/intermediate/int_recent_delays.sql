with schedule as (

    select * from {{ ref('int_flights') }}
    where day between {{ ml_assets.look_back_first_day(2) }} and {{ ml_assets.last_day() }}

),

flights as (

    select
        flight_id,
        day,
        carrier,
        flight_number,
        origin,
        dest,
        scheduled_departure_at - interval '2 hours' as prediction_at
    from schedule
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

waits as (

    select
        *,
        greatest(scheduled_departure_at, schedule_known_at) as began_at,
        -- least() ignores nulls: an event that is not known does not end the wait
        least(
            departure_known_at,
            cancellation_known_at,
            withdrawal_known_at,
            scheduled_departure_at + interval '24 hours'
        ) as ended_at
    from schedule

),

events as (

    select * from {{ ref('int_flight_events') }}
    where day between {{ ml_assets.look_back_first_day(32) }} and {{ ml_assets.last_day() }}

),

at_origin as (
{{ recent('origin', ['origin'], {
    '3h': ['departures', 'departure_delay_minutes', 'arrival_delay_minutes'],
    '24h': ['departure_delay_minutes', 'late_share', 'cancelled_share'],
}) }}
),

waiting_at_origin as (
{{ waiting('origin', ['origin']) }}
),

of_carrier as (
{{ recent('carrier', ['carrier'], {
    '3h': ['departure_delay_minutes', 'arrival_delay_minutes'],
    '24h': ['late_share'],
    '28d': ['late_share'],
}) }}
),

of_carrier_at_origin as (
{{ recent('carrier_origin', ['carrier', 'origin'], {
    '3h': ['departure_delay_minutes'],
    '24h': ['late_share'],
    '28d': ['late_share'],
}) }}
),

waiting_of_carrier_at_origin as (
{{ waiting('carrier_origin', ['carrier', 'origin']) }}
),

to_destination as (
{{ recent('destination', ['dest'], {
    '3h': ['arrival_delay_minutes'],
    '24h': ['arrival_delay_minutes'],
}) }}
),

on_route as (
{{ recent('route', ['origin', 'dest'], {
    '24h': ['arrival_delay_minutes'],
    '28d': ['arrivals', 'arrival_delay_minutes', 'late_share'],
}) }}
),

of_flight_number as (
{{ recent('flight_number', ['carrier', 'flight_number', 'origin', 'dest'], {
    '28d': ['arrivals', 'arrival_delay_minutes', 'late_share'],
}) }}
)

select *
from flights
left join at_origin using (origin, prediction_at)
left join waiting_at_origin using (origin, prediction_at)
left join of_carrier using (carrier, prediction_at)
left join of_carrier_at_origin using (carrier, origin, prediction_at)
left join waiting_of_carrier_at_origin using (carrier, origin, prediction_at)
left join to_destination using (dest, prediction_at)
left join on_route using (origin, dest, prediction_at)
left join of_flight_number using (carrier, flight_number, origin, dest, prediction_at)
