with hours as (

    select * from {{ ref('int_hours') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

rentals as (

    select * from {{ ref('stg_rentals') }}
    where day between {{ ml_assets.look_back_first_day(14) }} and {{ ml_assets.last_day() }}

)

select
    hours.hour_id,
    hours.day,
    hours.started_at,
    -- whole numbers, divided last: the result does not depend on the order of the rows
    cast(sum(rentals.rentals) as double) / nullif(count(rentals.rentals), 0) as typical_rentals
from hours
left join rentals
    on rentals.hour_of_day = hours.hour_of_day
    and rentals.is_working_day = hours.is_working_day
    and rentals.known_at <= hours.prediction_at
    and rentals.started_at >= hours.started_at - interval '14 days'
group by hours.hour_id, hours.day, hours.started_at
