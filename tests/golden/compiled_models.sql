-- flight_features
with flights as (
    select
        *,
        scheduled_departure_at - interval '2 hours' as prediction_at,
        case
            when schedule_known_at > cast(day as timestamp) then null
            when least(cancellation_known_at, withdrawal_known_at) <= cast(day as timestamp) then null
            else 1
        end as on_schedule
    from "memory"."main"."int_flights"
    where day between date '2013-01-01' and date '2013-01-02'
),
weather_reports as (
    select
        *,
        max(observed_at) over known_so_far as newest_observed_at
    from "memory"."main"."stg_weather"
    where day between date '2012-12-31' and date '2013-01-02'
    window known_so_far as (
        partition by origin order by known_at, observed_at, report_number
        rows between unbounded preceding and current row
    )
),
weather as (
    select
        *,
        lead(known_at) over (partition by origin order by known_at, observed_at, report_number) as next_known_at
    from weather_reports
    where observed_at = newest_observed_at
),
weather_as_known as (
    select
        questions.origin,
        questions.prediction_at,
        weather.temperature_fahrenheit,
        weather.dew_point_fahrenheit,
        weather.humidity_percent,
        weather.wind_direction_degrees,
        weather.wind_speed_mph,
        weather.wind_gust_mph,
        weather.precipitation_inches,
        weather.pressure_millibars,
        weather.visibility_miles,
        cast(extract(epoch from questions.prediction_at - weather.observed_at) / 60 as bigint) as weather_age_minutes
    from (select distinct origin, prediction_at from flights) as questions
    inner join weather
        on questions.origin = weather.origin
        and questions.prediction_at >= weather.known_at
        and (questions.prediction_at < weather.next_known_at or weather.next_known_at is null)
    where
        weather.observed_at >= questions.prediction_at - interval '13 hours'
        and (weather.gone_at is null or weather.gone_at > questions.prediction_at)
),
traffic as (
    select
        flight_id,
        count(on_schedule) over (
            partition by origin, day order by scheduled_departure_at
            range between interval '30 minutes' preceding and interval '30 minutes' following
        ) as origin_scheduled_departures_1h,
        count(on_schedule) over (
            partition by origin, day order by scheduled_departure_at
            range between interval '3 hours' preceding and current row
        ) as origin_scheduled_departures_before_3h,
        count(on_schedule) over (partition by origin, day) as origin_scheduled_departures_day,
        count(on_schedule) over (partition by carrier, origin, day) as carrier_scheduled_departures_day
    from flights
)
select
    flights.flight_id,
    flights.day,
    flights.scheduled_departure_at,
    flights.prediction_at,
    flights.carrier,
    airlines.airline_name,
    flights.origin,
    flights.dest,
    flights.distance_miles,
    flights.departure_minute_of_day,
    flights.arrival_minute_of_day,
    cast(extract(isodow from flights.day) as bigint) as departure_weekday,
    airports.latitude_degrees as destination_latitude_degrees,
    airports.longitude_degrees as destination_longitude_degrees,
    traffic.origin_scheduled_departures_1h,
    traffic.origin_scheduled_departures_before_3h,
    traffic.origin_scheduled_departures_day,
    traffic.carrier_scheduled_departures_day,
    weather_as_known.temperature_fahrenheit,
    weather_as_known.dew_point_fahrenheit,
    weather_as_known.humidity_percent,
    weather_as_known.wind_direction_degrees,
    weather_as_known.wind_speed_mph,
    weather_as_known.wind_gust_mph,
    weather_as_known.precipitation_inches,
    weather_as_known.pressure_millibars,
    weather_as_known.visibility_miles,
    weather_as_known.weather_age_minutes,
    recent.origin_departures_3h,
    recent.origin_departure_delay_minutes_3h,
    recent.origin_arrival_delay_minutes_3h,
    recent.origin_departure_delay_minutes_24h,
    recent.origin_late_share_24h,
    recent.origin_cancelled_share_24h,
    recent.origin_overdue_24h,
    recent.carrier_departure_delay_minutes_3h,
    recent.carrier_arrival_delay_minutes_3h,
    recent.carrier_late_share_24h,
    recent.carrier_late_share_28d,
    recent.carrier_origin_departure_delay_minutes_3h,
    recent.carrier_origin_late_share_24h,
    recent.carrier_origin_overdue_24h,
    recent.carrier_origin_late_share_28d,
    recent.destination_arrival_delay_minutes_3h,
    recent.destination_arrival_delay_minutes_24h,
    recent.route_arrival_delay_minutes_24h,
    recent.route_arrivals_28d,
    recent.route_arrival_delay_minutes_28d,
    recent.route_late_share_28d,
    recent.flight_number_arrivals_28d,
    recent.flight_number_arrival_delay_minutes_28d,
    recent.flight_number_late_share_28d
