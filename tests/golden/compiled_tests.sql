-- airlines.carrier: not_null
select carrier
from "memory"."raw"."airlines"
where carrier is null

-- airlines.carrier: unique
select
    carrier as unique_field,
    count(*) as n_records
from "memory"."raw"."airlines"
where carrier is not null
group by carrier
having count(*) > 1

-- airports.faa: not_null
select faa
from "memory"."raw"."airports"
where faa is null

-- airports.faa: unique
select
    faa as unique_field,
    count(*) as n_records
from "memory"."raw"."airports"
where faa is not null
group by faa
having count(*) > 1

-- flight_features.arrival_minute_of_day: in_range {"maximum": 1440, "minimum": 0}
select arrival_minute_of_day
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    arrival_minute_of_day - arrival_minute_of_day <> 0
    or arrival_minute_of_day < 0
    or arrival_minute_of_day > 1440

-- flight_features.carrier: relationships {"field": "carrier", "to": "ref('stg_airlines')"}
with child as (
    select carrier as from_field
    from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    where carrier is not null
),
parent as (
    select carrier as to_field
    from "memory"."main"."stg_airlines"
)
select
    from_field
from child
left join parent
    on child.from_field = parent.to_field
where parent.to_field is null

-- flight_features.carrier_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select carrier_arrival_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_arrival_delay_minutes_3h - carrier_arrival_delay_minutes_3h <> 0
    or carrier_arrival_delay_minutes_3h < -180
    or carrier_arrival_delay_minutes_3h > 2880

-- flight_features.carrier_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select carrier_departure_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_departure_delay_minutes_3h - carrier_departure_delay_minutes_3h <> 0
    or carrier_departure_delay_minutes_3h < -120
    or carrier_departure_delay_minutes_3h > 2880

-- flight_features.carrier_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select carrier_late_share_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_late_share_24h - carrier_late_share_24h <> 0
    or carrier_late_share_24h < 0
    or carrier_late_share_24h > 1

-- flight_features.carrier_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select carrier_late_share_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_late_share_28d - carrier_late_share_28d <> 0
    or carrier_late_share_28d < 0
    or carrier_late_share_28d > 1

-- flight_features.carrier_origin_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select carrier_origin_departure_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_departure_delay_minutes_3h - carrier_origin_departure_delay_minutes_3h <> 0
    or carrier_origin_departure_delay_minutes_3h < -120
    or carrier_origin_departure_delay_minutes_3h > 2880

-- flight_features.carrier_origin_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select carrier_origin_late_share_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_late_share_24h - carrier_origin_late_share_24h <> 0
    or carrier_origin_late_share_24h < 0
    or carrier_origin_late_share_24h > 1

-- flight_features.carrier_origin_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select carrier_origin_late_share_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_late_share_28d - carrier_origin_late_share_28d <> 0
    or carrier_origin_late_share_28d < 0
    or carrier_origin_late_share_28d > 1

-- flight_features.carrier_origin_overdue_24h: in_range {"minimum": 0}
select carrier_origin_overdue_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_overdue_24h - carrier_origin_overdue_24h <> 0
    or carrier_origin_overdue_24h < 0

-- flight_features.carrier_scheduled_departures_day: in_range {"minimum": 0}
select carrier_scheduled_departures_day
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_scheduled_departures_day - carrier_scheduled_departures_day <> 0
    or carrier_scheduled_departures_day < 0

-- flight_features.day: not_null
select day
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- flight_features.departure_minute_of_day: in_range {"maximum": 1439, "minimum": 0}
select departure_minute_of_day
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    departure_minute_of_day - departure_minute_of_day <> 0
    or departure_minute_of_day < 0
    or departure_minute_of_day > 1439

-- flight_features.departure_weekday: in_range {"maximum": 7, "minimum": 1}
select departure_weekday
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    departure_weekday - departure_weekday <> 0
    or departure_weekday < 1
    or departure_weekday > 7

-- flight_features.destination_arrival_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -180}
select destination_arrival_delay_minutes_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_arrival_delay_minutes_24h - destination_arrival_delay_minutes_24h <> 0
    or destination_arrival_delay_minutes_24h < -180
    or destination_arrival_delay_minutes_24h > 2880

-- flight_features.destination_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select destination_arrival_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_arrival_delay_minutes_3h - destination_arrival_delay_minutes_3h <> 0
    or destination_arrival_delay_minutes_3h < -180
    or destination_arrival_delay_minutes_3h > 2880

-- flight_features.destination_latitude_degrees: in_range {"maximum": 90, "minimum": -90}
select destination_latitude_degrees
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_latitude_degrees - destination_latitude_degrees <> 0
    or destination_latitude_degrees < -90
    or destination_latitude_degrees > 90

-- flight_features.destination_longitude_degrees: in_range {"maximum": 180, "minimum": -180}
select destination_longitude_degrees
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_longitude_degrees - destination_longitude_degrees <> 0
    or destination_longitude_degrees < -180
    or destination_longitude_degrees > 180

