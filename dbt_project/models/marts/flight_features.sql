{# The maximum age of an observation. Without a limit, a row would depend on how far back a build reads. The age
   counts from the observed hour, so the correction of an old hour is as old as that hour. #}
{% set weather_hours = 13 %}

with flights as (

    select
        *,
        scheduled_departure_at - interval '2 hours' as prediction_at,
        -- the schedule at the beginning of the day, so that all flights of a day count the same flights
        case
            when schedule_known_at > cast(day as timestamp) then null
            when least(cancellation_known_at, withdrawal_known_at) <= cast(day as timestamp) then null
            else 1
        end as on_schedule
    from {{ ref('int_flights') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

weather_reports as (

    select
        *,
        max(observed_at) over known_so_far as newest_observed_at
    from {{ ref('stg_weather') }}
    where day between {{ ml_assets.look_back_first_day(1) }} and {{ ml_assets.last_day() }}
    window known_so_far as (
        partition by origin order by known_at, observed_at, report_number
        rows between unbounded preceding and current row
    )

),

weather as (

    select
        *,
        lead(known_at) over (partition by origin order by known_at, observed_at, report_number) as next_known_at
    from weather_reports
    -- a correction of an hour is ignored if a newer hour is already known
    where observed_at = newest_observed_at

),

weather_as_known as (

    select
        questions.origin,
        questions.prediction_at,
        weather.temperature_fahrenheit,
        weather.dew_point_fahrenheit,
        weather.humidity_percent,
        weather.wind_direction_degrees,
        weather.wind_speed_mph,
        weather.wind_gust_mph,
        weather.precipitation_inches,
        weather.pressure_millibars,
        weather.visibility_miles,
        cast(extract(epoch from questions.prediction_at - weather.observed_at) / 60 as bigint) as weather_age_minutes
    from (select distinct origin, prediction_at from flights) as questions
    inner join weather
        on questions.origin = weather.origin
        and questions.prediction_at >= weather.known_at
        and (questions.prediction_at < weather.next_known_at or weather.next_known_at is null)
    where
        weather.observed_at >= questions.prediction_at - interval '{{ weather_hours }} hours'
        and (weather.gone_at is null or weather.gone_at > questions.prediction_at)

),

traffic as (

    select
        flight_id,
        count(on_schedule) over (
            partition by origin, day order by scheduled_departure_at
            range between interval '30 minutes' preceding and interval '30 minutes' following
        ) as origin_scheduled_departures_1h,
        count(on_schedule) over (
            partition by origin, day order by scheduled_departure_at
            range between interval '3 hours' preceding and current row
        ) as origin_scheduled_departures_before_3h,
        count(on_schedule) over (partition by origin, day) as origin_scheduled_departures_day,
        count(on_schedule) over (partition by carrier, origin, day) as carrier_scheduled_departures_day
    from flights

)

select
    flights.flight_id,
    flights.day,
    flights.scheduled_departure_at,
    flights.prediction_at,

    flights.carrier,
    airlines.airline_name,
    flights.origin,
    flights.dest,
    flights.distance_miles,
    flights.departure_minute_of_day,
    flights.arrival_minute_of_day,
    cast(extract(isodow from flights.day) as bigint) as departure_weekday,
    airports.latitude_degrees as destination_latitude_degrees,
    airports.longitude_degrees as destination_longitude_degrees,

    traffic.origin_scheduled_departures_1h,
    traffic.origin_scheduled_departures_before_3h,
    traffic.origin_scheduled_departures_day,
    traffic.carrier_scheduled_departures_day,

    weather_as_known.temperature_fahrenheit,
    weather_as_known.dew_point_fahrenheit,
    weather_as_known.humidity_percent,
    weather_as_known.wind_direction_degrees,
    weather_as_known.wind_speed_mph,
    weather_as_known.wind_gust_mph,
    weather_as_known.precipitation_inches,
    weather_as_known.pressure_millibars,
    weather_as_known.visibility_miles,
    weather_as_known.weather_age_minutes,

    recent.origin_departures_3h,
    recent.origin_departure_delay_minutes_3h,
    recent.origin_arrival_delay_minutes_3h,
    recent.origin_departure_delay_minutes_24h,
    recent.origin_late_share_24h,
    recent.origin_cancelled_share_24h,
    recent.origin_overdue_24h,

    recent.carrier_departure_delay_minutes_3h,
    recent.carrier_arrival_delay_minutes_3h,
    recent.carrier_late_share_24h,
    recent.carrier_late_share_28d,

    recent.carrier_origin_departure_delay_minutes_3h,
    recent.carrier_origin_late_share_24h,
    recent.carrier_origin_overdue_24h,
    recent.carrier_origin_late_share_28d,

    recent.destination_arrival_delay_minutes_3h,
    recent.destination_arrival_delay_minutes_24h,

    recent.route_arrival_delay_minutes_24h,
    recent.route_arrivals_28d,
    recent.route_arrival_delay_minutes_28d,
    recent.route_late_share_28d,

    recent.flight_number_arrivals_28d,
    recent.flight_number_arrival_delay_minutes_28d,
    recent.flight_number_late_share_28d
from flights
left join {{ ref('stg_airlines') }} as airlines on flights.carrier = airlines.carrier
left join {{ ref('stg_airports') }} as airports on flights.dest = airports.airport
inner join traffic on flights.flight_id = traffic.flight_id
left join weather_as_known
    on flights.origin = weather_as_known.origin and flights.prediction_at = weather_as_known.prediction_at
left join {{ ref('int_recent_delays') }} as recent on flights.flight_id = recent.flight_id and flights.day = recent.day
-- a flight is predicted only if it was known, and neither cancelled nor withdrawn, at the prediction time
where
    flights.schedule_known_at <= flights.prediction_at
    -- least() ignores nulls
    and coalesce(least(flights.cancellation_known_at, flights.withdrawal_known_at) > flights.prediction_at, true)
