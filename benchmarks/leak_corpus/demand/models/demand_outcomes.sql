select hour, day, measured_at as known_at, megawatts
from {{ source('raw', 'demand') }}
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }} and measured_at is not null
