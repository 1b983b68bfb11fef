import {
  type CallOptions,
  InterceptingCall,
  type Interceptor,
  Metadata,
  Server,
  ServerCredentials,
  status as Status,
} from "@grpc/grpc-js";
import {
  type ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import {
  type Ended,
  type HandlerCall,
  handlers,
  kinds,
  type Method,
  startCall,
} from "../../scene.js";

/** A server that comes back at its own address after every restart. */
export class RestartingServer {
  restarts = 0;
  #server: Server | undefined;
  #port = 0;
  readonly #behave: (call: HandlerCall, answer: () => void) => void;

  constructor(behave: (call: HandlerCall, answer: () => void) => void) {
    this.#behave = behave;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const server = new Server();
    server.addService(ConformanceServiceService, handlers(this.#behave));
    const credentials = ServerCredentials.createInsecure();
    this.#port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(this.address, credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
    this.#server = server;
  }

  /** With a goodbye, which lets calls end and refuses new ones, or without. */
  async stop(gentleMs: number): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    if (gentleMs > 0) {
      const ended = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      await Promise.race([ended, sleep(gentleMs)]);
    }
    server.forceShutdown();
    this.#server = undefined;
  }

  async restart(gentleMs: number, downMs: number): Promise<void> {
    await this.stop(gentleMs);
    await sleep(downMs);
    await this.start();
    this.restarts += 1;
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Stands outside the toolkit, as a user's interceptor does, and counts how often calls start and end. */
export class EndCounter {
  running = 0;
  ended = 0;
  /** Ends of calls that had ended, and anything else that came behind an end. */
  strays = 0;

  readonly interceptor: Interceptor = (options, nextCall) => {
    let over = false;
    const then = () => {
      if (over) this.strays += 1;
    };
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        this.running += 1;
        next(metadata, {
          onReceiveMetadata: (received, forward) => {
            then();
            forward(received);
          },
          onReceiveMessage: (message, forward) => {
            then();
            forward(message);
          },
          onReceiveStatus: (status, forward) => {
            then();
            over = true;
            this.running -= 1;
            this.ended += 1;
            forward(status);
          },
        });
      },
    });
  };
}

/** What a call was to be, and what became of it. */
export interface Outcome extends Ended {
  readonly method: Method;
  /** How much later than its deadline it ended; negative when in time. */
  readonly lateMs: number;
}

/** Makes calls of all kinds, one after another, until it is time to stop. */
export async function caller(
  client: ConformanceServiceClient,
  untilMs: number,
  random: () => number,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  while (performance.now() < untilMs) {
    const method = kinds[Math.floor(random() * kinds.length)] ?? "unary";
    const forMs = 200 + Math.floor(random() * 1_000);
    const dueMs = performance.now() + forMs;
    const options: CallOptions = { deadline: Date.now() + forMs };
    const call = startCall(client, method, options, new Metadata());
    const stop = random() < 0.05 ? setTimeout(call.cancel, random() * 30) : undefined;
    const ended = await call.ended;
    clearTimeout(stop);
    outcomes.push({ ...ended, method, lateMs: performance.now() - dueMs });
    // Callers that are refused at once would else do nothing but ask.
    await sleep(random() * 5);
  }
  return outcomes;
}

/** Whether an OK brought the whole answer, in order. */
export function whole({ code, method, received }: Outcome): boolean {
  return code !== Status.OK || received.join() === (method === "unary" ? "3" : "1,2,3");
}
