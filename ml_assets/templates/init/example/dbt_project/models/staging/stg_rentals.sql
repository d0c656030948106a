with source as (

    select * from {{ source('raw', 'rentals') }}

)

select
    dteday as day,
    cast(dteday as varchar) || 'T' || lpad(cast(hr as varchar), 2, '0') as hour_id,
    cast(dteday as timestamp) + hr * interval '1 hour' as started_at,
    known_at,
    hr as hour_of_day,
    workingday = 1 as is_working_day,
    case weathersit when 1 then 'clear' when 2 then 'mist' when 3 then 'light_rain' when 4 then 'heavy_rain' end as weather,
    -- the source scales its readings to numbers between 0 and 1
    round(temp * 47 - 8, 2) as temperature_celsius,
    round(hum * 100, 1) as humidity_percent,
    round(windspeed * 67, 1) as wind_kmh,
    casual as casual_rentals,
    registered as registered_rentals,
    cnt as rentals
from source
