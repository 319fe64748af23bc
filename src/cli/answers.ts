/** The answers of the admin API as commands read them: the shapes that describe and test the API itself. */
import type * as answers from '../admin/answers.ts';

type OutputOf<Shape extends { readonly '~types'?: { readonly output: unknown } | undefined }> = NonNullable<
  Shape['~types']
>['output'];

export type Source = OutputOf<typeof answers.source>;
export type DestinationType = OutputOf<typeof answers.destinationType>;
export type Destination = OutputOf<typeof answers.destination>;
export type DestinationStatus = OutputOf<typeof answers.destinationStatus>;
export type Replay = OutputOf<typeof answers.replay>;
export type Preview = OutputOf<typeof answers.preview>;
export type StoredEvent = OutputOf<typeof answers.storedEvent>;
export type DeadLetter = OutputOf<typeof answers.deadLetter>;
export type ParkedUser = OutputOf<typeof answers.parkedUser>;
export type QueryResult = OutputOf<typeof answers.queryResult>;
