-- How delivery keeps its promises in the database. The protocol, its states and the points where a
-- process may die are drawn in docs/delivery.md; the statements are here because each must be atomic.
--
-- repeater.feed_lanes is the truth about a lane: its cursor and who has it (a lease, by this server's
-- clock). repeater.parked_users is the truth about a waiting user. A graphile-worker job only wakes.
-- Locks are always taken in the order turn, feed_lanes, parked_users, jobs, and rows in key order.

-- Whether some worker has a lane or a parked user of a feed.
create function repeater.has_leases(p_feed_id integer) returns boolean
language sql stable
as $$
  select exists (select from repeater.feed_lanes l where l.feed_id = p_feed_id and l.lease_until > clock_timestamp())
    or exists (select from repeater.parked_users p where p.feed_id = p_feed_id and p.lease_until > clock_timestamp())
$$;
--> statement-breakpoint

-- Whether a feed may send now. A before-live replay holds its destination's live feed from its start to
-- its end (a cancelled one until its last worker has let go), and itself waits until no worker has a lane
-- or a user of the live feed any more.
create function repeater.is_deliverable(p_feed_id integer) returns boolean
language sql stable
as $$
  select exists (
    select from repeater.feeds f
    join repeater.destinations d on d.id = f.destination_id
    where f.id = p_feed_id
      and f.state = 'running'
      and d.enabled and d.paused_at is null and d.deleted_at is null
      and not (f.kind = 'live' and exists (
        select from repeater.feeds r
        where r.destination_id = f.destination_id and r.kind = 'replay' and r."order" = 'before-live'
          and (r.state in ('running', 'paused')
            -- No call lasts longer; older replays need not be looked at.
            or r.finished_at > clock_timestamp() - interval '5 minutes' and repeater.has_leases(r.id))))
      and not (f.kind = 'replay' and f."order" = 'before-live' and exists (
        select from repeater.feeds l
        where l.destination_id = f.destination_id and l.kind = 'live' and repeater.has_leases(l.id)))
  )
$$;
--> statement-breakpoint

-- Comes before asking is_deliverable to take a lease of the feed. A live feed and a before-live replay each
-- look for leases of the other; two that look at the same moment would both see none and both begin.
create function repeater.lock_turn(p_feed_id integer) returns void
language plpgsql
as $$
declare
  v_destination_id integer;
  v_kind text;
  v_order text;
begin
  select f.destination_id, f.kind, f."order" into v_destination_id, v_kind, v_order
  from repeater.feeds f where f.id = p_feed_id;
  if v_kind = 'live' then
    perform pg_advisory_xact_lock_shared(727001004, v_destination_id);
  elsif v_order = 'before-live' then
    perform pg_advisory_xact_lock(727001004, v_destination_id);
  end if;
end
$$;
--> statement-breakpoint

-- Adds (or moves) the wake-up jobs of lanes. Job key `feed:lane`, no queue name.
create function repeater.add_lane_jobs(p_feed_ids integer[], p_lanes smallint[]) returns void
language sql
as $$
  select count(*) from graphile_worker.add_jobs((
    select coalesce(array_agg(
      ('drain-lane', json_build_object('feedId', t.feed_id, 'lane', t.lane), null, null, 3,
       t.feed_id || ':' || t.lane, null, null)::graphile_worker.job_spec
      order by t.feed_id, t.lane), '{}')
    from unnest(p_feed_ids, p_lanes) as t (feed_id, lane)));
$$;
--> statement-breakpoint

-- Adds (or moves) the retry jobs of parked users at their next attempt. Job key `feed:user`.
create function repeater.add_user_jobs(p_feed_ids integer[], p_user_keys text[]) returns void
language sql
as $$
  select count(*) from graphile_worker.add_jobs((
    select coalesce(array_agg(
      ('retry-user', json_build_object('feedId', p.feed_id, 'userKey', p.user_key), null, p.next_attempt_at, 3,
       -- A job key is at most 512 characters; a hash keeps long ids apart.
       p.feed_id || ':' || case when length(p.user_key) > 400 then 'h:' || md5(p.user_key) else p.user_key end,
       null, null)::graphile_worker.job_spec
      order by p.feed_id, p.user_key), '{}')
    from unnest(p_feed_ids, p_user_keys) as t (feed_id, user_key)
    join repeater.parked_users p on p.feed_id = t.feed_id and p.user_key = t.user_key
    where p.state = 'retry'));
