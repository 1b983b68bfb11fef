import { status as Status } from "@grpc/grpc-js";
import type { Attributes } from "@opentelemetry/api";
import { type Priority, priorities, priorityRank } from "../core/priority.js";
import type { StatusOrigin } from "../core/status.js";
import type { AttemptRecord } from "../grpc/context/call-record.js";
import {
  canonicalTarget,
  conventional,
  grpcSystem,
  own,
  rpcMethod,
  serverAttributes,
  statusName,
} from "./attributes.js";
import { grpcLabels, measured } from "./metrics-instruments.js";
import { type Cell, Tally } from "./metrics-tally.js";
import { serverErrors } from "./server-spans.js";

/** Where the status of an attempt came from. `superseded`: another attempt decided the call, and this one was cancelled. */
export type AttemptOrigin = StatusOrigin | "superseded";

/** How many methods of a server, and methods of targets of all clients, have series of their own. */
const mostPlaces = 500;
/** The method of all further ones, as the semantic conventions name it, and their target. */
const others = "_OTHER";
/** The codes that gRPC has, and one place more. */
const codes = 17;

/** The methods that calls were made to, and those that were served, with their counters. */
export class Places {
  readonly calls = new Tally();
  readonly attempts = new Tally();
  readonly degraded = new Tally();
  readonly grpcAttemptStarted = new Tally();
  readonly grpcServerStarted = new Tally();
  readonly #clients = new Map<string, Map<string, Place>>();
  readonly #servers = new Map<string, Place>();
  #clientCount = 0;

  /** @param path Of a method that a client calls. */
  client(target: string, path: string): Place {
    return this.#clients.get(target)?.get(path) ?? this.#newClient(target, path);
  }

  /** @param path Of a method that a server serves. */
  server(path: string): Place {
    return this.#servers.get(path) ?? this.#newServer(path);
  }

  #newClient(target: string, path: string): Place {
    const full = this.#clientCount >= mostPlaces;
    if (full && path !== others) return this.client(others, others);
    this.#clientCount += 1;
    const place = new Place(this, path, target);
    const known = this.#clients.get(target) ?? new Map<string, Place>();
    this.#clients.set(target, known.set(path, place));
    return place;
  }

  #newServer(path: string): Place {
    if (this.#servers.size >= mostPlaces && path !== others) return this.server(others);
    const place = new Place(this, path, undefined);
    this.#servers.set(path, place);
    return place;
  }
}

/** The series of one method, on a client of one method of one target. A call finds them by numbers, and hashes no attributes. */
export class Place {
  /** The attributes of gRFC A66, without the status. */
  readonly grpc: Attributes;
  /** Those of the semantic conventions, without the status. */
  readonly #conventional: Attributes;
  /** Those of the toolkit's counters. */
  readonly #own: Attributes;
  readonly #places: Places;
  readonly #failed: (code: Status) => boolean;
  readonly #durations: Attributes[] = [];
  readonly #grpcDurations: Attributes[] = [];
  readonly #calls: Cell[] = [];
  readonly #attempts = new Map<AttemptOrigin, Cell[]>();
  #degraded: Cell | undefined;
  #started: Cell | undefined;

  /** @param target Of a client; `undefined` on a server. */
  constructor(places: Places, path: string, target: string | undefined) {
    this.#places = places;
    const method = rpcMethod(path);
    const server = target === undefined ? {} : serverAttributes(target);
    const side = target === undefined ? "server" : "client";
    this.#failed = target === undefined ? (code) => serverErrors.has(code) : failedCall;
    this.#conventional = {
      [conventional.systemName]: grpcSystem,
      [conventional.method]: method,
      ...server,
    };
    this.#own = { [measured.side]: side, [conventional.method]: method, ...server };
    this.grpc = { [grpcLabels.method]: method === others ? "other" : method };
    if (target !== undefined) this.grpc[grpcLabels.target] = canonicalTarget(target);
  }

  /** The attributes of the duration of a call. */
  duration(given: number): Attributes {
    const code = knownCode(given);
    const present = this.#durations[code];
    if (present !== undefined) return present;
    const name = statusName(code);
    const attributes: Attributes = { ...this.#conventional, [conventional.statusCode]: name };
    if (this.#failed(code)) attributes[conventional.errorType] = name;
    this.#durations[code] = Object.freeze(attributes);
    return attributes;
  }

  /** The same by gRFC A66. */
  grpcDuration(given: number): Attributes {
    const code = knownCode(given);
    const present = this.#grpcDurations[code];
    if (present !== undefined) return present;
    const attributes = { ...this.grpc, [grpcLabels.status]: statusName(code) };
    this.#grpcDurations[code] = Object.freeze(attributes);
    return attributes;
  }

  /** Counts a call that has ended. */
  ended(priority: Priority | undefined, given: number): void {
    const code = knownCode(given);
    const rank = priority === undefined ? priorities.length : priorityRank[priority];
    const index = rank * codes + code;
    const cell = this.#calls[index] ?? this.#newCall(index, priority, code);
    cell.value += 1;
  }

  /** Counts a call that has ended with a degraded answer. */
  endedDegraded(): void {
    this.#degraded ??= this.#places.degraded.cell(this.#own);
    this.#degraded.value += 1;
  }

  /** Counts an attempt that was sent and has ended. */
  attempted(cause: AttemptRecord["cause"], origin: AttemptOrigin, given: number): void {
    const code = knownCode(given);
    const index = causes[cause] * codes + code;
    let cells = this.#attempts.get(origin);
    if (cells === undefined) {
      cells = [];
      this.#attempts.set(origin, cells);
    }
    let cell = cells[index];
    if (cell === undefined) {
      cell = this.#places.attempts.cell({
        ...this.#own,
        [own.attemptCause]: cause,
        [own.attemptOrigin]: origin,
        [conventional.statusCode]: statusName(code),
      });
      cells[index] = cell;
    }
    cell.value += 1;
  }

  /** Counts by the names of gRFC A66 an attempt, or on a server a call, that is about to start. */
  started(tally: Tally): void {
    this.#started ??= tally.cell(this.grpc);
    this.#started.value += 1;
  }

  #newCall(index: number, priority: Priority | undefined, code: Status): Cell {
    const attributes: Attributes = { ...this.#own, [conventional.statusCode]: statusName(code) };
    if (priority !== undefined) attributes[measured.priority] = priority;
    const cell = this.#places.calls.cell(attributes);
    this.#calls[index] = cell;
    return cell;
  }
}

const causes = { first: 0, retry: 1, hedge: 2 } as const satisfies Record<
  AttemptRecord["cause"],
  number
>;

function failedCall(code: Status): boolean {
  return code !== Status.OK;
}

/** A code that gRPC does not know counts as UNKNOWN, so that a peer cannot make series. */
function knownCode(code: number): Status {
  return Number.isInteger(code) && code >= 0 && code < codes ? code : Status.UNKNOWN;
}
