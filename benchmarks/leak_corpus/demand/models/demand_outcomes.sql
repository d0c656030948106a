select hour, day, measured_at as known_at, megawatts
from {{ source('raw', 'demand') }}
where day between {{ first_day() }} and {{ last_day() }} and measured_at is not null
