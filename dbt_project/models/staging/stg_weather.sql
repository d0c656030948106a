with source as (

    select * from {{ source('raw', 'weather') }}

),

renamed as (

    select
        origin,
        make_date(cast(year as integer), cast(month as integer), cast(day as integer)) as day,
        cast(time_hour as timestamp) as observed_at,
        received_at,
        gone_at,
        temp as temperature_fahrenheit,
        dewp as dew_point_fahrenheit,
        humid as humidity_percent,
        wind_dir as wind_direction_degrees,
        -- one observation is 1,048 mph, an error of the instrument
        case when wind_speed <= 150 then wind_speed end as wind_speed_mph,
        wind_gust as wind_gust_mph,
        precip as precipitation_inches,
        pressure as pressure_millibars,
        visib as visibility_miles
    from source

)

select
    origin,
    day,
    observed_at,
    row_number() over (partition by origin, observed_at order by received_at nulls first) as report_number,
    -- greatest() ignores nulls: received_at is null for rows of the first landing
    greatest(observed_at + interval '1 hour', received_at) as known_at,
    gone_at,
    temperature_fahrenheit,
    dew_point_fahrenheit,
    humidity_percent,
    wind_direction_degrees,
    wind_speed_mph,
    wind_gust_mph,
    precipitation_inches,
    pressure_millibars,
    visibility_miles
from renamed
