-- Who the events are about, for analysts. Nothing is loaded and nothing lags: the view folds the log when it is asked.
-- The events of an anonymous id from the time it is known on count for its user, as they do for order.
create view warehouse.users as
select
  substr(e.user_key, 3) as id,
  e.user_key,
  (select coalesce(array_agg(i.anonymous_id order by i.anonymous_id), '{}')
   from warehouse.identities i where i.user_id = substr(e.user_key, 3)) as anonymous_ids,
  min(e.received_at) as first_seen,
  max(e.received_at) as last_seen,
  count(*) as events,
  -- The latest value of each trait; some SDKs put traits into the context.
  coalesce((
    select jsonb_object_agg(t.key, t.value order by i.id, t.place)
    from warehouse.events i
    cross join lateral (
      select c.key, c.value, 1 as place
      from jsonb_each(case jsonb_typeof(i.payload #> '{context,traits}') when 'object' then i.payload #> '{context,traits}' end) as c
      union all
      select t.key, t.value, 2
      from jsonb_each(case jsonb_typeof(i.payload -> 'traits') when 'object' then i.payload -> 'traits' end) as t
    ) as t
    where i.user_key = e.user_key and i.type = 'identify'
  ), '{}') as traits
from warehouse.events e
where e.user_key like 'u:%'
group by e.user_key;
