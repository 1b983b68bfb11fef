/** What the steps of a call cost the process of a client, in milliseconds of CPU. */
export interface ClientCosts {
  /** To start a call and send its request. */
  readonly send: number;
  /** To read an answer and hand it to the caller. */
  readonly receive: number;
  /** To read a message of a stream. */
  readonly message: number;
  /** To end a call whose deadline has passed, or that is cancelled, and to reset its stream. */
  readonly cancel: number;
}

/** What the steps of a call cost the process of a server, in milliseconds of CPU, besides the handler. */
export interface ServerCosts {
  /** To accept a connection. */
  readonly connect: number;
  /** To read a request and begin its call. */
  readonly accept: number;
  /** To send the answer of the handler. */
  readonly answer: number;
  /** To send a message of a stream. */
  readonly message: number;
  /** To send a refusal before the handler has run. */
  readonly refuse: number;
  /** To end a call that is cancelled or whose deadline has passed. */
  readonly cancel: number;
}

/**
 * The costs of bare grpc-js on Node 24, from `docs/cost.md`: 65 µs for a call on the client, 31 µs for an empty call on the
 * server and 35 µs for a refused one. The bench does not tell the steps apart: how a call's cost is divided among them,
 * and the costs of a connection, of a message of a stream and of a cancelled call, are assumed.
 */
export const bareCosts = {
  client: { send: 0.035, receive: 0.03, message: 0.01, cancel: 0.02 },
  server: {
    connect: 0.3,
    accept: 0.018,
    answer: 0.013,
    message: 0.01,
    refuse: 0.017,
    cancel: 0.01,
  },
} as const satisfies { client: ClientCosts; server: ServerCosts };

/** The same with the toolkit on both sides: 16 µs more on the client, 7 µs more on the server, 5 µs for a refusal. */
export const weirCosts = {
  client: { send: 0.045, receive: 0.036, message: 0.012, cancel: 0.025 },
  server: {
    connect: 0.3,
    accept: 0.022,
    answer: 0.016,
    message: 0.012,
    refuse: 0.018,
    cancel: 0.012,
  },
} as const satisfies { client: ClientCosts; server: ServerCosts };