from flights
left join "memory"."main"."stg_airlines" as airlines on flights.carrier = airlines.carrier
left join "memory"."main"."stg_airports" as airports on flights.dest = airports.airport
inner join traffic on flights.flight_id = traffic.flight_id
left join weather_as_known
    on flights.origin = weather_as_known.origin and flights.prediction_at = weather_as_known.prediction_at
left join "memory"."main"."int_recent_delays" as recent on flights.flight_id = recent.flight_id and flights.day = recent.day
where
    flights.schedule_known_at <= flights.prediction_at
    and coalesce(least(flights.cancellation_known_at, flights.withdrawal_known_at) > flights.prediction_at, true)

-- flight_outcomes
with reports as (
    select * from "memory"."main"."stg_flights"
    where day between date '2013-01-01' and date '2013-01-02'
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
    arrival_delay_minutes > 15 as is_late,
    case
        when arrival_delay_minutes > 60 then 'very_late'
        when arrival_delay_minutes > 15 then 'late'
        when arrival_delay_minutes is not null then 'on_time'
    end as delay_class
from reports
where
    outcome_known_at is not null
    and not exists (
        select 1
        from corrections
        where
            corrections.flight_id = reports.flight_id
            and corrections.report_number > reports.report_number
            and corrections.outcome_known_at <= reports.outcome_known_at
    )

-- int_flight_events
with flights as (
    select * from "memory"."main"."int_flights"
    where day between date '2013-01-01' and date '2013-01-02'
),
events as (
    select
        *,
        'departed' as event,
        departure_known_at as known_at
    from flights
    where departure_known_at is not null
    union all
    select
        *,
        'arrived' as event,
        arrival_known_at as known_at
    from flights
    where arrival_known_at is not null
    union all
    select
        *,
        'diverted' as event,
        diversion_known_at as known_at
    from flights
    where diversion_known_at is not null
    union all
    select
        *,
        'cancelled' as event,
        cancellation_known_at as known_at
    from flights
    where cancellation_known_at is not null
)
select
    flight_id,
    day,
    event,
    known_at,
    carrier,
    flight_number,
    origin,
    dest,
    case when event = 'departed' then departure_delay_minutes end as departure_delay_minutes,
    case when event = 'arrived' then arrival_delay_minutes end as arrival_delay_minutes
from events
where known_at < cast(day as timestamp) + interval '4 days'

-- int_flights
with reports as (
    select
        *,
        case when outcome = 'arrived' then outcome_known_at end as arrival_known_at,
        case when outcome = 'diverted' then outcome_known_at end as diversion_known_at,
        case when outcome = 'cancelled' then outcome_known_at end as cancellation_known_at,
        case when outcome = 'withdrawn' then outcome_known_at end as withdrawal_known_at
    from "memory"."main"."stg_flights"
    where day between date '2013-01-01' and date '2013-01-02'
),
first_values as (
    select
        flight_id,
        day,
        carrier,
        flight_number,
        origin,
        dest,
        scheduled_departure_at,
        schedule_known_at,
        departure_minute_of_day,
        arrival_minute_of_day,
        distance_miles,
        report_number,
        first_value(departure_delay_minutes) over by_departure as departure_delay_minutes,
        first_value(departure_known_at) over by_departure as departure_known_at,
        first_value(arrival_delay_minutes) over by_arrival as arrival_delay_minutes,
        first_value(arrival_known_at) over by_arrival as arrival_known_at,
        min(diversion_known_at) over by_flight as diversion_known_at,
        min(cancellation_known_at) over by_flight as cancellation_known_at,
        min(withdrawal_known_at) over by_flight as withdrawal_known_at
    from reports
    window
        by_flight as (partition by flight_id),
        by_departure as (partition by flight_id order by departure_known_at nulls last, report_number),
        by_arrival as (partition by flight_id order by arrival_known_at nulls last, report_number)
)
select
    flight_id,
    day,
    carrier,
    flight_number,
    origin,
    dest,
    scheduled_departure_at,
    schedule_known_at,
    departure_minute_of_day,
    arrival_minute_of_day,
    distance_miles,
    departure_delay_minutes,
    departure_known_at,
    arrival_delay_minutes,
    arrival_known_at,
    diversion_known_at,
    cancellation_known_at,
    withdrawal_known_at
from first_values
where report_number = 1

-- int_recent_delays
with schedule as (
    select * from "memory"."main"."int_flights"
    where day between date '2012-12-30' and date '2013-01-02'
),
flights as (
    select
        flight_id,
        day,
        carrier,
        flight_number,
        origin,
        dest,
        scheduled_departure_at - interval '2 hours' as prediction_at
    from schedule
    where day between date '2013-01-01' and date '2013-01-02'
),
waits as (
    select
        *,
        greatest(scheduled_departure_at, schedule_known_at) as began_at,
        least(
            departure_known_at,
            cancellation_known_at,
            withdrawal_known_at,
            scheduled_departure_at + interval '24 hours'
        ) as ended_at
    from schedule
),
events as (
    select * from "memory"."main"."int_flight_events"
    where day between date '2012-11-30' and date '2013-01-02'
),
at_origin as (
    select
        origin,
        predicted_at as prediction_at,
        cast(departures_3h as bigint) as origin_departures_3h,
        departure_delay_3h / nullif(departures_3h, 0) as origin_departure_delay_minutes_3h,
        arrival_delay_3h / nullif(arrivals_3h, 0) as origin_arrival_delay_minutes_3h,
        departure_delay_24h / nullif(departures_24h, 0) as origin_departure_delay_minutes_24h,
        late_24h / nullif(arrivals_24h, 0) as origin_late_share_24h,
        cancelled_24h / nullif(departures_24h + cancelled_24h, 0) as origin_cancelled_share_24h
    from (
        select
            origin,
            predicted_at,
            max(case when since = 'now' then departures end)
                - max(case when since = '3h' then departures end) as departures_3h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '3h' then departure_delay end) as departure_delay_3h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '3h' then arrivals end) as arrivals_3h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '3h' then arrival_delay end) as arrival_delay_3h,
            max(case when since = 'now' then late end)
                - max(case when since = '3h' then late end) as late_3h,
            max(case when since = 'now' then cancelled end)
                - max(case when since = '3h' then cancelled end) as cancelled_3h,
            max(case when since = 'now' then departures end)
                - max(case when since = '24h' then departures end) as departures_24h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '24h' then departure_delay end) as departure_delay_24h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '24h' then arrivals end) as arrivals_24h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '24h' then arrival_delay end) as arrival_delay_24h,
            max(case when since = 'now' then late end)
                - max(case when since = '24h' then late end) as late_24h,
            max(case when since = 'now' then cancelled end)
                - max(case when since = '24h' then cancelled end) as cancelled_24h
        from (
            select
                origin,
                predicted_at,
                since,
                sum(departures) over so_far as departures,
                sum(departure_delay) over so_far as departure_delay,
                sum(arrivals) over so_far as arrivals,
                sum(arrival_delay) over so_far as arrival_delay,
                sum(late) over so_far as late,
                sum(cancelled) over so_far as cancelled
            from (
                select
                    origin,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(departure_delay_minutes) as double) as departures,
                    cast(coalesce(sum(departure_delay_minutes), 0) as double) as departure_delay,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(coalesce(sum(arrival_delay_minutes), 0) as double) as arrival_delay,
                    cast(count(case when arrival_delay_minutes > 15 then 1 end) as double) as late,
                    cast(count(case when event = 'cancelled' then 1 end) as double) as cancelled
                from events
                group by origin, known_at
                union all
                select
                    origin,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct origin, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('3h', interval '3 hours'), ('24h', interval '24 hours')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by origin order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by origin, predicted_at
    ) as known
),
waiting_at_origin as (
    select
        origin,
        predicted_at as prediction_at,
        cast(waiting as bigint) as origin_overdue_24h
    from (
        select
            origin,
            predicted_at,
            sum(change) over (
                partition by origin order by moment range between unbounded preceding and current row
            ) as waiting
        from (
            select
                origin,
                began_at as moment,
                cast(null as timestamp) as predicted_at,
                cast(1 as double) as change
            from waits
            where began_at < ended_at
            union all
            select
                origin,
                ended_at,
                cast(null as timestamp),
                cast(-1 as double)
            from waits
            where began_at < ended_at
            union all
            select distinct
                origin,
                prediction_at,
                prediction_at,
                cast(0 as double)
            from flights
        ) as moments
    ) as running
    where predicted_at is not null
),
of_carrier as (
    select
        carrier,
        predicted_at as prediction_at,
        departure_delay_3h / nullif(departures_3h, 0) as carrier_departure_delay_minutes_3h,
        arrival_delay_3h / nullif(arrivals_3h, 0) as carrier_arrival_delay_minutes_3h,
        late_24h / nullif(arrivals_24h, 0) as carrier_late_share_24h,
        late_28d / nullif(arrivals_28d, 0) as carrier_late_share_28d
    from (
        select
            carrier,
            predicted_at,
            max(case when since = 'now' then departures end)
                - max(case when since = '3h' then departures end) as departures_3h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '3h' then departure_delay end) as departure_delay_3h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '3h' then arrivals end) as arrivals_3h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '3h' then arrival_delay end) as arrival_delay_3h,
            max(case when since = 'now' then late end)
                - max(case when since = '3h' then late end) as late_3h,
            max(case when since = 'now' then departures end)
                - max(case when since = '24h' then departures end) as departures_24h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '24h' then departure_delay end) as departure_delay_24h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '24h' then arrivals end) as arrivals_24h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '24h' then arrival_delay end) as arrival_delay_24h,
            max(case when since = 'now' then late end)
                - max(case when since = '24h' then late end) as late_24h,
            max(case when since = 'now' then departures end)
                - max(case when since = '28d' then departures end) as departures_28d,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '28d' then departure_delay end) as departure_delay_28d,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '28d' then arrivals end) as arrivals_28d,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '28d' then arrival_delay end) as arrival_delay_28d,
            max(case when since = 'now' then late end)
                - max(case when since = '28d' then late end) as late_28d
        from (
            select
                carrier,
                predicted_at,
                since,
                sum(departures) over so_far as departures,
                sum(departure_delay) over so_far as departure_delay,
                sum(arrivals) over so_far as arrivals,
                sum(arrival_delay) over so_far as arrival_delay,
                sum(late) over so_far as late
            from (
                select
                    carrier,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(departure_delay_minutes) as double) as departures,
                    cast(coalesce(sum(departure_delay_minutes), 0) as double) as departure_delay,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(coalesce(sum(arrival_delay_minutes), 0) as double) as arrival_delay,
                    cast(count(case when arrival_delay_minutes > 15 then 1 end) as double) as late
                from events
                group by carrier, known_at
                union all
                select
                    carrier,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct carrier, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('3h', interval '3 hours'), ('24h', interval '24 hours'), ('28d', interval '28 days')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by carrier order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by carrier, predicted_at
    ) as known
),
of_carrier_at_origin as (
    select
        carrier, origin,
        predicted_at as prediction_at,
        departure_delay_3h / nullif(departures_3h, 0) as carrier_origin_departure_delay_minutes_3h,
        late_24h / nullif(arrivals_24h, 0) as carrier_origin_late_share_24h,
        late_28d / nullif(arrivals_28d, 0) as carrier_origin_late_share_28d
    from (
        select
            carrier, origin,
            predicted_at,
            max(case when since = 'now' then departures end)
                - max(case when since = '3h' then departures end) as departures_3h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '3h' then departure_delay end) as departure_delay_3h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '3h' then arrivals end) as arrivals_3h,
            max(case when since = 'now' then late end)
                - max(case when since = '3h' then late end) as late_3h,
            max(case when since = 'now' then departures end)
                - max(case when since = '24h' then departures end) as departures_24h,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '24h' then departure_delay end) as departure_delay_24h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '24h' then arrivals end) as arrivals_24h,
            max(case when since = 'now' then late end)
                - max(case when since = '24h' then late end) as late_24h,
            max(case when since = 'now' then departures end)
                - max(case when since = '28d' then departures end) as departures_28d,
            max(case when since = 'now' then departure_delay end)
                - max(case when since = '28d' then departure_delay end) as departure_delay_28d,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '28d' then arrivals end) as arrivals_28d,
            max(case when since = 'now' then late end)
                - max(case when since = '28d' then late end) as late_28d
        from (
            select
                carrier, origin,
                predicted_at,
                since,
                sum(departures) over so_far as departures,
                sum(departure_delay) over so_far as departure_delay,
                sum(arrivals) over so_far as arrivals,
                sum(late) over so_far as late
            from (
                select
                    carrier, origin,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(departure_delay_minutes) as double) as departures,
                    cast(coalesce(sum(departure_delay_minutes), 0) as double) as departure_delay,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(count(case when arrival_delay_minutes > 15 then 1 end) as double) as late
                from events
                group by carrier, origin, known_at
                union all
                select
                    carrier, origin,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct carrier, origin, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('3h', interval '3 hours'), ('24h', interval '24 hours'), ('28d', interval '28 days')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by carrier, origin order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by carrier, origin, predicted_at
    ) as known
),
waiting_of_carrier_at_origin as (
    select
        carrier, origin,
        predicted_at as prediction_at,
        cast(waiting as bigint) as carrier_origin_overdue_24h
    from (
        select
            carrier, origin,
            predicted_at,
            sum(change) over (
                partition by carrier, origin order by moment range between unbounded preceding and current row
            ) as waiting
        from (
            select
                carrier, origin,
                began_at as moment,
                cast(null as timestamp) as predicted_at,
                cast(1 as double) as change
            from waits
            where began_at < ended_at
            union all
            select
                carrier, origin,
                ended_at,
                cast(null as timestamp),
                cast(-1 as double)
            from waits
            where began_at < ended_at
            union all
            select distinct
                carrier, origin,
                prediction_at,
                prediction_at,
                cast(0 as double)
            from flights
        ) as moments
    ) as running
    where predicted_at is not null
),
to_destination as (
    select
        dest,
        predicted_at as prediction_at,
        arrival_delay_3h / nullif(arrivals_3h, 0) as destination_arrival_delay_minutes_3h,
        arrival_delay_24h / nullif(arrivals_24h, 0) as destination_arrival_delay_minutes_24h
    from (
        select
            dest,
            predicted_at,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '3h' then arrivals end) as arrivals_3h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '3h' then arrival_delay end) as arrival_delay_3h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '24h' then arrivals end) as arrivals_24h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '24h' then arrival_delay end) as arrival_delay_24h
        from (
            select
                dest,
                predicted_at,
                since,
                sum(arrivals) over so_far as arrivals,
                sum(arrival_delay) over so_far as arrival_delay
            from (
                select
                    dest,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(coalesce(sum(arrival_delay_minutes), 0) as double) as arrival_delay
                from events
                group by dest, known_at
                union all
                select
                    dest,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct dest, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('3h', interval '3 hours'), ('24h', interval '24 hours')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by dest order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by dest, predicted_at
    ) as known
),
on_route as (
    select
        origin, dest,
        predicted_at as prediction_at,
        arrival_delay_24h / nullif(arrivals_24h, 0) as route_arrival_delay_minutes_24h,
        cast(arrivals_28d as bigint) as route_arrivals_28d,
        arrival_delay_28d / nullif(arrivals_28d, 0) as route_arrival_delay_minutes_28d,
        late_28d / nullif(arrivals_28d, 0) as route_late_share_28d
    from (
        select
            origin, dest,
            predicted_at,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '24h' then arrivals end) as arrivals_24h,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '24h' then arrival_delay end) as arrival_delay_24h,
            max(case when since = 'now' then late end)
                - max(case when since = '24h' then late end) as late_24h,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '28d' then arrivals end) as arrivals_28d,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '28d' then arrival_delay end) as arrival_delay_28d,
            max(case when since = 'now' then late end)
                - max(case when since = '28d' then late end) as late_28d
        from (
            select
                origin, dest,
                predicted_at,
                since,
                sum(arrivals) over so_far as arrivals,
                sum(arrival_delay) over so_far as arrival_delay,
                sum(late) over so_far as late
            from (
                select
                    origin, dest,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(coalesce(sum(arrival_delay_minutes), 0) as double) as arrival_delay,
                    cast(count(case when arrival_delay_minutes > 15 then 1 end) as double) as late
                from events
                group by origin, dest, known_at
                union all
                select
                    origin, dest,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct origin, dest, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('24h', interval '24 hours'), ('28d', interval '28 days')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by origin, dest order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by origin, dest, predicted_at
    ) as known
),
of_flight_number as (
    select
        carrier, flight_number, origin, dest,
        predicted_at as prediction_at,
        cast(arrivals_28d as bigint) as flight_number_arrivals_28d,
        arrival_delay_28d / nullif(arrivals_28d, 0) as flight_number_arrival_delay_minutes_28d,
        late_28d / nullif(arrivals_28d, 0) as flight_number_late_share_28d
    from (
        select
            carrier, flight_number, origin, dest,
            predicted_at,
            max(case when since = 'now' then arrivals end)
                - max(case when since = '28d' then arrivals end) as arrivals_28d,
            max(case when since = 'now' then arrival_delay end)
                - max(case when since = '28d' then arrival_delay end) as arrival_delay_28d,
            max(case when since = 'now' then late end)
                - max(case when since = '28d' then late end) as late_28d
        from (
            select
                carrier, flight_number, origin, dest,
                predicted_at,
                since,
                sum(arrivals) over so_far as arrivals,
                sum(arrival_delay) over so_far as arrival_delay,
                sum(late) over so_far as late
            from (
                select
                    carrier, flight_number, origin, dest,
                    known_at as moment,
                    cast(null as timestamp) as predicted_at,
                    cast(null as varchar) as since,
                    cast(count(arrival_delay_minutes) as double) as arrivals,
                    cast(coalesce(sum(arrival_delay_minutes), 0) as double) as arrival_delay,
                    cast(count(case when arrival_delay_minutes > 15 then 1 end) as double) as late
                from events
                group by carrier, flight_number, origin, dest, known_at
                union all
                select
                    carrier, flight_number, origin, dest,
                    prediction_at - length,
                    prediction_at,
                    since,
                    cast(0 as double),
                    cast(0 as double),
                    cast(0 as double)
                from (select distinct carrier, flight_number, origin, dest, prediction_at from flights) as prediction_times
                cross join (
                    values ('now', interval '0 hours'), ('28d', interval '28 days')
                ) as windows (since, length)
            ) as moments
            window so_far as (
                partition by carrier, flight_number, origin, dest order by moment range between unbounded preceding and current row
            )
        ) as running
        where since is not null
        group by carrier, flight_number, origin, dest, predicted_at
    ) as known
)
select *
from flights
left join at_origin using (origin, prediction_at)
left join waiting_at_origin using (origin, prediction_at)
left join of_carrier using (carrier, prediction_at)
left join of_carrier_at_origin using (carrier, origin, prediction_at)
left join waiting_of_carrier_at_origin using (carrier, origin, prediction_at)
left join to_destination using (dest, prediction_at)
left join on_route using (origin, dest, prediction_at)
left join of_flight_number using (carrier, flight_number, origin, dest, prediction_at)

