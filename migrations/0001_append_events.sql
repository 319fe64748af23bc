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

-- Appends a group of events in the given order and answers which are new.
--
-- Each argument from p_sources on is one column: the group's values joined by p_separator, p_null
-- standing for null. Splitting text is several times cheaper, here and in the program, than arrays
-- whose every element must be quoted and escaped. A value that held the separator would make its column
-- one longer than the others, and the row of nulls at the end is refused: nothing shifts unseen.
--
-- An event whose (source, messageId) was stored within p_window is left out: under the lock nobody else
-- can be storing it at this moment, so the look-up is exact. Ids within one call must differ.
--
-- Returns the number stored, the highest position, and the lanes they went to as a bit mask.
create function repeater.append_events(
  p_window interval,
  p_separator text,
  p_null text,
  p_sources text,
  p_lanes text,
  p_types text,
  p_events text,
  p_user_ids text,
  p_anonymous_ids text,
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
begin
  perform pg_advisory_xact_lock(727001001);

  select greatest(clock_timestamp(), to_timestamp(0) + last_value * interval '1 microsecond')
    into v_received from repeater.event_clock;
  perform setval('repeater.event_clock', (extract(epoch from v_received) * 1000000)::bigint);

  return query
  with incoming as (
    select *
    from rows from (
      string_to_table(p_sources, p_separator),
      string_to_table(p_lanes, p_separator),
      string_to_table(p_types, p_separator),
      string_to_table(p_events, p_separator, p_null),
      string_to_table(p_user_ids, p_separator, p_null),
      string_to_table(p_anonymous_ids, p_separator, p_null),
      string_to_table(p_user_keys, p_separator),
      string_to_table(p_message_ids, p_separator),
      string_to_table(p_times, p_separator, p_null),
      string_to_table(p_offsets_ms, p_separator, p_null),
      string_to_table(p_original_times, p_separator, p_null),
      string_to_table(p_sent_times, p_separator, p_null),
      string_to_table(p_marks, p_separator, p_null),
      string_to_table(p_payloads, p_separator)
    ) with ordinality as t (source, lane, type, event, user_id, anonymous_id, user_key, message_id,
            at, offset_ms, original_at, sent_at, marks, payload, place)
  ),
  inserted as (
    insert into warehouse.events (
      id, received_at, "timestamp", original_timestamp, sent_at, source_id, lane, type, event,
      user_id, anonymous_id, user_key, message_id, marks, payload)
    select
      nextval('repeater.event_position'),
      v_received,
      case
        when i.offset_ms is not null then v_received - i.offset_ms::double precision * interval '1 millisecond'
        else coalesce(i.at::timestamptz, v_received)
      end,
      i.original_at::timestamptz, i.sent_at::timestamptz, i.source::integer, i.lane::smallint, i.type, i.event,
      i.user_id, i.anonymous_id, i.user_key, i.message_id, string_to_array(i.marks, ','), i.payload::jsonb
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
