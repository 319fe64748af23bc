/** One dispatcher a destination, shared by all its feeds, so that its limits hold for them together. */
import { Dispatcher, type DispatcherDeps } from './dispatcher.ts';
import type { OpenFeed } from './open-feed.ts';

export class Dispatchers {
  readonly #deps: DispatcherDeps;
  readonly #known = new Map<number, { readonly dispatcher: Dispatcher; version: number }>();

  constructor(deps: DispatcherDeps) {
    this.#deps = deps;
  }

  /** The destination's dispatcher, with the feed's settings if they are newer than what it has. */
  for(feed: OpenFeed): Dispatcher {
    const known = this.#known.get(feed.destinationId);
    if (known === undefined) {
      const dispatcher = new Dispatcher(feed.outlet, this.#deps);
      this.#known.set(feed.destinationId, { dispatcher, version: feed.version });
      return dispatcher;
    }
    if (feed.version > known.version) {
      known.dispatcher.update(feed.outlet);
      known.version = feed.version;
    }
    return known.dispatcher;
  }

  pump(): void {
    for (const { dispatcher } of this.#known.values()) dispatcher.pump();
  }

  close(): void {
    for (const { dispatcher } of this.#known.values()) dispatcher.close();
  }
}
