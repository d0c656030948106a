with source as (

    select * from {{ source('raw', 'airports') }}

)

select
    faa as airport,
    name as airport_name,
    lat as latitude_degrees,
    lon as longitude_degrees,
    alt as altitude_feet,
    tz as utc_offset_hours,
    tzone as time_zone
from source