$$;
--> statement-breakpoint

-- After an ingest commit: wakes the sleeping lanes that got events, on every live feed. In a
-- transaction of its own, after the commit: a check inside the ingest transaction could miss a lane
-- that is just falling asleep. Returns the number of lanes woken.
create function repeater.wake_lanes(p_lanes smallint[]) returns integer
language plpgsql
as $$
declare
  v_feed_ids integer[];
  v_lanes smallint[];
begin
  with asleep as (
    select l.feed_id, l.lane
    from repeater.feed_lanes l
    join repeater.feeds f on f.id = l.feed_id
    where f.kind = 'live' and f.state = 'running' and not l.awake and l.lane = any(p_lanes)
    order by l.feed_id, l.lane
    for update of l
  ), woken as (
    update repeater.feed_lanes l set awake = true
    from asleep a where l.feed_id = a.feed_id and l.lane = a.lane
    returning l.feed_id, l.lane
  )
  select array_agg(w.feed_id), array_agg(w.lane) into v_feed_ids, v_lanes
  from woken w where repeater.is_deliverable(w.feed_id);
  if v_feed_ids is null then return 0; end if;
  perform repeater.add_lane_jobs(v_feed_ids, v_lanes);
  return cardinality(v_feed_ids);
end
$$;
--> statement-breakpoint

-- Takes the lease of a lane for a worker; no row when another has it, the lane sleeps or the feed may
-- not send. `waiting` are the keys of its parked users.
create function repeater.take_lane(p_feed_id integer, p_lane smallint, p_owner text, p_lease interval)
returns table (cursor bigint, ended_above bigint[], parked_version integer, revision bigint, waiting text[])
language plpgsql
as $$
#variable_conflict use_column
begin
  perform repeater.lock_turn(p_feed_id);
  -- The row's lock comes first: whoever had the lane may just be parking a user, and a statement that has
  -- waited for that goes on with what it saw of parked_users before.
  perform from repeater.feed_lanes l
  where l.feed_id = p_feed_id and l.lane = p_lane and l.awake
    and (l.lease_until is null or l.lease_until < clock_timestamp())
  for update;
  if not found then return; end if;
  return query
  update repeater.feed_lanes l
  set lease_owner = p_owner, lease_until = clock_timestamp() + p_lease
  where l.feed_id = p_feed_id and l.lane = p_lane
    and repeater.is_deliverable(p_feed_id)
  returning l.cursor, l.ended_above, l.parked_version, l.revision, (
    select coalesce(array_agg(p.user_key), '{}') from repeater.parked_users p
    where p.feed_id = p_feed_id and p.lane = p_lane);
end
$$;
--> statement-breakpoint

-- Writes the progress of many lanes, each all or nothing, and renews their leases.
--
-- A lane is `lost` when its lease has another owner or it is not as this owner left it: a worker that was
-- cut off writes nothing. A report that has been written already, its answer got lost, is not written again
-- and is `moved` as it was then. A lane is `unparked` when its new cursor would pass events skipped
-- for a user who meanwhile is no longer parked: nothing is written, and the worker takes these events
-- back from `waiting`, the users parked now. Else it is `moved`.
--
-- p_skips, p_parks and p_deads are json arrays of objects with the lane's place (1..n) as `n`:
--   skips: {n, userKey}                  users whose events the new cursor passes
--   parks: {n, userKey, position, delayMs, attempts, error, status, blocked}
--   deads: {n, position, userKey, status, error, response, attempts}
create function repeater.advance_lanes(
  p_feed_ids integer[], p_lanes smallint[], p_owners text[], p_from bigint[], p_to bigint[],
  p_ended_above text[], p_versions integer[], p_revisions bigint[], p_delivered integer[], p_dead integer[], p_filtered integer[],
  p_skips json, p_parks json, p_deads json, p_lease interval
) returns table (n integer, result text, version integer, waiting text[])
language plpgsql
as $$
#variable_conflict use_column
declare
  v_moved integer[];
  v_repeated integer[];
  v_unparked integer[] := '{}';
  v_parked_feeds integer[];
  v_parked_keys text[];
