{% set lags = [25, 48, 72, 96, 120, 144, 168, 336] %}

with hours as (

    select *, hour - interval '24 hours' as asked_at
    from {{ source('raw', 'demand') }}
    where day between {{ ml_assets.look_back_first_day(16) }} and {{ ml_assets.last_day() }}

)

select
    asked.hour,
    asked.day,
    asked.asked_at,
    cast(extract(hour from asked.hour) as bigint) as hour_of_day,
    cast(extract(isodow from asked.hour) as bigint) as weekday,
    cast(extract(day from asked.hour) as bigint) as day_of_month,
    cast(extract(week from asked.hour) as bigint) as week_of_year,
    cast(extract(doy from asked.hour) as bigint) as day_of_year,
    {%- for lag in lags %}
    lag_{{ lag }}.megawatts as lag_{{ lag }},
    {%- endfor %}
    {%- for lag in lags[1:-1] %}
    lag_{{ lag }}.megawatts - lag_{{ lags[loop.index + 1] }}.megawatts as change_{{ lag }},
    {%- endfor %}
    (
        select avg(cast(earlier.megawatts as decimal(18, 3))) from hours as earlier
        where earlier.measured_at <= asked.asked_at and earlier.hour >= asked.hour - interval '8 days'
    ) as mean_megawatts_7d
from hours as asked
{%- for lag in lags %}
left join hours as lag_{{ lag }}
    on lag_{{ lag }}.hour = asked.hour - interval '{{ lag }} hours' and lag_{{ lag }}.measured_at <= asked.asked_at
{%- endfor %}
where asked.day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
