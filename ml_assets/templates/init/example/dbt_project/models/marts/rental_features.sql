with hours as (

    select * from {{ ref('int_hours') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

typical as (

    select * from {{ ref('int_typical_rentals') }}
    where day between {{ ml_assets.look_back_first_day(1) }} and {{ ml_assets.last_day() }}

),

rentals as (

    select * from {{ ref('stg_rentals') }}
    where day between {{ ml_assets.look_back_first_day(1) }} and {{ ml_assets.last_day() }}

)

select
    hours.hour_id,
    hours.day,
    hours.started_at,
    hours.prediction_at,

    hours.hour_of_day,
    hours.weekday,
    hours.is_working_day,
    typical.typical_rentals,

    last_hour.rentals as rentals_last_hour,
    typical_last_hour.typical_rentals as typical_rentals_last_hour,
    last_hour.weather,
    last_hour.temperature_celsius,
    last_hour.humidity_percent,
    last_hour.wind_kmh
from hours
left join typical on hours.hour_id = typical.hour_id
-- the newest hour that is over at the prediction time; the condition on known_at excludes later data
left join rentals as last_hour
    on last_hour.started_at = hours.prediction_at - interval '1 hour'
    and last_hour.known_at <= hours.prediction_at
left join typical as typical_last_hour on typical_last_hour.started_at = hours.prediction_at - interval '1 hour'