begin
  -- The lock comes first: what is read after it is what holds when the cursor moves.
  select coalesce(array_agg(t.n) filter (where t.written = t.revision and t.cursor = t.from_position), '{}'),
         coalesce(array_agg(t.n) filter (where t.written = t.revision + 1), '{}')
    into v_moved, v_repeated
  from (
    select i.n::integer, i.from_position, i.revision, l.cursor, l.revision as written
    from unnest(p_feed_ids, p_lanes, p_owners, p_from, p_revisions) with ordinality
      as i (feed_id, lane, owner, from_position, revision, n)
    join repeater.feed_lanes l on l.feed_id = i.feed_id and l.lane = i.lane and l.lease_owner = i.owner
    order by l.feed_id, l.lane
    for update of l
  ) t;

  if p_skips is not null then
    select coalesce(array_agg(distinct s.n), '{}') into v_unparked
    from json_to_recordset(p_skips) as s (n integer, "userKey" text)
    where s.n = any(v_moved) and not exists (
      select from repeater.parked_users p where p.feed_id = p_feed_ids[s.n] and p.user_key = s."userKey");
    select coalesce(array_agg(m), '{}') into v_moved from unnest(v_moved) m where m <> all(v_unparked);
  end if;

  update repeater.feed_lanes l
  set cursor = p_to[i.n],
      ended_above = p_ended_above[i.n]::bigint[],
      lease_until = clock_timestamp() + p_lease,
      revision = l.revision + 1,
      delivered = l.delivered + p_delivered[i.n],
      dead = l.dead + p_dead[i.n],
      filtered = l.filtered + p_filtered[i.n]
  from unnest(v_moved) as i (n)
  where l.feed_id = p_feed_ids[i.n] and l.lane = p_lanes[i.n];

  if p_deads is not null then
    insert into repeater.dead_letters
      (feed_id, position, destination_id, lane, user_key, status, error, response, attempts)
    select p_feed_ids[d.n], d.position, f.destination_id, p_lanes[d.n], d."userKey", d.status, d.error, d.response, d.attempts
    from json_to_recordset(p_deads)
      as d (n integer, position bigint, "userKey" text, status integer, error text, response text, attempts integer)
    join repeater.feeds f on f.id = p_feed_ids[d.n]
    where d.n = any(v_moved)
    on conflict do nothing;
  end if;

  if p_parks is not null then
    with parked as (
      insert into repeater.parked_users
        (feed_id, user_key, lane, from_position, attempts, state, first_failed_at, next_attempt_at, last_error, last_status)
      select p_feed_ids[k.n], k."userKey", p_lanes[k.n], k.position, k.attempts,
             case when k.blocked then 'blocked' else 'retry' end,
             case when k.attempts > 0 then clock_timestamp() end,
             clock_timestamp() + k."delayMs" * interval '1 millisecond', k.error, k.status
      from json_to_recordset(p_parks)
        as k (n integer, "userKey" text, position bigint, "delayMs" double precision, attempts integer, error text,
              status integer, blocked boolean)
      where k.n = any(v_moved)
      order by 1, 2
      on conflict do nothing
      returning feed_id, user_key
    )
    select array_agg(feed_id), array_agg(user_key) into v_parked_feeds, v_parked_keys from parked;
    if v_parked_feeds is not null then perform repeater.add_user_jobs(v_parked_feeds, v_parked_keys); end if;
  end if;

  return query
  select i.n::integer,
    case when i.n = any(v_moved || v_repeated) then 'moved' when i.n = any(v_unparked) then 'unparked' else 'lost' end,
    l.parked_version,
    case when l.parked_version <> i.version or i.n = any(v_unparked) then (
      select coalesce(array_agg(p.user_key), '{}') from repeater.parked_users p
      where p.feed_id = l.feed_id and p.lane = l.lane) end
  from unnest(p_feed_ids, p_lanes, p_versions) with ordinality as i (feed_id, lane, version, n)
  join repeater.feed_lanes l on l.feed_id = i.feed_id and l.lane = i.lane;
