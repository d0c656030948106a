with source as (

    select * from {{ source('raw', 'airlines') }}

)

select
    carrier,
    name as airline_name
from source
