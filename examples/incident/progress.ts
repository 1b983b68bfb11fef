import type { Tally } from "./messages.js";

/** Says what happens now: in one line that changes on a terminal, in a line for each thing elsewhere. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  #title = "";
  #now = "";
  #tally: Tally | undefined;
  #beganMs = 0;
  #ticker: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  begin(title: string): void {
    this.#title = title;
    this.#tally = undefined;
    this.#beganMs = Date.now();
    if (this.#out.isTTY) this.#ticker = setInterval(() => this.#draw(), 100);
  }

  says(what: string): void {
    this.#now = what;
    if (this.#out.isTTY) this.#draw();
    else this.#out.write(`${this.#title} · ${what}\n`);
  }

  counts(tally: Tally): void {
    this.#tally = tally;
  }

  /** Ends the line. Also when something went wrong, so that an error stands on a line of its own. */
  end(): void {
    clearInterval(this.#ticker);
    if (this.#title !== "" && this.#out.isTTY) this.#out.write("\r\x1b[2K");
    this.#title = "";
  }

  #draw(): void {
    const seconds = ((Date.now() - this.#beganMs) / 1_000).toFixed(0).padStart(2);
    const line = `${seconds} s · ${this.#title} · ${this.#now}${this.#sums()}`;
    this.#out.write(`\r\x1b[2K${line.slice(0, (this.#out.columns || 80) - 1)}`);
  }

  #sums(): string {
    if (this.#tally === undefined) return "";
    const { sent, ok, shed, failed } = this.#tally;
    return ` · ${sent} sent: ${ok} ok, ${shed} shed, ${failed} failed`;
  }
}