end
$$;
--> statement-breakpoint

-- Lets lanes go: asleep when nothing is left to do, else awake with a wake-up for whoever is next.
-- A worker that put a lane to sleep looks once more for events afterwards, and wakes it again if there are.
create function repeater.release_lanes(p_feed_ids integer[], p_lanes smallint[], p_owners text[], p_awake boolean)
returns void
language plpgsql
as $$
declare
  v_feed_ids integer[];
  v_lanes smallint[];
begin
  with released as (
    update repeater.feed_lanes l
    set lease_owner = null, lease_until = null, awake = p_awake
    from (
      select l.feed_id, l.lane
      from unnest(p_feed_ids, p_lanes, p_owners) as t (feed_id, lane, owner)
      join repeater.feed_lanes l on l.feed_id = t.feed_id and l.lane = t.lane and l.lease_owner = t.owner
      order by l.feed_id, l.lane
      for update of l
    ) as held
    where l.feed_id = held.feed_id and l.lane = held.lane
    returning l.feed_id, l.lane
  )
  select array_agg(r.feed_id), array_agg(r.lane) into v_feed_ids, v_lanes
  from released r where p_awake and repeater.is_deliverable(r.feed_id);
  if v_feed_ids is not null then perform repeater.add_lane_jobs(v_feed_ids, v_lanes); end if;
end
$$;
--> statement-breakpoint

-- Renews leases of lanes and parked users that are still this worker's; returns the owners that hold on.
create function repeater.renew_leases(
  p_feed_ids integer[], p_lanes smallint[], p_owners text[],
  p_user_feeds integer[], p_user_keys text[], p_user_owners text[], p_lease interval
) returns setof text
language sql
as $$
  with held as (
    select l.feed_id, l.lane
    from unnest(p_feed_ids, p_lanes, p_owners) as t (feed_id, lane, owner)
    join repeater.feed_lanes l on l.feed_id = t.feed_id and l.lane = t.lane and l.lease_owner = t.owner
    order by 1, 2
    for update of l
  ), lanes as (
    update repeater.feed_lanes l set lease_until = clock_timestamp() + p_lease
    from held h where l.feed_id = h.feed_id and l.lane = h.lane
    returning l.lease_owner
  ), users as (
    update repeater.parked_users p set lease_until = clock_timestamp() + p_lease
    from unnest(p_user_feeds, p_user_keys, p_user_owners) as t (feed_id, user_key, owner)
    where p.feed_id = t.feed_id and p.user_key = t.user_key and p.lease_owner = t.owner
    returning p.lease_owner
  )
  select lease_owner from lanes union all select lease_owner from users
$$;
--> statement-breakpoint

-- How far the users are that others wait for, one answer a barrier: `passed` when every event of the user up to the
-- position has ended, `parked` when it waits for its own retry, else `open`. One statement, so that a cursor that
-- passes a user's events and the user's parking are seen together.
create function repeater.look_at_barriers(p_feed_id integer, p_user_keys text[], p_lanes smallint[], p_positions bigint[])
returns table (n integer, state text)
language sql stable
as $$
  select b.n::integer, case
    when exists (
      select from repeater.parked_users p
      where p.feed_id = p_feed_id and p.user_key = b.user_key and p.from_position <= b.position) then 'parked'
    when l.cursor >= b.position or not exists (
      select from warehouse.events e
      where e.user_key = b.user_key and e.id > l.cursor and e.id <= b.position and e.id <> all(l.ended_above)) then 'passed'
    else 'open' end
  from unnest(p_user_keys, p_lanes, p_positions) with ordinality as b (user_key, lane, position, n)
    join repeater.feed_lanes l on l.feed_id = p_feed_id and l.lane = b.lane
