select order_id, day, settled_at as known_at, is_returned
from {{ source('raw', 'orders') }}
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }} and settled_at is not null
