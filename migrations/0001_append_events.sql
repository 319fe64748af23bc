-- How an event gets into the log: partitions made ahead, and the one function that appends.
--
-- The promise: id order is commit order, on any number of API processes. Each appending transaction
-- first takes the ingest lock, only then takes ids, and holds the lock until it has committed. So a
-- reader that asks for "id > cursor" can never be overtaken by an event that commits late with a lower
-- id (with a plain identity column it is, and the event is never delivered).
--
-- Two sequences, not rows: a counter row would leave a dead version per group, and one long-running
-- analyst query keeps them all from being pruned.
create sequence repeater.event_position as bigint;
--> statement-breakpoint
-- Microseconds since 1970 of the newest received_at; keeps it from ever going back when the clock does.
create sequence repeater.event_clock as bigint;
--> statement-breakpoint
alter table repeater.feed_lanes set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
--> statement-breakpoint
alter table repeater.parked_users set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
--> statement-breakpoint

-- Makes the monthly partitions of warehouse.events from the current month to `p_ahead` months on.
-- A partition is built beside the table and then attached, which locks the log only against other DDL.
create function warehouse.ensure_partitions(p_ahead integer default 2) returns integer
language plpgsql
set timezone = 'UTC'
as $$
declare
  v_month date;
  v_name text;
  v_made integer := 0;
begin
  for v_offset in 0..p_ahead loop
    v_month := (date_trunc('month', clock_timestamp()) + make_interval(months => v_offset))::date;
    v_name := 'events_' || to_char(v_month, 'YYYY_MM');
    continue when to_regclass('warehouse.' || v_name) is not null;
    -- Ten instances may start at once; the second to come finds the partition made.
    perform pg_advisory_xact_lock(727001002);
    continue when to_regclass('warehouse.' || v_name) is not null;
    execute format('create table warehouse.%I (like warehouse.events including all)', v_name);
    execute format(
      'alter table warehouse.events attach partition warehouse.%I for values from (%L) to (%L)',
      v_name, v_month::timestamptz, (v_month + interval '1 month')::timestamptz);
    v_made := v_made + 1;
  end loop;
  return v_made;
end
$$;
--> statement-breakpoint
select warehouse.ensure_partitions();
--> statement-breakpoint

