with orders as (

    select * from {{ source('raw', 'orders') }}
    where day between {{ ml_assets.look_back_first_day(14) }} and {{ ml_assets.last_day() }}

)

select
    asked.order_id,
    asked.day,
    asked.ordered_at,
    asked.amount,
    asked.category,
    cast(extract(hour from asked.ordered_at) as bigint) as hour_of_day,
    (
        select count(*) from orders as it
        where it.customer = asked.customer
            and it.ordered_at < asked.ordered_at
            and it.ordered_at >= asked.ordered_at - interval '14 days'
    ) as customer_orders_14d,
    (
        select count(*) from orders as it
        where it.customer = asked.customer
            and it.is_returned
            and it.settled_at <= asked.ordered_at
            and it.ordered_at >= asked.ordered_at - interval '14 days'
    ) as customer_returns_14d,
    (
        select avg(cast(it.is_returned as integer)) from orders as it
        where it.category = asked.category
            and it.settled_at <= asked.ordered_at
            and it.ordered_at >= asked.ordered_at - interval '14 days'
    ) as category_return_share_14d,
    (
        select avg(cast(extract(epoch from it.delivered_at - it.ordered_at) as bigint)) / 86400 from orders as it
        where it.delivered_at <= asked.ordered_at and it.ordered_at >= asked.ordered_at - interval '14 days'
    ) as days_to_deliver_14d
from orders as asked
where asked.day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
