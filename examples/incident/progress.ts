import type { Tally } from "./messages.js";
import { titles, type Way, ways } from "./ways.js";

/** Says what happens now: in one line that changes on a terminal, in a line for each thing elsewhere. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #tallies = new Map<Way, Tally>();
  #now = "";
  #ticker: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  says(what: string): void {
    this.#now = what;
    if (!this.#out.isTTY) {
      this.#out.write(`${what}\n`);
      return;
    }
    this.#ticker ??= setInterval(() => this.#draw(), 100);
    this.#draw();
  }

  counts(way: Way, tally: Tally): void {
    this.#tallies.set(way, tally);
  }

  /** Ends the line. Also when something went wrong, so that an error stands on a line of its own. */
  end(): void {
    if (this.#ticker === undefined) return;
    clearInterval(this.#ticker);
    this.#ticker = undefined;
    this.#out.write("\r\x1b[2K");
  }

  #draw(): void {
    const sums = ways.flatMap((way) => {
      const tally = this.#tallies.get(way);
      return tally === undefined ? [] : [`${titles[way]} ${tally.ok}`];
    });
    const sent = this.#tallies.get("bare")?.sent;
    const counts = sent === undefined ? "" : ` · ${sent} sent, served: ${sums.join(", ")}`;
    const line = `${this.#now}${counts}`;
    this.#out.write(`\r\x1b[2K${line.slice(0, (this.#out.columns || 80) - 1)}`);
  }
}