$$;
--> statement-breakpoint

-- Takes a parked user for a worker; no row when another has it, it is not due or the feed may not send.
create function repeater.take_user(p_feed_id integer, p_user_key text, p_owner text, p_lease interval)
returns table (lane smallint, from_position bigint, attempts integer, failing_ms double precision)
language plpgsql
as $$
#variable_conflict use_column
begin
  perform repeater.lock_turn(p_feed_id);
  return query
  update repeater.parked_users p
  set lease_owner = p_owner, lease_until = clock_timestamp() + p_lease
  where p.feed_id = p_feed_id and p.user_key = p_user_key and p.state = 'retry'
    -- A job may be a few milliseconds early against this clock.
    and p.next_attempt_at <= clock_timestamp() + interval '50 milliseconds'
    and (p.lease_until is null or p.lease_until < clock_timestamp())
    and repeater.is_deliverable(p_feed_id)
  returning p.lane, p.from_position, p.attempts,
    coalesce(extract(epoch from clock_timestamp() - p.first_failed_at) * 1000, 0)::double precision;
end
$$;
--> statement-breakpoint

-- Writes how far a parked user's catch-up has come: events up to p_next - 1 have ended. With p_attempts
-- above 0 the event at p_next has failed that often, and the user waits for p_delay and is let go.
-- Returns false when the user is no longer this worker's; then nothing is written.
create function repeater.advance_user(
  p_feed_id integer, p_user_key text, p_owner text, p_next bigint, p_delivered integer, p_dead integer,
  p_filtered integer, p_deads json, p_failure json
) returns boolean
language plpgsql
as $$
declare
  v_lane smallint;
begin
  -- feed_lanes before parked_users, as everywhere.
  if p_delivered + p_dead + p_filtered > 0 then
    perform from repeater.feed_lanes l
    where l.feed_id = p_feed_id
      and l.lane = (select p.lane from repeater.parked_users p where p.feed_id = p_feed_id and p.user_key = p_user_key)
    for update;
  end if;

  update repeater.parked_users p
  set from_position = p_next,
      attempts = coalesce((p_failure->>'attempts')::integer, 0),
      state = case when (p_failure->>'blocked')::boolean then 'blocked' else 'retry' end,
      -- Waiting for others, or until the time a destination named, is not failing.
      first_failed_at = case
        when p_failure is null or (p_failure->>'attempts')::integer = 0 then null
        when p.from_position = p_next then coalesce(p.first_failed_at, clock_timestamp())
        else clock_timestamp() end,
      next_attempt_at = clock_timestamp() + coalesce((p_failure->>'delayMs')::double precision, 0) * interval '1 millisecond',
      last_error = coalesce(p_failure->>'error', p.last_error),
      last_status = coalesce((p_failure->>'status')::integer, p.last_status),
      lease_owner = case when p_failure is null then p.lease_owner end,
      lease_until = case when p_failure is null then p.lease_until end
  where p.feed_id = p_feed_id and p.user_key = p_user_key and p.lease_owner = p_owner
  returning p.lane into v_lane;
  if v_lane is null then return false; end if;

  if p_delivered + p_dead + p_filtered > 0 then
    update repeater.feed_lanes l
    set delivered = l.delivered + p_delivered, dead = l.dead + p_dead, filtered = l.filtered + p_filtered
    where l.feed_id = p_feed_id and l.lane = v_lane;
  end if;

  if p_deads is not null then
    insert into repeater.dead_letters
      (feed_id, position, destination_id, lane, user_key, status, error, response, attempts)
    select p_feed_id, d.position, f.destination_id, v_lane, p_user_key, d.status, d.error, d.response, d.attempts
    from json_to_recordset(p_deads)
      as d (position bigint, status integer, error text, response text, attempts integer)
    join repeater.feeds f on f.id = p_feed_id
    on conflict do nothing;
  end if;

  if p_failure is not null then perform repeater.add_user_jobs(array[p_feed_id], array[p_user_key]); end if;
  return true;