-- flight_features.dew_point_fahrenheit: in_range {"maximum": 140, "minimum": -60}
select dew_point_fahrenheit
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    dew_point_fahrenheit - dew_point_fahrenheit <> 0
    or dew_point_fahrenheit < -60
    or dew_point_fahrenheit > 140

-- flight_features.distance_miles: in_range {"maximum": 6000, "minimum": 0}
select distance_miles
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    distance_miles - distance_miles <> 0
    or distance_miles < 0
    or distance_miles > 6000

-- flight_features.flight_id: not_null
select flight_id
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- flight_features.flight_id: unique
select
    flight_id as unique_field,
    count(*) as n_records
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is not null
group by flight_id
having count(*) > 1

-- flight_features.flight_number_arrival_delay_minutes_28d: in_range {"maximum": 2880, "minimum": -180}
select flight_number_arrival_delay_minutes_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_arrival_delay_minutes_28d - flight_number_arrival_delay_minutes_28d <> 0
    or flight_number_arrival_delay_minutes_28d < -180
    or flight_number_arrival_delay_minutes_28d > 2880

-- flight_features.flight_number_arrivals_28d: in_range {"minimum": 0}
select flight_number_arrivals_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_arrivals_28d - flight_number_arrivals_28d <> 0
    or flight_number_arrivals_28d < 0

-- flight_features.flight_number_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select flight_number_late_share_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_late_share_28d - flight_number_late_share_28d <> 0
    or flight_number_late_share_28d < 0
    or flight_number_late_share_28d > 1

-- flight_features.humidity_percent: in_range {"maximum": 100, "minimum": 0}
select humidity_percent
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    humidity_percent - humidity_percent <> 0
    or humidity_percent < 0
    or humidity_percent > 100

-- flight_features.origin: accepted_values {"values": ["EWR", "JFK", "LGA"]}
with all_values as (
    select
        origin as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by origin
)
select *
from all_values
where value_field not in (
    'EWR','JFK','LGA'
)

-- flight_features.origin: not_null
select origin
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where origin is null

-- flight_features.origin_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select origin_arrival_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_arrival_delay_minutes_3h - origin_arrival_delay_minutes_3h <> 0
    or origin_arrival_delay_minutes_3h < -180
    or origin_arrival_delay_minutes_3h > 2880

-- flight_features.origin_cancelled_share_24h: in_range {"maximum": 1, "minimum": 0}
select origin_cancelled_share_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_cancelled_share_24h - origin_cancelled_share_24h <> 0
    or origin_cancelled_share_24h < 0
    or origin_cancelled_share_24h > 1

-- flight_features.origin_departure_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -120}
select origin_departure_delay_minutes_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departure_delay_minutes_24h - origin_departure_delay_minutes_24h <> 0
    or origin_departure_delay_minutes_24h < -120
    or origin_departure_delay_minutes_24h > 2880

-- flight_features.origin_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select origin_departure_delay_minutes_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departure_delay_minutes_3h - origin_departure_delay_minutes_3h <> 0
    or origin_departure_delay_minutes_3h < -120
    or origin_departure_delay_minutes_3h > 2880

-- flight_features.origin_departures_3h: in_range {"minimum": 0}
select origin_departures_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departures_3h - origin_departures_3h <> 0
    or origin_departures_3h < 0

-- flight_features.origin_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select origin_late_share_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_late_share_24h - origin_late_share_24h <> 0
    or origin_late_share_24h < 0
    or origin_late_share_24h > 1

-- flight_features.origin_overdue_24h: in_range {"minimum": 0}
select origin_overdue_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_overdue_24h - origin_overdue_24h <> 0
    or origin_overdue_24h < 0

-- flight_features.origin_scheduled_departures_1h: in_range {"minimum": 0}
select origin_scheduled_departures_1h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_scheduled_departures_1h - origin_scheduled_departures_1h <> 0
    or origin_scheduled_departures_1h < 0

-- flight_features.origin_scheduled_departures_before_3h: in_range {"minimum": 0}
select origin_scheduled_departures_before_3h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_scheduled_departures_before_3h - origin_scheduled_departures_before_3h <> 0
    or origin_scheduled_departures_before_3h < 0

-- flight_features.origin_scheduled_departures_day: in_range {"minimum": 0}
select origin_scheduled_departures_day
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_scheduled_departures_day - origin_scheduled_departures_day <> 0
    or origin_scheduled_departures_day < 0

-- flight_features.precipitation_inches: in_range {"minimum": 0}
select precipitation_inches
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    precipitation_inches - precipitation_inches <> 0
    or precipitation_inches < 0

-- flight_features.prediction_at: not_null
select prediction_at
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where prediction_at is null

