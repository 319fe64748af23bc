/**
 * What the door takes, in one place. Clients count differently (32,000 to 32,768 bytes an event, 475,000 to
 * 512,000 a batch, RudderStack's Python up to 4 MB), so every limit leaves slack above theirs: an SDK that
 * keeps its own limit never meets ours. docs/limits.md shows these numbers; a test compares.
 */

/** Bytes of one event, as stored. */
export const maxEventBytes = 40_960;
/** Bytes of a request body, as sent and again after decompression. */
export const maxBodyBytes = 5_242_880;
/** Events in one batch. */
export const maxBatchEvents = 2_500;
/** Levels of nesting, the body's own object included. */
export const maxDepth = 210;
/** Keys of one event, nested ones included. */
export const maxKeys = 11_000;
/** Characters of a key. */
export const maxKeyLength = 8_192;
/** Characters of a text inside an event. */
export const maxStringLength = 36_864;
/** UTF-8 bytes of a messageId. */
export const maxMessageIdBytes = 255;
/** Characters of a userId, anonymousId, groupId or previousId. */
export const maxIdLength = 512;
/** Characters of an event name. */
export const maxEventNameLength = 1_024;
/** Events and bytes waiting for their commit in one process; above either the answer is 503. */
export const maxQueuedEvents = 20_000;
export const maxQueuedBytes = 67_108_864;
