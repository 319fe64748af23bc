-- The tables. Written by drizzle-kit from src/db/tables.ts, with one change by hand that drizzle cannot
-- express: warehouse.events is partitioned by received_at, so that months can be dropped whole and
-- indexes stay small. That is why its primary key holds received_at, and why de-duplication cannot be
-- a unique constraint (see repeater.append_events).
CREATE SCHEMA "repeater";
--> statement-breakpoint
CREATE SCHEMA "warehouse";
--> statement-breakpoint
CREATE TABLE "repeater"."dead_letters" (
	"feed_id" integer NOT NULL,
	"position" bigint NOT NULL,
	"destination_id" integer NOT NULL,
	"lane" smallint NOT NULL,
	"user_key" text NOT NULL,
	"status" integer,
	"error" text NOT NULL,
	"response" text,
	"attempts" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "dead_letters_feed_id_position_pk" PRIMARY KEY("feed_id","position")
);
--> statement-breakpoint
CREATE TABLE "repeater"."destinations" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "repeater"."destinations_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"type" text NOT NULL,
	"name" text NOT NULL,
	"settings" jsonb NOT NULL,
	"secrets" jsonb NOT NULL,
	"policy" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"enabled" boolean DEFAULT true NOT NULL,
	"paused_reason" text,
	"paused_at" timestamp with time zone,
	"version" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "warehouse"."events" (
	"id" bigint NOT NULL,
	"received_at" timestamp with time zone NOT NULL,
	"timestamp" timestamp with time zone NOT NULL,
	"original_timestamp" timestamp with time zone,
	"sent_at" timestamp with time zone,
	"source_id" integer NOT NULL,
	"lane" smallint NOT NULL,
	"type" text NOT NULL,
	"event" text,
	"user_id" text,
	"anonymous_id" text,
	"user_key" text NOT NULL,
	"message_id" text NOT NULL,
	"marks" text[],
	"barriers" jsonb,
	"payload" jsonb NOT NULL,
	CONSTRAINT "events_lane_id_received_at_pk" PRIMARY KEY("lane","id","received_at")
) PARTITION BY RANGE ("received_at");
--> statement-breakpoint
CREATE TABLE "repeater"."feed_lanes" (
	"feed_id" integer NOT NULL,
	"lane" smallint NOT NULL,
	"cursor" bigint NOT NULL,
	"ended_above" bigint[] DEFAULT '{}' NOT NULL,
	"awake" boolean DEFAULT false NOT NULL,
	"lease_owner" text,
	"lease_until" timestamp with time zone,
	"parked_version" integer DEFAULT 0 NOT NULL,
	"revision" bigint DEFAULT 0 NOT NULL,
	"delivered" bigint DEFAULT 0 NOT NULL,
	"dead" bigint DEFAULT 0 NOT NULL,
	"filtered" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "feed_lanes_feed_id_lane_pk" PRIMARY KEY("feed_id","lane")
);
--> statement-breakpoint
CREATE TABLE "repeater"."feed_positions" (
	"feed_id" integer NOT NULL,
	"lane" smallint NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT "feed_positions_feed_id_lane_position_pk" PRIMARY KEY("feed_id","lane","position")
);
--> statement-breakpoint
CREATE TABLE "repeater"."feeds" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "repeater"."feeds_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"destination_id" integer NOT NULL,
	"kind" text NOT NULL,
	"state" text NOT NULL,
	"selection" jsonb,
	"listed" boolean DEFAULT false NOT NULL,
	"from_position" bigint NOT NULL,
	"to_position" bigint,
	"order" text DEFAULT 'alongside' NOT NULL,
	"rate_per_second" double precision,
	"rate_tokens" double precision DEFAULT 0 NOT NULL,
	"rate_at" timestamp with time zone DEFAULT now() NOT NULL,
	"total" bigint,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "repeater"."parked_users" (
	"feed_id" integer NOT NULL,
	"user_key" text NOT NULL,
	"lane" smallint NOT NULL,
	"from_position" bigint NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"state" text DEFAULT 'retry' NOT NULL,
	"parked_at" timestamp with time zone DEFAULT now() NOT NULL,
	"first_failed_at" timestamp with time zone,
	"next_attempt_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_error" text,
	"last_status" integer,
	"lease_owner" text,
	"lease_until" timestamp with time zone,
	CONSTRAINT "parked_users_feed_id_user_key_pk" PRIMARY KEY("feed_id","user_key")
);
--> statement-breakpoint
CREATE TABLE "warehouse"."identities" (
	"anonymous_id" text PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"user_key" text NOT NULL,
	"lane" smallint NOT NULL,
	"position" bigint NOT NULL,
	"identified_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "warehouse"."rejected_events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "warehouse"."rejected_events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"received_at" timestamp with time zone DEFAULT now() NOT NULL,
	"source_id" integer NOT NULL,
	"code" text NOT NULL,
	"problems" jsonb NOT NULL,
	"type" text,
	"message_id" text,
	"user_id" text,
	"anonymous_id" text,
	"payload" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "repeater"."settings" (
	"name" text PRIMARY KEY NOT NULL,
	"value" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "repeater"."sources" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "repeater"."sources_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"name" text NOT NULL,
	"enabled" boolean DEFAULT true NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "repeater"."workers" (
	"id" text PRIMARY KEY NOT NULL,
	"host" text NOT NULL,
	"pid" integer NOT NULL,
	"graphile_ids" text[] NOT NULL,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"seen_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "repeater"."write_keys" (
	"key" text PRIMARY KEY NOT NULL,
	"source_id" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "repeater"."feeds" ADD CONSTRAINT "feeds_destination_id_destinations_id_fk" FOREIGN KEY ("destination_id") REFERENCES "repeater"."destinations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repeater"."write_keys" ADD CONSTRAINT "write_keys_source_id_sources_id_fk" FOREIGN KEY ("source_id") REFERENCES "repeater"."sources"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "dead_letters_destination_idx" ON "repeater"."dead_letters" USING btree ("destination_id","position");--> statement-breakpoint
CREATE INDEX "events_user_key_idx" ON "warehouse"."events" USING btree ("user_key","id");--> statement-breakpoint
CREATE INDEX "events_message_idx" ON "warehouse"."events" USING btree (hashtextextended("message_id", "source_id"::bigint));--> statement-breakpoint
CREATE INDEX "events_id_brin" ON "warehouse"."events" USING brin ("id");--> statement-breakpoint
CREATE INDEX "feeds_destination_idx" ON "repeater"."feeds" USING btree ("destination_id");--> statement-breakpoint
CREATE INDEX "identities_user_idx" ON "warehouse"."identities" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "parked_users_lane_idx" ON "repeater"."parked_users" USING btree ("feed_id","lane");--> statement-breakpoint
CREATE INDEX "parked_users_due_idx" ON "repeater"."parked_users" USING btree ("feed_id","next_attempt_at");--> statement-breakpoint
CREATE INDEX "rejected_events_received_at_idx" ON "warehouse"."rejected_events" USING btree ("received_at");--> statement-breakpoint
CREATE UNIQUE INDEX "sources_name_key" ON "repeater"."sources" USING btree ("name");