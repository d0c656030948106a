with source as (

    select * from {{ source('raw', 'planes') }}

)

select
    tailnum as tail_number,
    year as built_year,
    type as aircraft_type,
    case
        when manufacturer like 'AIRBUS%' then 'AIRBUS'
        when manufacturer like 'MCDONNELL%' then 'MCDONNELL DOUGLAS'
        else manufacturer
    end as manufacturer,
    model as aircraft_model,
    engines,
    seats,
    engine as engine_type
from source
