with source as (

    select * from {{ source('raw', 'holidays') }}

)

select
    holiday_on,
    holiday
from source