-- stg_airlines
with source as (
    select * from "memory"."raw"."airlines"
)
select
    carrier,
    name as airline_name
from source

-- stg_airports
with source as (
    select * from "memory"."raw"."airports"
)
select
    faa as airport,
    name as airport_name,
    lat as latitude_degrees,
    lon as longitude_degrees,
    alt as altitude_feet,
    tz as utc_offset_hours,
    tzone as time_zone
from source

-- stg_flights
with source as (
    select * from "memory"."raw"."flights"
),
renamed as (
    select
        make_date(cast(year as integer), cast(month as integer), cast(day as integer)) as day,
        carrier,
        flight as flight_number,
        tailnum as tail_number,
        origin,
        dest,
        cast(time_hour as timestamp) + minute * interval '1 minute' as scheduled_departure_at,
        hour * 60 + minute as departure_minute_of_day,
        (sched_arr_time - sched_arr_time % 100) * 60 / 100 + sched_arr_time % 100 as arrival_minute_of_day,
        dep_delay as departure_delay_minutes,
        arr_delay as arrival_delay_minutes,
        distance as distance_miles,
        schedule_known_at,
        departure_known_at,
        outcome_known_at,
        received_at,
        gone_at
    from source
),
reports as (
    select
        *,
        received_at as reported_at,
        false as is_withdrawn
    from renamed
    union all
    select
        *,
        gone_at as reported_at,
        true as is_withdrawn
    from renamed
    where gone_at is not null
),
with_outcome as (
    select
        *,
        concat_ws('_', cast(day as varchar), carrier, cast(flight_number as varchar), origin, dest) as flight_id,
        scheduled_departure_at + departure_delay_minutes * interval '1 minute' as departed_at,
        case
            when is_withdrawn then 'withdrawn'
            when outcome_known_at is null and departure_known_at is null then 'scheduled'
            when outcome_known_at is null then 'departed'
            when departure_delay_minutes is null then 'cancelled'
            when arrival_delay_minutes is null then 'diverted'
            else 'arrived'
        end as outcome
    from reports
)
select
    flight_id,
    day,
    row_number() over (partition by flight_id order by reported_at nulls first) as report_number,
    carrier,
    flight_number,
    tail_number,
    origin,
    dest,
    scheduled_departure_at,
    departure_minute_of_day,
    cast(arrival_minute_of_day as bigint) as arrival_minute_of_day,
    distance_miles,
    departed_at,
    case when outcome = 'arrived' then outcome_known_at end as landed_at,
    departure_delay_minutes,
    case when not is_withdrawn then arrival_delay_minutes end as arrival_delay_minutes,
    outcome,
    greatest(schedule_known_at, reported_at) as schedule_known_at,
    case when departure_known_at is not null then greatest(departure_known_at, reported_at) end as departure_known_at,
    case
        when is_withdrawn then gone_at
        when outcome_known_at is not null then greatest(outcome_known_at, reported_at)
    end as outcome_known_at
from with_outcome

-- stg_planes
with source as (
    select * from "memory"."raw"."planes"
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

-- stg_weather
with source as (
    select * from "memory"."raw"."weather"
),
renamed as (
    select
        origin,
        make_date(cast(year as integer), cast(month as integer), cast(day as integer)) as day,
        cast(time_hour as timestamp) as observed_at,
        received_at,
        gone_at,
        temp as temperature_fahrenheit,
        dewp as dew_point_fahrenheit,
        humid as humidity_percent,
        wind_dir as wind_direction_degrees,
        case when wind_speed <= 150 then wind_speed end as wind_speed_mph,
        wind_gust as wind_gust_mph,
        precip as precipitation_inches,
        pressure as pressure_millibars,
        visib as visibility_miles
    from source
)
select
    origin,
    day,
    observed_at,
    row_number() over (partition by origin, observed_at order by received_at nulls first) as report_number,
    greatest(observed_at + interval '1 hour', received_at) as known_at,
    gone_at,
    temperature_fahrenheit,
    dew_point_fahrenheit,
    humidity_percent,
    wind_direction_degrees,
    wind_speed_mph,
    wind_gust_mph,
    precipitation_inches,
    pressure_millibars,
    visibility_miles
from renamed