-- Who the events of a group belong to, and whom they must wait for. Under the ingest lock; part of append_events,
-- whose arrays it takes and completes.
--
-- An event without a user id belongs to the user its anonymous id was last seen with. An event that names another
-- user for an anonymous id than that (an alias does it for the previous id) binds the id anew and gets a barrier:
-- whose events the id's were so far, and the position of the last of them. Whoever delivers holds the event back
-- until that one has ended. So any two events that share a user id or an anonymous id keep their order. Barriers
-- point to earlier positions only, so nobody waits in a circle; ids are not merged any further than that, so a
-- shared device never becomes one endless user.
create function repeater.resolve_identities(
  p_window interval,
  p_base bigint,
  p_received timestamptz,
  p_sources text[],
  p_user_ids text[],
  p_anonymous_ids text[],
  p_previous_ids text[],
  p_message_ids text[],
  inout p_user_keys text[],
  inout p_lanes text[],
  out p_barriers text[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  r record;
  v_bound warehouse.identities;
  v_owners text[];
  v_changing text[];
  v_owner text;
  v_last bigint;
  v_found jsonb;
begin
  -- Nearly always nothing changes, and this look-up is all.
  select array_agg(coalesce(b.user_key, i.user_key) order by i.place),
         array_agg(coalesce(b.lane::text, i.lane) order by i.place)
    into v_owners, p_lanes
  from unnest(p_user_keys, p_lanes, p_user_ids, p_anonymous_ids)
      with ordinality as i (user_key, lane, user_id, anonymous_id, place)
    left join warehouse.identities b on i.user_id is null and b.anonymous_id = i.anonymous_id;

  select array_agg(distinct i.anonymous_id) into v_changing
  from (
    select i.user_key, unnest(array[i.anonymous_id, i.previous_id]) as anonymous_id
    from unnest(p_user_keys, p_user_ids, p_anonymous_ids, p_previous_ids) as i (user_key, user_id, anonymous_id, previous_id)
    where i.user_id is not null
  ) as i
    left join warehouse.identities b on b.anonymous_id = i.anonymous_id
  where i.anonymous_id is not null and b.user_key is distinct from i.user_key;

  if v_changing is null then
    p_user_keys := v_owners;
    return;
  end if;

  p_barriers := array_fill(null::text, array[cardinality(p_user_keys)]);
  for r in
    select i.place::integer as place, i.user_key as user_key, i.lane as lane, i.user_id as user_id, i.source as source,
           i.message_id as message_id, l.anonymous_id as anonymous_id, l.is_previous as is_previous
    from unnest(p_user_keys, v_owners, p_lanes, p_user_ids, p_anonymous_ids, p_previous_ids, p_sources, p_message_ids)
        with ordinality as i (user_key, owner, lane, user_id, anonymous_id, previous_id, source, message_id, place)
      cross join lateral (values (i.anonymous_id, false), (i.previous_id, true)) as l (anonymous_id, is_previous)
    where l.anonymous_id = any(v_changing)
    order by i.place, l.is_previous
  loop
    select * into v_bound from warehouse.identities b where b.anonymous_id = r.anonymous_id;
    if r.user_id is null then
      v_owners[r.place] := coalesce(v_bound.user_key, r.user_key);
      if v_bound.user_key is not null then p_lanes[r.place] := v_bound.lane; end if;
      continue;
    end if;
    -- One that was stored before changes nothing, however often it comes again.
    continue when v_bound.user_key = r.user_key or exists (
      select from warehouse.events e
      where hashtextextended(e.message_id, e.source_id::bigint) = hashtextextended(r.message_id, r.source::bigint)
        and e.message_id = r.message_id and e.source_id = r.source::integer and e.received_at > p_received - p_window);

    v_found := coalesce(p_barriers[r.place]::jsonb, '[]');
    foreach v_owner in array
      array[coalesce(v_bound.user_key, 'a:' || r.anonymous_id)] || case when r.is_previous then array['u:' || r.anonymous_id] else '{}' end
    loop
      continue when v_owner = r.user_key;
      select p_base + max(o.place) into v_last
      from unnest(v_owners[1:r.place - 1]) with ordinality as o (user_key, place) where o.user_key = v_owner;
      if v_last is null then
        select e.id into v_last from warehouse.events e where e.user_key = v_owner order by e.id desc limit 1;
      end if;
      if v_last is not null then v_found := v_found || jsonb_build_array(jsonb_build_array(v_owner, v_last)); end if;
    end loop;
    if v_found <> '[]' then p_barriers[r.place] := v_found; end if;

    insert into warehouse.identities as known (anonymous_id, user_id, user_key, lane, position, identified_at)
    values (r.anonymous_id, r.user_id, r.user_key, r.lane::smallint, p_base + r.place, p_received)
    on conflict (anonymous_id) do update
    set user_id = excluded.user_id, user_key = excluded.user_key, lane = excluded.lane,
        position = excluded.position, identified_at = excluded.identified_at;
  end loop;
  p_user_keys := v_owners;
end
$$;
--> statement-breakpoint

-- Appends a group of events in the given order and answers which are new.
--
-- Each argument from p_sources on is one column: the group's values joined by p_separator, p_null
-- standing for null. Splitting text is several times cheaper, here and in the program, than arrays
-- whose every element must be quoted and escaped. A value that held the separator would make its column
-- one longer than the others, and the row of nulls at the end is refused: nothing shifts unseen.
--
-- p_user_keys and p_lanes are by the event's own ids; with p_linked some event has an anonymous id or a previous
-- one, and resolve_identities has the last word.
--
-- An event whose (source, messageId) was stored within p_window is left out: under the lock nobody else
-- can be storing it at this moment, so the look-up is exact. Ids within one call must differ. Positions are
-- given out by place, so one left out leaves a gap, as a crash does: a gap means nothing.
--
-- Returns the number stored, the highest position, and the lanes they went to as a bit mask.
create function repeater.append_events(
  p_window interval,
  p_linked boolean,
  p_separator text,
  p_null text,
  p_sources text,
  p_lanes text,
  p_types text,
  p_events text,
  p_user_ids text,
  p_anonymous_ids text,
  p_previous_ids text,
  p_user_keys text,
  p_message_ids text,
  p_times text,
  p_offsets_ms text,
  p_original_times text,
  p_sent_times text,
  p_marks text,
  p_payloads text
) returns table (stored integer, last_position bigint, lanes bigint)
language plpgsql
-- Without statistics (a fresh partition) the planner would scan the month for each look-up.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_received timestamptz;
  v_base bigint;
  v_user_keys text[];
  v_lanes text[];
  v_barriers text[];
begin
  perform pg_advisory_xact_lock(727001001);

  select greatest(clock_timestamp(), to_timestamp(0) + last_value * interval '1 microsecond')
    into v_received from repeater.event_clock;
  perform setval('repeater.event_clock', (extract(epoch from v_received) * 1000000)::bigint);

  v_user_keys := string_to_array(p_user_keys, p_separator);
  v_lanes := string_to_array(p_lanes, p_separator);
  select case when is_called then last_value else last_value - 1 end into v_base from repeater.event_position;
  perform setval('repeater.event_position', v_base + cardinality(v_user_keys));

  if p_linked then
    select r.p_user_keys, r.p_lanes, r.p_barriers into v_user_keys, v_lanes, v_barriers
    from repeater.resolve_identities(
      p_window, v_base, v_received,
      string_to_array(p_sources, p_separator),
      string_to_array(p_user_ids, p_separator, p_null),
      string_to_array(p_anonymous_ids, p_separator, p_null),
      string_to_array(p_previous_ids, p_separator, p_null),
      string_to_array(p_message_ids, p_separator),
      v_user_keys, v_lanes) as r;
  end if;

  return query
  with incoming as (
    select *
    from rows from (
      string_to_table(p_sources, p_separator),
      unnest(v_lanes),
      string_to_table(p_types, p_separator),
      string_to_table(p_events, p_separator, p_null),
      string_to_table(p_user_ids, p_separator, p_null),
      string_to_table(p_anonymous_ids, p_separator, p_null),
      unnest(v_user_keys),
      string_to_table(p_message_ids, p_separator),
      string_to_table(p_times, p_separator, p_null),
      string_to_table(p_offsets_ms, p_separator, p_null),
      string_to_table(p_original_times, p_separator, p_null),
      string_to_table(p_sent_times, p_separator, p_null),
      string_to_table(p_marks, p_separator, p_null),
      unnest(v_barriers),
      string_to_table(p_payloads, p_separator)
    ) with ordinality as t (source, lane, type, event, user_id, anonymous_id, user_key, message_id,
            at, offset_ms, original_at, sent_at, marks, barriers, payload, place)
  ),
  inserted as (
    insert into warehouse.events (
      id, received_at, "timestamp", original_timestamp, sent_at, source_id, lane, type, event,
      user_id, anonymous_id, user_key, message_id, marks, barriers, payload)
    select
      v_base + i.place,
      v_received,
      case
        when i.offset_ms is not null then v_received - i.offset_ms::double precision * interval '1 millisecond'
        else coalesce(i.at::timestamptz, v_received)
      end,
      i.original_at::timestamptz, i.sent_at::timestamptz, i.source::integer, i.lane::smallint, i.type, i.event,
      i.user_id, i.anonymous_id, i.user_key, i.message_id, string_to_array(i.marks, ','), i.barriers::jsonb,
      i.payload::jsonb
    from incoming i
    where not exists (
      select from warehouse.events e
      where hashtextextended(e.message_id, e.source_id::bigint) = hashtextextended(i.message_id, i.source::bigint)
        and e.message_id = i.message_id
        and e.source_id = i.source::integer
        and e.received_at > v_received - p_window
    )
    order by i.place
    returning id, lane
  )
  select count(*)::integer, max(i.id), bit_or(1::bigint << i.lane) from inserted i;
end
$$;