end
$$;
--> statement-breakpoint

-- Hands a user back to its lane. The caller has ended every event of the user up to the lane's cursor as
-- it saw it (p_seen_cursor) and none above. Only while the cursor still stands there is that all the lane
-- has skipped; else the new cursor is returned and the caller goes on. Null: done, or no longer the caller's.
create function repeater.unpark_user(p_feed_id integer, p_user_key text, p_owner text, p_lane smallint, p_seen_cursor bigint)
returns bigint
language plpgsql
as $$
declare
  v_cursor bigint;
begin
  select l.cursor into v_cursor from repeater.feed_lanes l
  where l.feed_id = p_feed_id and l.lane = p_lane for update;
  if v_cursor <> p_seen_cursor then return v_cursor; end if;
  delete from repeater.parked_users p
  where p.feed_id = p_feed_id and p.user_key = p_user_key and p.lease_owner = p_owner;
  if found then
    update repeater.feed_lanes l set parked_version = l.parked_version + 1
    where l.feed_id = p_feed_id and l.lane = p_lane;
  end if;
  return null;
end
$$;
--> statement-breakpoint

-- Stops a destination that refused our key (paused) or is gone. The first reason stays.
create function repeater.pause_destination(p_id integer, p_reason text) returns void
language sql
as $$
  update repeater.destinations set paused_at = clock_timestamp(), paused_reason = p_reason
  where id = p_id and paused_at is null
$$;
--> statement-breakpoint

-- Takes up to p_want of the sends a feed's rate allows now, for all workers together. The bucket holds a
-- fifth of a second, so that a burst after a pause stays small.
create function repeater.take_rate(p_feed_id integer, p_want integer) returns integer
language sql
as $$
  update repeater.feeds f
  set rate_tokens = t.available - least(p_want, floor(t.available)), rate_at = clock_timestamp()
  from (
    select id, least(greatest(rate_per_second / 5, 1),
      rate_tokens + rate_per_second * extract(epoch from clock_timestamp() - rate_at)) as available
    from repeater.feeds where id = p_feed_id for update
  ) as t
  where f.id = t.id
  returning least(p_want, floor(t.available))::integer
$$;
--> statement-breakpoint

-- Wakes every lane and parked user of a destination that may have work: after it was enabled, resumed or
-- changed. A lane without work falls asleep again by itself.
create function repeater.wake_destination(p_id integer) returns void
language plpgsql
as $$
declare
  v_feed_ids integer[];
  v_lanes smallint[];
  v_user_feeds integer[];
  v_user_keys text[];
begin
  with candidates as (
    select l.feed_id, l.lane from repeater.feed_lanes l
    join repeater.feeds f on f.id = l.feed_id
    where f.destination_id = p_id and f.state = 'running' and (f.kind = 'live' or l.cursor < f.to_position)
    order by l.feed_id, l.lane
    for update of l
  ), woken as (
    update repeater.feed_lanes l set awake = true
    from candidates c where l.feed_id = c.feed_id and l.lane = c.lane
    returning l.feed_id, l.lane
  )
  select array_agg(w.feed_id), array_agg(w.lane) into v_feed_ids, v_lanes
  from woken w where repeater.is_deliverable(w.feed_id);
  if v_feed_ids is not null then perform repeater.add_lane_jobs(v_feed_ids, v_lanes); end if;

  select array_agg(p.feed_id), array_agg(p.user_key) into v_user_feeds, v_user_keys
  from repeater.parked_users p join repeater.feeds f on f.id = p.feed_id
  where f.destination_id = p_id and p.state = 'retry';
  if v_user_feeds is not null then perform repeater.add_user_jobs(v_user_feeds, v_user_keys); end if;
end
$$;
--> statement-breakpoint

