{% set lags = [25, 26, 27, 30, 36, 42, 48, 49, 60, 72, 96, 120, 144, 167, 168, 169, 336] %}

with hours as (

    select *, hour - interval '24 hours' as asked_at
    from {{ source('raw', 'demand') }}
    where day between {{ look_back_first_day(16) }} and {{ last_day() }}

)

select
    asked.hour,
    asked.day,
    asked.asked_at,
    cast(extract(hour from asked.hour) as bigint) as hour_of_day,
    cast(extract(isodow from asked.hour) as bigint) as weekday,
    {%- for lag in lags %}
    lag_{{ lag }}.megawatts as lag_{{ lag }},
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
where asked.day between {{ first_day() }} and {{ last_day() }}
