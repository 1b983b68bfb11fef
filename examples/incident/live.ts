import type { Demo, DemoChange, DemoState } from "grpc-weir/viewer";
import type { Conditions, Tally } from "./messages.js";
import { phases, usual } from "./script.js";
import { quantile, type Results, sumsOf } from "./table.js";
import { titles, type Way, ways } from "./ways.js";

type Slider = DemoState["sliders"][number];
type Second = DemoState["seconds"][number];
type Counts = DemoState["table"][number]["ways"][string];

/** The values of the sliders: what the callers send, and how inventory is. */
interface Weather {
  /** Calls a second. */
  readonly load: number;
  /** How long a reservation takes, in milliseconds. */
  readonly slowness: number;
  /** Of all reservations, in percent. */
  readonly failures: number;
}

const fair: Weather = {
  load: usual.callsPerSecond,
  slowness: usual.serviceMs,
  failures: 100 * usual.failing,
};

const sliders: readonly (Omit<Slider, "value"> & { readonly name: keyof Weather })[] = [
  { name: "load", label: "Load", unit: "calls/s", min: 0, max: 150, step: 1 },
  { name: "slowness", label: "Inventory takes", unit: "ms", min: 20, max: 1_000, step: 10 },
  { name: "failures", label: "Inventory fails", unit: "%", min: 0, max: 100, step: 1 },
];

/** How many seconds the page can look back on. */
const keptSeconds = 180;
/** Without a change of the sliders, calls end after this time: nobody may be looking any more. */
const unattendedMs = 300_000;

const nothing: Tally = {
  sent: 0,
  ok: 0,
  shed: 0,
  failed: 0,
  endedCritical: 0,
  okCritical: 0,
  servedMs: [],
};

/** What all copies of the services are told when somebody plays with the incident. */
export interface Stage {
  flow(callsPerSecond: number): void;
  become(conditions: Conditions): void;
}

/** The incident as the page of the viewer shows it: while the script is played, and then as its sliders say. */
export class Live implements Demo {
  #phase = "starting";
  #scripted = true;
  #weather = fair;
  #stage: Stage | undefined;
  #flowing = false;
  #ends: NodeJS.Timeout | undefined;
  #seconds: Second[] = [];
  /** Those of the second that runs, and those before it. */
  readonly #latest = new Map<Way, Tally>();
  readonly #before = new Map<Way, Tally>();
  readonly #servedMs = new Map<Way, number[]>();
  #results: Results | undefined;
  readonly #ticker = setInterval(() => this.#second(), 1_000);

  says(phase: string): void {
    this.#phase = phase;
  }

  counts(way: Way, tally: Tally): void {
    this.#latest.set(way, tally);
    const served = this.#servedMs.get(way);
    if (served === undefined) this.#servedMs.set(way, [...tally.servedMs]);
    else served.push(...tally.servedMs);
  }

  /** The script has come to its end. From now on the sliders say what happens. */
  open(results: Results, stage: Stage): void {
    this.#results = results;
    this.#stage = stage;
    this.#scripted = false;
    this.says("the incident is over: move a slider to make another");
  }

  // ---- For the viewer.

  state(): DemoState {
    return {
      title: "An incident, with grpc-weir and without",
      running: this.#scripted || this.#flowing,
      phase: this.#phase,
      sliders: sliders.map((slider) => ({ ...slider, value: this.#weather[slider.name] })),
      ways: ways.map((name) => ({ name, title: titles[name] })),
      seconds: this.#seconds,
      table: phases.map(({ happens }) => ({ phase: happens, ways: this.#countsIn(happens) })),
    };
  }

  change(change: DemoChange): void {
    if (!isCommand(change)) {
      this.#set(change);
      this.#flow(true);
    } else if (change.command === "reset") {
      this.#weather = fair;
      if (!this.#scripted) this.#seconds = [];
      if (this.#flowing) this.#flow(true);
    } else this.#flow(change.command === "start");
  }

  close(): void {
    clearInterval(this.#ticker);
    clearTimeout(this.#ends);
  }

  // ---- Inside.

  #set(values: Readonly<Record<string, number>>): void {
    for (const { name } of sliders) {
      const value = values[name];
      if (value !== undefined) this.#weather = { ...this.#weather, [name]: value };
    }
  }

  /** While the script is played, the sliders wait for its end. */
  #flow(on: boolean): void {
    const stage = this.#stage;
    if (stage === undefined) return;
    const { load, slowness, failures } = this.#weather;
    clearTimeout(this.#ends);
    this.#flowing = on;
    stage.become({ serviceMs: slowness, failing: failures / 100, breaksEveryMs: 0 });
    stage.flow(on ? load : 0);
    this.#phase = on ? "as the sliders say" : "stopped";
    if (!on) return;
    this.#ends = setTimeout(() => this.#flow(false), unattendedMs);
  }

  #second(): void {
    if (this.#latest.size === 0) return;
    const atMs = Date.now();
    const entries = ways.map((way) => [way, this.#sinceLast(way)] as const);
    this.#seconds.push({ atMs, phase: this.#phase, ways: Object.fromEntries(entries) });
    if (this.#seconds.length > keptSeconds) this.#seconds.shift();
  }

  #sinceLast(way: Way): Second["ways"][string] {
    const now = this.#latest.get(way) ?? nothing;
    const before = this.#before.get(way) ?? nothing;
    const served = this.#servedMs.get(way) ?? [];
    this.#before.set(way, now);
    this.#servedMs.set(way, []);
    served.sort((a, b) => a - b);
    return {
      // Those that ended, so that it is a whole of which `ok` is a part.
      sent: ended(now) - ended(before),
      ok: now.ok - before.ok,
      sentCritical: now.endedCritical - before.endedCritical,
      okCritical: now.okCritical - before.okCritical,
      p99Ms: served.length === 0 ? null : quantile(served, 0.99),
    };
  }

  /** As the calls of that part ended; while they are on their way, what became of calls in those seconds. */
  #countsIn(phase: string): Record<string, Counts> {
    return Object.fromEntries(ways.map((way) => [way, this.#countsOf(way, phase)]));
  }

  #countsOf(way: Way, phase: string): Counts {
    const results = this.#results?.[way];
    if (results !== undefined) {
      const { sent, ok } = sumsOf(results, { phase });
      const critical = sumsOf(results, { phase, priority: "critical" });
      return { sent, ok, sentCritical: critical.sent, okCritical: critical.ok };
    }
    const seconds = this.#seconds.filter((second) => second.phase === phase);
    const sum = (count: keyof Counts) =>
      seconds.reduce((total, { ways: of }) => total + (of[way]?.[count] ?? 0), 0);
    return {
      sent: sum("sent"),
      ok: sum("ok"),
      sentCritical: sum("sentCritical"),
      okCritical: sum("okCritical"),
    };
  }
}

function ended({ ok, shed, failed }: Tally): number {
  return ok + shed + failed;
}

type Command = Extract<DemoChange, { readonly command: string }>;

function isCommand(change: DemoChange): change is Command {
  return typeof change.command === "string";
}
