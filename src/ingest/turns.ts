/** A few may go at once, the others wait in line: what each of them costs is then bounded in all. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  get isWanted(): boolean {
    return this.#waiting.length > 0;
  }

  /** Resolves when it is this one's turn, with the function that ends it; calling that again changes nothing. */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    };
  }
}
