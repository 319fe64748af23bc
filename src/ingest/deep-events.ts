/**
 * Cuts the events that are nested too deep out of a batch, so that they fail no neighbour: the parser must not
 * see them, since what it makes of 2 million brackets is fifty times as large. Only for a body that was found to
 * be too deep; everybody else pays nothing.
 */

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** Levels of an event inside the body: the body's object and the list. */
const around = 2;

interface Cut {
  /** The body with `null` in place of what was cut out. */
  readonly bytes: Buffer;
  /** Place in the batch -> the event's own text. */
  readonly cutOut: ReadonlyMap<number, Buffer>;
}

/** What is too deep outside of the batch, or in a broken document, stays: parsing it says so. */
export function cutDeepEvents(bytes: Buffer, maxDepth: number): Cut {
  const scan = new Scan(bytes, maxDepth);
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === quote) {
      const from = at;
      for (at++; at < bytes.length && bytes[at] !== quote; at++) if (bytes[at] === backslash) at++;
      scan.text(from, at + 1);
    } else if (byte === openBrace || byte === openBracket) scan.open(at, byte);
    else if (byte === closeBrace || byte === closeBracket) scan.close(at);
    else if (byte === comma) scan.comma(at);
  }
  return scan.end();
}

const batchKey = Buffer.from('"batch"');

class Scan {
  readonly #bytes: Buffer;
  readonly #maxDepth: number;
  readonly #parts: Buffer[] = [];
  #cutOut = new Map<number, Buffer>();
  #keptTo = 0;
  #depth = 0;
  /** Of the event that is being looked at. */
  #deepest = 0;
  #inBatch = false;
  #item = 0;
  #itemAt = 0;
  /** The text that stood last in the body's own object: before a list it is the key. */
  #lastText: Buffer = Buffer.alloc(0);

  constructor(bytes: Buffer, maxDepth: number) {
    this.#bytes = bytes;
    this.#maxDepth = maxDepth;
  }

  text(from: number, to: number): void {
    if (this.#depth === 1) this.#lastText = this.#bytes.subarray(from, to);
  }

  open(at: number, byte: number): void {
    this.#deepest = Math.max(this.#deepest, ++this.#depth);
    if (this.#depth !== around || byte !== openBracket || !this.#lastText.equals(batchKey)) return;
    this.#inBatch = true;
    // Of two lists of that name the last one counts, as it does for the parser.
    this.#cutOut = new Map();
    this.#item = this.#deepest = 0;
    this.#itemAt = at + 1;
  }

  close(at: number): void {
    if (this.#depth === around) {
      this.comma(at);
      this.#inBatch = false;
    }
    this.#depth--;
  }

  /** An event ends here, if it is one of the batch's. */
  comma(at: number): void {
    if (!this.#inBatch || this.#depth !== around) return;
    if (this.#deepest > this.#maxDepth) {
      this.#cutOut.set(this.#item, this.#bytes.subarray(this.#itemAt, at));
      this.#parts.push(this.#bytes.subarray(this.#keptTo, this.#itemAt), Buffer.from('null'));
      this.#keptTo = at;
    }
    this.#item++;
    this.#itemAt = at + 1;
    this.#deepest = 0;
  }

  end(): Cut {
    return {
      bytes: Buffer.concat([...this.#parts, this.#bytes.subarray(this.#keptTo)]),
      cutOut: this.#cutOut,
    };
  }
}
