import { isRecord } from "../core/options.js";
import { answerOf, ask, type ReportError } from "../core/user-code.js";
import type { DemoChange, DemoState } from "./api.js";
import { HttpError, textOf } from "./local-http.js";

/**
 * A demo that the page shows and controls.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface Demo {
  /** How it is now. The viewer asks each second while a page is open, and after each change. */
  state(): DemoState;
  /**
   * Carries out what somebody asked for on the page: a command, or new values of sliders. The names and values are those of
   * sliders in the state. What it throws is shown on the page.
   */
  change(change: DemoChange): void | Promise<void>;
}

const commands = ["start", "stop", "reset"] as const;

/** Asks a demo, and checks what the page sends it. */
export class RunningDemo {
  readonly #demo: Demo;
  readonly #report: ReportError;
  /** The state that pages were told last. */
  #told = "";

  constructor(demo: Demo, report: ReportError) {
    this.#demo = demo;
    this.#report = report;
  }

  /** @throws HttpError when the demo cannot say. */
  state(): DemoState {
    const state = this.#ask();
    if (state === undefined) throw new HttpError(500, "The demo cannot say how it is.");
    return state;
  }

  /** The state, if it is another than at the last time. */
  news(): DemoState | undefined {
    const state = this.#ask();
    if (state === undefined) return undefined;
    const text = JSON.stringify(state);
    if (text === this.#told) return undefined;
    this.#told = text;
    return state;
  }

  /**
   * @param text JSON, as the page sent it.
   * @throws HttpError when it makes no sense, or the demo refuses it.
   */
  async change(text: string): Promise<DemoState> {
    const change = this.#read(text);
    try {
      await answerOf(() => this.#demo.change(change));
    } catch (error) {
      throw new HttpError(400, textOf(error));
    }
    return this.state();
  }

  #ask(): DemoState | undefined {
    return ask(() => this.#demo.state(), readState, undefined, this.#report, "demo.state");
  }

  #read(text: string): DemoChange {
    let sent: unknown;
    try {
      sent = JSON.parse(text);
    } catch {
      throw new HttpError(400, "The body is no JSON.");
    }
    if (!isRecord(sent)) throw new HttpError(400, "A change is an object.");
    const { command: asked } = sent;
    if (asked !== undefined) {
      const command = commands.find((known) => known === asked);
      if (command !== undefined) return { command };
      throw new HttpError(400, `The command is one of ${commands.join(", ")}.`);
    }
    const { sliders } = this.state();
    const values: [string, number][] = Object.entries(sent).map(([name, value]) => {
      const slider = sliders.find((known) => known.name === name);
      if (slider === undefined) throw new HttpError(400, `There is no slider ${name}.`);
      const { min, max } = slider;
      if (typeof value !== "number" || !(value >= min && value <= max)) {
        throw new HttpError(400, `${name} is a number from ${min} to ${max}.`);
      }
      return [name, value];
    });
    return Object.fromEntries(values);
  }
}

/** A state as JSON has it. What JSON cannot say is an error of the demo, and not of who sends the state. */
function readState(answer: unknown): DemoState {
  const state: unknown = JSON.parse(JSON.stringify(answer) ?? "null");
  if (!isState(state)) throw new TypeError("it must answer a state with sliders");
  return state;
}

function isState(answer: unknown): answer is DemoState {
  if (!isRecord(answer)) return false;
  const { sliders } = answer;
  return Array.isArray(sliders);
}
