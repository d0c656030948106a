{# The hours come from the calendar, not from the rentals: an hour is predicted before anybody has rented a bike in it. #}
with days as (

    select cast(day as date) as day
    from generate_series(
        cast({{ ml_assets.first_day() }} as timestamp), cast({{ ml_assets.last_day() }} as timestamp), interval '1 day'
    ) as days (day)

),

hours as (

    select
        days.day,
        cast(hours.hour_of_day as bigint) as hour_of_day,
        cast(days.day as timestamp) + hours.hour_of_day * interval '1 hour' as started_at
    from days
    cross join generate_series(0, 23) as hours (hour_of_day)

)

select
    hours.day,
    cast(hours.day as varchar) || 'T' || lpad(cast(hours.hour_of_day as varchar), 2, '0') as hour_id,
    hours.started_at,
    hours.started_at - interval '1 hour' as prediction_at,
    hours.hour_of_day,
    cast(extract(isodow from hours.day) as bigint) as weekday,
    extract(isodow from hours.day) <= 5 and holidays.holiday_on is null as is_working_day
from hours
left join {{ ref('stg_holidays') }} as holidays on hours.day = holidays.holiday_on