-- Ends the replays whose every lane has passed the upper bound and that have no parked user left.
create function repeater.finish_replays() returns setof integer
language sql
as $$
  update repeater.feeds f
  set state = 'completed', finished_at = clock_timestamp()
  where f.kind = 'replay' and f.state = 'running'
    and not exists (select from repeater.feed_lanes l where l.feed_id = f.id and l.cursor < f.to_position)
    and not exists (select from repeater.parked_users p where p.feed_id = f.id)
  returning f.id
$$;
--> statement-breakpoint

-- Once a second, by one worker: whatever should be running and is not is woken, whatever the reason. With
-- p_since null every sleeping lane is compared with the log, else only events accepted since then are.
-- Returns the number of lanes and users woken; null when another worker is sweeping.
create function repeater.sweep(p_since interval) returns integer
language plpgsql
set enable_seqscan = off
as $$
declare
  v_open integer[];
  v_feed_ids integer[];
  v_lanes smallint[];
  v_user_feeds integer[];
  v_user_keys text[];
begin
  if not pg_try_advisory_xact_lock(727001003) then return null; end if;
  perform repeater.finish_replays();
  -- First of all: whatever belongs to a feed that may not send must not crowd out what could be woken.
  select coalesce(array_agg(f.id), '{}') into v_open
  from repeater.feeds f where f.state = 'running' and repeater.is_deliverable(f.id);

  with heads as (
    select g.lane::smallint as lane, (
      select max(e.id) from warehouse.events e
      where e.lane = g.lane
        and e.received_at > coalesce(clock_timestamp() - p_since, '-infinity')) as head
    from generate_series(0, 31) as g (lane)
  ), idle as (
    select l.feed_id, l.lane
    from repeater.feed_lanes l
    join repeater.feeds f on f.id = l.feed_id
    left join heads h on h.lane = l.lane
    where f.id = any(v_open)
      and (l.lease_until is null or l.lease_until < clock_timestamp())
      and case when f.kind = 'live' then l.awake or h.head > l.cursor else l.cursor < f.to_position end
    order by l.feed_id, l.lane
    for update of l skip locked
  ), woken as (
    update repeater.feed_lanes l set awake = true
    from idle i where l.feed_id = i.feed_id and l.lane = i.lane
    returning l.feed_id, l.lane
  )
  select array_agg(w.feed_id), array_agg(w.lane) into v_feed_ids, v_lanes from woken w;
  if v_feed_ids is not null then perform repeater.add_lane_jobs(v_feed_ids, v_lanes); end if;

  select array_agg(p.feed_id), array_agg(p.user_key) into v_user_feeds, v_user_keys
  from unnest(v_open) as o (feed_id), lateral (
    select p.feed_id, p.user_key from repeater.parked_users p
    where p.feed_id = o.feed_id and p.state = 'retry'
      and p.next_attempt_at < clock_timestamp() - interval '1 second'
      and (p.lease_until is null or p.lease_until < clock_timestamp())
    order by p.next_attempt_at limit 1000
  ) p;
  if v_user_feeds is not null then perform repeater.add_user_jobs(v_user_feeds, v_user_keys); end if;

  -- What the workers of a cancelled feed still parked before they heard of it.
  delete from repeater.parked_users p using repeater.feeds f
  where f.id = p.feed_id and f.state = 'cancelled' and f.finished_at > clock_timestamp() - interval '1 hour'
    and (p.lease_until is null or p.lease_until < clock_timestamp());

  -- Workers that went silent: graphile-worker itself would keep their jobs locked for four hours.
  with gone as (
    delete from repeater.workers w where w.seen_at < clock_timestamp() - interval '10 seconds' returning w.graphile_ids
  )
  select array_agg(g.id) into v_user_keys from gone, unnest(gone.graphile_ids) as g (id);
  if v_user_keys is not null then perform graphile_worker.force_unlock_workers(v_user_keys); end if;

  return coalesce(cardinality(v_feed_ids), 0) + coalesce(cardinality(v_user_feeds), 0);
end
$$;
