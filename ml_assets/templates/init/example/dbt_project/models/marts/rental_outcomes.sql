select
    hour_id,
    day,
    started_at,
    known_at,
    rentals
from {{ ref('stg_rentals') }}
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
