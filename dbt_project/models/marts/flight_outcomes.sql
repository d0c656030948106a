{# The threshold of the label, in minutes after the scheduled arrival. #}
{% set late_minutes = 15 %}
{% set very_late_minutes = 60 %}

with reports as (

    select * from {{ ref('stg_flights') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}

),

corrections as (

    select * from reports
    where report_number > 1

)

select
    flight_id,
    day,
    scheduled_departure_at,
    outcome_known_at as known_at,
    outcome,
    departure_delay_minutes,
    arrival_delay_minutes,
    arrival_delay_minutes > {{ late_minutes }} as is_late,
    case
        when arrival_delay_minutes > {{ very_late_minutes }} then 'very_late'
        when arrival_delay_minutes > {{ late_minutes }} then 'late'
        when arrival_delay_minutes is not null then 'on_time'
    end as delay_class
from reports
where
    outcome_known_at is not null
    -- a version that was corrected before it became known was never known
    and not exists (
        select 1
        from corrections
        where
            corrections.flight_id = reports.flight_id
            and corrections.report_number > reports.report_number
            and corrections.outcome_known_at <= reports.outcome_known_at
    )