-- flight_features.pressure_millibars: in_range {"maximum": 1100, "minimum": 850}
select pressure_millibars
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    pressure_millibars - pressure_millibars <> 0
    or pressure_millibars < 850
    or pressure_millibars > 1100

-- flight_features.route_arrival_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -180}
select route_arrival_delay_minutes_24h
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrival_delay_minutes_24h - route_arrival_delay_minutes_24h <> 0
    or route_arrival_delay_minutes_24h < -180
    or route_arrival_delay_minutes_24h > 2880

-- flight_features.route_arrival_delay_minutes_28d: in_range {"maximum": 2880, "minimum": -180}
select route_arrival_delay_minutes_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrival_delay_minutes_28d - route_arrival_delay_minutes_28d <> 0
    or route_arrival_delay_minutes_28d < -180
    or route_arrival_delay_minutes_28d > 2880

-- flight_features.route_arrivals_28d: in_range {"minimum": 0}
select route_arrivals_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrivals_28d - route_arrivals_28d <> 0
    or route_arrivals_28d < 0

-- flight_features.route_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select route_late_share_28d
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_late_share_28d - route_late_share_28d <> 0
    or route_late_share_28d < 0
    or route_late_share_28d > 1

-- flight_features.scheduled_departure_at: not_null
select scheduled_departure_at
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where scheduled_departure_at is null

-- flight_features.temperature_fahrenheit: in_range {"maximum": 140, "minimum": -60}
select temperature_fahrenheit
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    temperature_fahrenheit - temperature_fahrenheit <> 0
    or temperature_fahrenheit < -60
    or temperature_fahrenheit > 140

-- flight_features.visibility_miles: in_range {"maximum": 10, "minimum": 0}
select visibility_miles
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    visibility_miles - visibility_miles <> 0
    or visibility_miles < 0
    or visibility_miles > 10

-- flight_features.weather_age_minutes: in_range {"maximum": 780, "minimum": 60}
select weather_age_minutes
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    weather_age_minutes - weather_age_minutes <> 0
    or weather_age_minutes < 60
    or weather_age_minutes > 780

-- flight_features.wind_direction_degrees: in_range {"maximum": 360, "minimum": 0}
select wind_direction_degrees
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_direction_degrees - wind_direction_degrees <> 0
    or wind_direction_degrees < 0
    or wind_direction_degrees > 360

-- flight_features.wind_gust_mph: in_range {"minimum": 0}
select wind_gust_mph
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_gust_mph - wind_gust_mph <> 0
    or wind_gust_mph < 0

-- flight_features.wind_speed_mph: in_range {"maximum": 150, "minimum": 0}
select wind_speed_mph
from (select * from "memory"."main"."flight_features" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_speed_mph - wind_speed_mph <> 0
    or wind_speed_mph < 0
    or wind_speed_mph > 150

-- flight_outcomes.day: not_null
select day
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- flight_outcomes.delay_class: accepted_values {"values": ["on_time", "late", "very_late"]}
with all_values as (
    select
        delay_class as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by delay_class
)
select *
from all_values
where value_field not in (
    'on_time','late','very_late'
)

-- flight_outcomes.flight_id: not_null
select flight_id
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- flight_outcomes.flight_id: relationships {"field": "flight_id", "to": "ref('stg_flights')"}
with child as (
    select flight_id as from_field
    from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    where flight_id is not null
),
parent as (
    select flight_id as to_field
    from "memory"."main"."stg_flights"
)
select
    from_field
from child
left join parent
    on child.from_field = parent.to_field
where parent.to_field is null

-- flight_outcomes.known_at: not_null
select known_at
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where known_at is null

-- flight_outcomes.outcome: accepted_values {"values": ["arrived", "cancelled", "diverted", "withdrawn"]}
with all_values as (
    select
        outcome as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by outcome
)
select *
from all_values
where value_field not in (
    'arrived','cancelled','diverted','withdrawn'
)

-- flight_outcomes.outcome: not_null
select outcome
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where outcome is null

-- flight_outcomes.scheduled_departure_at: not_null
select scheduled_departure_at
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where scheduled_departure_at is null

-- flight_outcomes: unique_combination {"columns": ["flight_id", "known_at"]}
select
    "flight_id", "known_at",
    count(*) as rows_found
from (select * from "memory"."main"."flight_outcomes" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
group by "flight_id", "known_at"
having count(*) > 1

-- flights.air_time: in_range {"minimum": 1}
select air_time
from "memory"."raw"."flights"
where
    air_time - air_time <> 0
    or air_time < 1

-- flights.arr_time: in_range {"maximum": 2400, "minimum": 0}
select arr_time
from "memory"."raw"."flights"
where
    arr_time - arr_time <> 0
    or arr_time < 0
    or arr_time > 2400

-- flights.carrier: not_null
select carrier
from "memory"."raw"."flights"
where carrier is null

-- flights.day: in_range {"maximum": 31, "minimum": 1}
select day
from "memory"."raw"."flights"
where
    day - day <> 0
    or day < 1
    or day > 31

-- flights.day: not_null
select day
from "memory"."raw"."flights"
where day is null

-- flights.dep_time: in_range {"maximum": 2400, "minimum": 0}
select dep_time
from "memory"."raw"."flights"
where
    dep_time - dep_time <> 0
    or dep_time < 0
    or dep_time > 2400

-- flights.dest: not_null
select dest
from "memory"."raw"."flights"
where dest is null

-- flights.distance: in_range {"minimum": 1}
select distance
from "memory"."raw"."flights"
where
    distance - distance <> 0
    or distance < 1

-- flights.distance: not_null
select distance
from "memory"."raw"."flights"
where distance is null

-- flights.flight: not_null
select flight
from "memory"."raw"."flights"
where flight is null

-- flights.hour: in_range {"maximum": 23, "minimum": 0}
select hour
from "memory"."raw"."flights"
where
    hour - hour <> 0
    or hour < 0
    or hour > 23

-- flights.hour: not_null
select hour
from "memory"."raw"."flights"
where hour is null

-- flights.minute: in_range {"maximum": 59, "minimum": 0}
select minute
from "memory"."raw"."flights"
where
    minute - minute <> 0
    or minute < 0
    or minute > 59

-- flights.minute: not_null
select minute
from "memory"."raw"."flights"
where minute is null

-- flights.month: in_range {"maximum": 12, "minimum": 1}
select month
from "memory"."raw"."flights"
where
    month - month <> 0
    or month < 1
    or month > 12

-- flights.month: not_null
select month
from "memory"."raw"."flights"
where month is null

-- flights.origin: accepted_values {"values": ["EWR", "JFK", "LGA"]}
with all_values as (
    select
        origin as value_field,
        count(*) as n_records
    from "memory"."raw"."flights"
    group by origin
)
select *
from all_values
where value_field not in (
    'EWR','JFK','LGA'
)

-- flights.origin: not_null
select origin
from "memory"."raw"."flights"
where origin is null

-- flights.sched_arr_time: in_range {"maximum": 2400, "minimum": 0}
select sched_arr_time
from "memory"."raw"."flights"
where
    sched_arr_time - sched_arr_time <> 0
    or sched_arr_time < 0
    or sched_arr_time > 2400

-- flights.sched_arr_time: not_null
select sched_arr_time
from "memory"."raw"."flights"
where sched_arr_time is null

-- flights.sched_dep_time: in_range {"maximum": 2400, "minimum": 0}
select sched_dep_time
from "memory"."raw"."flights"
where
    sched_dep_time - sched_dep_time <> 0
    or sched_dep_time < 0
    or sched_dep_time > 2400

-- flights.sched_dep_time: not_null
select sched_dep_time
from "memory"."raw"."flights"
where sched_dep_time is null

-- flights.schedule_known_at: not_null
select schedule_known_at
from "memory"."raw"."flights"
where schedule_known_at is null

-- flights.time_hour: not_null
select time_hour
from "memory"."raw"."flights"
where time_hour is null

-- flights.year: not_null
select year
from "memory"."raw"."flights"
where year is null

-- int_flight_events.carrier: not_null
select carrier
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where carrier is null

-- int_flight_events.day: not_null
select day
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- int_flight_events.dest: not_null
select dest
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where dest is null

-- int_flight_events.event: accepted_values {"values": ["departed", "arrived", "diverted", "cancelled"]}
with all_values as (
    select
        event as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by event
)
select *
from all_values
where value_field not in (
    'departed','arrived','diverted','cancelled'
)

-- int_flight_events.event: not_null
select event
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where event is null

-- int_flight_events.flight_id: not_null
select flight_id
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- int_flight_events.flight_number: not_null
select flight_number
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_number is null

-- int_flight_events.known_at: not_null
select known_at
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where known_at is null

-- int_flight_events.origin: not_null
select origin
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where origin is null

-- int_flight_events: unique_combination {"columns": ["flight_id", "event"]}
select
    "flight_id", "event",
    count(*) as rows_found
from (select * from "memory"."main"."int_flight_events" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
group by "flight_id", "event"
having count(*) > 1

-- int_flights.day: not_null
select day
from (select * from "memory"."main"."int_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- int_flights.flight_id: not_null
select flight_id
from (select * from "memory"."main"."int_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- int_flights.flight_id: unique
select
    flight_id as unique_field,
    count(*) as n_records
from (select * from "memory"."main"."int_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is not null
group by flight_id
having count(*) > 1

-- int_recent_delays.carrier_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select carrier_arrival_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_arrival_delay_minutes_3h - carrier_arrival_delay_minutes_3h <> 0
    or carrier_arrival_delay_minutes_3h < -180
    or carrier_arrival_delay_minutes_3h > 2880

-- int_recent_delays.carrier_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select carrier_departure_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_departure_delay_minutes_3h - carrier_departure_delay_minutes_3h <> 0
    or carrier_departure_delay_minutes_3h < -120
    or carrier_departure_delay_minutes_3h > 2880

-- int_recent_delays.carrier_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select carrier_late_share_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_late_share_24h - carrier_late_share_24h <> 0
    or carrier_late_share_24h < 0
    or carrier_late_share_24h > 1

-- int_recent_delays.carrier_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select carrier_late_share_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_late_share_28d - carrier_late_share_28d <> 0
    or carrier_late_share_28d < 0
    or carrier_late_share_28d > 1

-- int_recent_delays.carrier_origin_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select carrier_origin_departure_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_departure_delay_minutes_3h - carrier_origin_departure_delay_minutes_3h <> 0
    or carrier_origin_departure_delay_minutes_3h < -120
    or carrier_origin_departure_delay_minutes_3h > 2880

-- int_recent_delays.carrier_origin_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select carrier_origin_late_share_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_late_share_24h - carrier_origin_late_share_24h <> 0
    or carrier_origin_late_share_24h < 0
    or carrier_origin_late_share_24h > 1

-- int_recent_delays.carrier_origin_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select carrier_origin_late_share_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_late_share_28d - carrier_origin_late_share_28d <> 0
    or carrier_origin_late_share_28d < 0
    or carrier_origin_late_share_28d > 1

-- int_recent_delays.carrier_origin_overdue_24h: in_range {"minimum": 0}
select carrier_origin_overdue_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    carrier_origin_overdue_24h - carrier_origin_overdue_24h <> 0
    or carrier_origin_overdue_24h < 0

-- int_recent_delays.day: not_null
select day
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- int_recent_delays.destination_arrival_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -180}
select destination_arrival_delay_minutes_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_arrival_delay_minutes_24h - destination_arrival_delay_minutes_24h <> 0
    or destination_arrival_delay_minutes_24h < -180
    or destination_arrival_delay_minutes_24h > 2880

-- int_recent_delays.destination_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select destination_arrival_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    destination_arrival_delay_minutes_3h - destination_arrival_delay_minutes_3h <> 0
    or destination_arrival_delay_minutes_3h < -180
    or destination_arrival_delay_minutes_3h > 2880

-- int_recent_delays.flight_id: not_null
select flight_id
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- int_recent_delays.flight_id: unique
select
    flight_id as unique_field,
    count(*) as n_records
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is not null
group by flight_id
having count(*) > 1

-- int_recent_delays.flight_number_arrival_delay_minutes_28d: in_range {"maximum": 2880, "minimum": -180}
select flight_number_arrival_delay_minutes_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_arrival_delay_minutes_28d - flight_number_arrival_delay_minutes_28d <> 0
    or flight_number_arrival_delay_minutes_28d < -180
    or flight_number_arrival_delay_minutes_28d > 2880

-- int_recent_delays.flight_number_arrivals_28d: in_range {"minimum": 0}
select flight_number_arrivals_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_arrivals_28d - flight_number_arrivals_28d <> 0
    or flight_number_arrivals_28d < 0

-- int_recent_delays.flight_number_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select flight_number_late_share_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    flight_number_late_share_28d - flight_number_late_share_28d <> 0
    or flight_number_late_share_28d < 0
    or flight_number_late_share_28d > 1

-- int_recent_delays.origin_arrival_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -180}
select origin_arrival_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_arrival_delay_minutes_3h - origin_arrival_delay_minutes_3h <> 0
    or origin_arrival_delay_minutes_3h < -180
    or origin_arrival_delay_minutes_3h > 2880

-- int_recent_delays.origin_cancelled_share_24h: in_range {"maximum": 1, "minimum": 0}
select origin_cancelled_share_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_cancelled_share_24h - origin_cancelled_share_24h <> 0
    or origin_cancelled_share_24h < 0
    or origin_cancelled_share_24h > 1

-- int_recent_delays.origin_departure_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -120}
select origin_departure_delay_minutes_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departure_delay_minutes_24h - origin_departure_delay_minutes_24h <> 0
    or origin_departure_delay_minutes_24h < -120
    or origin_departure_delay_minutes_24h > 2880

-- int_recent_delays.origin_departure_delay_minutes_3h: in_range {"maximum": 2880, "minimum": -120}
select origin_departure_delay_minutes_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departure_delay_minutes_3h - origin_departure_delay_minutes_3h <> 0
    or origin_departure_delay_minutes_3h < -120
    or origin_departure_delay_minutes_3h > 2880

-- int_recent_delays.origin_departures_3h: in_range {"minimum": 0}
select origin_departures_3h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_departures_3h - origin_departures_3h <> 0
    or origin_departures_3h < 0

-- int_recent_delays.origin_late_share_24h: in_range {"maximum": 1, "minimum": 0}
select origin_late_share_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_late_share_24h - origin_late_share_24h <> 0
    or origin_late_share_24h < 0
    or origin_late_share_24h > 1

-- int_recent_delays.origin_overdue_24h: in_range {"minimum": 0}
select origin_overdue_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    origin_overdue_24h - origin_overdue_24h <> 0
    or origin_overdue_24h < 0

-- int_recent_delays.route_arrival_delay_minutes_24h: in_range {"maximum": 2880, "minimum": -180}
select route_arrival_delay_minutes_24h
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrival_delay_minutes_24h - route_arrival_delay_minutes_24h <> 0
    or route_arrival_delay_minutes_24h < -180
    or route_arrival_delay_minutes_24h > 2880

-- int_recent_delays.route_arrival_delay_minutes_28d: in_range {"maximum": 2880, "minimum": -180}
select route_arrival_delay_minutes_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrival_delay_minutes_28d - route_arrival_delay_minutes_28d <> 0
    or route_arrival_delay_minutes_28d < -180
    or route_arrival_delay_minutes_28d > 2880

-- int_recent_delays.route_arrivals_28d: in_range {"minimum": 0}
select route_arrivals_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_arrivals_28d - route_arrivals_28d <> 0
    or route_arrivals_28d < 0

-- int_recent_delays.route_late_share_28d: in_range {"maximum": 1, "minimum": 0}
select route_late_share_28d
from (select * from "memory"."main"."int_recent_delays" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    route_late_share_28d - route_late_share_28d <> 0
    or route_late_share_28d < 0
    or route_late_share_28d > 1

-- planes.tailnum: not_null
select tailnum
from "memory"."raw"."planes"
where tailnum is null

-- planes.tailnum: unique
select
    tailnum as unique_field,
    count(*) as n_records
from "memory"."raw"."planes"
where tailnum is not null
group by tailnum
having count(*) > 1

-- stg_airlines.airline_name: not_null
select airline_name
from "memory"."main"."stg_airlines"
where airline_name is null

-- stg_airlines.carrier: not_null
select carrier
from "memory"."main"."stg_airlines"
where carrier is null

-- stg_airlines.carrier: unique
select
    carrier as unique_field,
    count(*) as n_records
from "memory"."main"."stg_airlines"
where carrier is not null
group by carrier
having count(*) > 1

-- stg_airports.airport: not_null
select airport
from "memory"."main"."stg_airports"
where airport is null

-- stg_airports.airport: unique
select
    airport as unique_field,
    count(*) as n_records
from "memory"."main"."stg_airports"
where airport is not null
group by airport
having count(*) > 1

-- stg_airports.airport_name: not_null
select airport_name
from "memory"."main"."stg_airports"
where airport_name is null

-- stg_airports.latitude_degrees: in_range {"maximum": 90, "minimum": -90}
select latitude_degrees
from "memory"."main"."stg_airports"
where
    latitude_degrees - latitude_degrees <> 0
    or latitude_degrees < -90
    or latitude_degrees > 90

-- stg_airports.latitude_degrees: not_null
select latitude_degrees
from "memory"."main"."stg_airports"
where latitude_degrees is null

-- stg_airports.longitude_degrees: in_range {"maximum": 180, "minimum": -180}
select longitude_degrees
from "memory"."main"."stg_airports"
where
    longitude_degrees - longitude_degrees <> 0
    or longitude_degrees < -180
    or longitude_degrees > 180

-- stg_airports.longitude_degrees: not_null
select longitude_degrees
from "memory"."main"."stg_airports"
where longitude_degrees is null

-- stg_airports.utc_offset_hours: in_range {"maximum": 14, "minimum": -12}
select utc_offset_hours
from "memory"."main"."stg_airports"
where
    utc_offset_hours - utc_offset_hours <> 0
    or utc_offset_hours < -12
    or utc_offset_hours > 14

-- stg_flights.arrival_delay_minutes: in_range {"maximum": 2880, "minimum": -180}
select arrival_delay_minutes
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    arrival_delay_minutes - arrival_delay_minutes <> 0
    or arrival_delay_minutes < -180
    or arrival_delay_minutes > 2880

-- stg_flights.arrival_minute_of_day: in_range {"maximum": 1440, "minimum": 0}
select arrival_minute_of_day
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    arrival_minute_of_day - arrival_minute_of_day <> 0
    or arrival_minute_of_day < 0
    or arrival_minute_of_day > 1440

-- stg_flights.arrival_minute_of_day: not_null
select arrival_minute_of_day
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where arrival_minute_of_day is null

-- stg_flights.carrier: not_null
select carrier
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where carrier is null

-- stg_flights.day: not_null
select day
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- stg_flights.departure_delay_minutes: in_range {"maximum": 2880, "minimum": -120}
select departure_delay_minutes
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    departure_delay_minutes - departure_delay_minutes <> 0
    or departure_delay_minutes < -120
    or departure_delay_minutes > 2880

-- stg_flights.departure_minute_of_day: in_range {"maximum": 1439, "minimum": 0}
select departure_minute_of_day
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    departure_minute_of_day - departure_minute_of_day <> 0
    or departure_minute_of_day < 0
    or departure_minute_of_day > 1439

-- stg_flights.departure_minute_of_day: not_null
select departure_minute_of_day
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where departure_minute_of_day is null

-- stg_flights.dest: not_null
select dest
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where dest is null

-- stg_flights.distance_miles: in_range {"maximum": 6000, "minimum": 0}
select distance_miles
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    distance_miles - distance_miles <> 0
    or distance_miles < 0
    or distance_miles > 6000

-- stg_flights.distance_miles: not_null
select distance_miles
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where distance_miles is null

-- stg_flights.flight_id: not_null
select flight_id
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_id is null

-- stg_flights.flight_number: not_null
select flight_number
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where flight_number is null

-- stg_flights.origin: accepted_values {"values": ["EWR", "JFK", "LGA"]}
with all_values as (
    select
        origin as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by origin
)
select *
from all_values
where value_field not in (
    'EWR','JFK','LGA'
)

-- stg_flights.origin: not_null
select origin
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where origin is null

-- stg_flights.outcome: accepted_values {"values": ["arrived", "cancelled", "diverted", "departed", "scheduled", "withdrawn"]}
with all_values as (
    select
        outcome as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by outcome
)
select *
from all_values
where value_field not in (
    'arrived','cancelled','diverted','departed','scheduled','withdrawn'
)

-- stg_flights.outcome: not_null
select outcome
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where outcome is null

-- stg_flights.report_number: in_range {"minimum": 1}
select report_number
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    report_number - report_number <> 0
    or report_number < 1

-- stg_flights.report_number: not_null
select report_number
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where report_number is null

-- stg_flights.schedule_known_at: not_null
select schedule_known_at
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where schedule_known_at is null

-- stg_flights.scheduled_departure_at: not_null
select scheduled_departure_at
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where scheduled_departure_at is null

-- stg_flights: unique_combination {"columns": ["flight_id", "report_number"]}
select
    "flight_id", "report_number",
    count(*) as rows_found
from (select * from "memory"."main"."stg_flights" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
group by "flight_id", "report_number"
having count(*) > 1

-- stg_planes.aircraft_model: not_null
select aircraft_model
from "memory"."main"."stg_planes"
where aircraft_model is null

-- stg_planes.aircraft_type: not_null
select aircraft_type
from "memory"."main"."stg_planes"
where aircraft_type is null

-- stg_planes.built_year: in_range {"maximum": 2100, "minimum": 1900}
select built_year
from "memory"."main"."stg_planes"
where
    built_year - built_year <> 0
    or built_year < 1900
    or built_year > 2100

-- stg_planes.engine_type: not_null
select engine_type
from "memory"."main"."stg_planes"
where engine_type is null

-- stg_planes.engines: in_range {"maximum": 8, "minimum": 1}
select engines
from "memory"."main"."stg_planes"
where
    engines - engines <> 0
    or engines < 1
    or engines > 8

-- stg_planes.engines: not_null
select engines
from "memory"."main"."stg_planes"
where engines is null

-- stg_planes.manufacturer: not_null
select manufacturer
from "memory"."main"."stg_planes"
where manufacturer is null

-- stg_planes.seats: in_range {"maximum": 900, "minimum": 1}
select seats
from "memory"."main"."stg_planes"
where
    seats - seats <> 0
    or seats < 1
    or seats > 900

-- stg_planes.seats: not_null
select seats
from "memory"."main"."stg_planes"
where seats is null

-- stg_planes.tail_number: not_null
select tail_number
from "memory"."main"."stg_planes"
where tail_number is null

-- stg_planes.tail_number: unique
select
    tail_number as unique_field,
    count(*) as n_records
from "memory"."main"."stg_planes"
where tail_number is not null
group by tail_number
having count(*) > 1

-- stg_weather.day: not_null
select day
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where day is null

-- stg_weather.dew_point_fahrenheit: in_range {"maximum": 140, "minimum": -60}
select dew_point_fahrenheit
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    dew_point_fahrenheit - dew_point_fahrenheit <> 0
    or dew_point_fahrenheit < -60
    or dew_point_fahrenheit > 140

-- stg_weather.humidity_percent: in_range {"maximum": 100, "minimum": 0}
select humidity_percent
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    humidity_percent - humidity_percent <> 0
    or humidity_percent < 0
    or humidity_percent > 100

-- stg_weather.known_at: not_null
select known_at
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where known_at is null

-- stg_weather.observed_at: not_null
select observed_at
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where observed_at is null

-- stg_weather.origin: accepted_values {"values": ["EWR", "JFK", "LGA"]}
with all_values as (
    select
        origin as value_field,
        count(*) as n_records
    from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
    group by origin
)
select *
from all_values
where value_field not in (
    'EWR','JFK','LGA'
)

-- stg_weather.origin: not_null
select origin
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where origin is null

-- stg_weather.precipitation_inches: in_range {"minimum": 0}
select precipitation_inches
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    precipitation_inches - precipitation_inches <> 0
    or precipitation_inches < 0

-- stg_weather.pressure_millibars: in_range {"maximum": 1100, "minimum": 850}
select pressure_millibars
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    pressure_millibars - pressure_millibars <> 0
    or pressure_millibars < 850
    or pressure_millibars > 1100

-- stg_weather.report_number: in_range {"minimum": 1}
select report_number
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    report_number - report_number <> 0
    or report_number < 1

-- stg_weather.report_number: not_null
select report_number
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where report_number is null

-- stg_weather.temperature_fahrenheit: in_range {"maximum": 140, "minimum": -60}
select temperature_fahrenheit
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    temperature_fahrenheit - temperature_fahrenheit <> 0
    or temperature_fahrenheit < -60
    or temperature_fahrenheit > 140

-- stg_weather.visibility_miles: in_range {"maximum": 10, "minimum": 0}
select visibility_miles
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    visibility_miles - visibility_miles <> 0
    or visibility_miles < 0
    or visibility_miles > 10

-- stg_weather.wind_direction_degrees: in_range {"maximum": 360, "minimum": 0}
select wind_direction_degrees
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_direction_degrees - wind_direction_degrees <> 0
    or wind_direction_degrees < 0
    or wind_direction_degrees > 360

-- stg_weather.wind_gust_mph: in_range {"minimum": 0}
select wind_gust_mph
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_gust_mph - wind_gust_mph <> 0
    or wind_gust_mph < 0

-- stg_weather.wind_speed_mph: in_range {"maximum": 150, "minimum": 0}
select wind_speed_mph
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
where
    wind_speed_mph - wind_speed_mph <> 0
    or wind_speed_mph < 0
    or wind_speed_mph > 150

-- stg_weather: unique_combination {"columns": ["origin", "observed_at", "report_number"]}
select
    "origin", "observed_at", "report_number",
    count(*) as rows_found
from (select * from "memory"."main"."stg_weather" as tested where (day >= date '2013-01-01' and day < date '2013-01-03')) dbt_subquery
group by "origin", "observed_at", "report_number"
having count(*) > 1

-- weather.day: in_range {"maximum": 31, "minimum": 1}
select day
from "memory"."raw"."weather"
where
    day - day <> 0
    or day < 1
    or day > 31

-- weather.day: not_null
select day
from "memory"."raw"."weather"
where day is null

-- weather.hour: in_range {"maximum": 23, "minimum": 0}
select hour
from "memory"."raw"."weather"
where
    hour - hour <> 0
    or hour < 0
    or hour > 23

-- weather.hour: not_null
select hour
from "memory"."raw"."weather"
where hour is null

-- weather.humid: in_range {"maximum": 100, "minimum": 0}
select humid
from "memory"."raw"."weather"
where
    humid - humid <> 0
    or humid < 0
    or humid > 100

-- weather.month: in_range {"maximum": 12, "minimum": 1}
select month
from "memory"."raw"."weather"
where
    month - month <> 0
    or month < 1
    or month > 12

-- weather.month: not_null
select month
from "memory"."raw"."weather"
where month is null

-- weather.origin: accepted_values {"values": ["EWR", "JFK", "LGA"]}
with all_values as (
    select
        origin as value_field,
        count(*) as n_records
    from "memory"."raw"."weather"
    group by origin
)
select *
from all_values
where value_field not in (
    'EWR','JFK','LGA'
)

-- weather.origin: not_null
select origin
from "memory"."raw"."weather"
where origin is null

-- weather.precip: in_range {"minimum": 0}
select precip
from "memory"."raw"."weather"
where
    precip - precip <> 0
    or precip < 0

-- weather.time_hour: not_null
select time_hour
from "memory"."raw"."weather"
where time_hour is null

-- weather.visib: in_range {"minimum": 0}
select visib
from "memory"."raw"."weather"
where
    visib - visib <> 0
    or visib < 0

-- weather.wind_dir: in_range {"maximum": 360, "minimum": 0}
select wind_dir
from "memory"."raw"."weather"
where
    wind_dir - wind_dir <> 0
    or wind_dir < 0
    or wind_dir > 360

-- weather.wind_gust: in_range {"minimum": 0}
select wind_gust
from "memory"."raw"."weather"
where
    wind_gust - wind_gust <> 0
    or wind_gust < 0

-- weather.wind_speed: in_range {"minimum": 0}
select wind_speed
from "memory"."raw"."weather"
where
    wind_speed - wind_speed <> 0
    or wind_speed < 0

-- weather.year: not_null
select year
from "memory"."raw"."weather"
where year is null

