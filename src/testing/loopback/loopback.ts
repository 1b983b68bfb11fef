import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import {
  type Client,
  type ClientOptions,
  credentials,
  InterceptingCall,
  type Interceptor,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { systemClock, systemRandom } from "../../core/clock.js";
import type { ClientConstructor, Link, LinkSetup, Transport } from "../transport.js";

/**
 * Connects clients and servers over TCP on 127.0.0.1, on free ports and without TLS. Time and chance are those of the
 * process.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export function loopbackTransport(): Transport {
  return {
    name: "loopback",
    clock: systemClock,
    random: systemRandom,
    open: (setup) => LoopbackLink.open(setup),
  };
}

class LoopbackLink implements Link {
  readonly #setup: LinkSetup;
  readonly #inFlight = new OpenCalls();
  readonly #server: Server;
  readonly #listener: NetServer;
  readonly #sockets = new Set<Socket>();
  readonly #clients: Client[] = [];
  #address = "";

  static async open(setup: LinkSetup): Promise<LoopbackLink> {
    const link = new LoopbackLink(setup);
    await link.#listen();
    return link;
  }

  private constructor(setup: LinkSetup) {
    if (setup.clientOptions?.interceptor_providers !== undefined) {
      throw new TypeError("loopback: interceptor_providers are not supported, give interceptors");
    }
    this.#setup = setup;
    this.#server = new Server({
      ...setup.serverOptions,
      interceptors: [this.#inFlight.server, ...(setup.serverInterceptors ?? [])],
    });
    this.#server.addService(setup.service, setup.implementation);
    // The listener is not that of grpc-js, because a crash has to cut the sockets: a server of grpc-js that is shut down
    // sends a GOAWAY first.
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      injector.injectConnection(socket);
    });
  }

  client<C extends Client>(make: ClientConstructor<C>): C {
    const client = new make(this.#address, credentials.createInsecure(), {
      // Ports are reused, so the subchannel of another link must not serve this client.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
      ...this.#setup.clientOptions,
      ...this.#counted(this.#setup.clientOptions),
    });
    this.#clients.push(client);
    return client;
  }

  async pass(ms: number): Promise<void> {
    await wait(ms);
  }

  async until<T>(promise: Promise<T>, limitMs = 10_000): Promise<T> {
    const limit = new AbortController();
    const late = wait(limitMs, undefined, { signal: limit.signal }).then(() => {
      throw new Error(`loopback: not settled within ${limitMs} ms`);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      late.catch(() => {}); // the abort below rejects it
      limit.abort();
    }
  }

  async crash(): Promise<void> {
    const closed = this.#stopListening();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#server.forceShutdown();
    await closed;
  }

  inFlight(): number {
    return this.#inFlight.total;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    const closed = this.#stopListening();
    this.#server.forceShutdown();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Appends the counter to the interceptors of the client, and to those of a single call, which replace them. */
  #counted(options: ClientOptions | undefined): ClientOptions {
    const { client: counter } = this.#inFlight;
    const transform = options?.callInvocationTransformer;
    return {
      interceptors: [...(options?.interceptors ?? []), counter],
      callInvocationTransformer: (given) => {
        const properties = transform?.(given) ?? given;
        const own = properties.callOptions.interceptors ?? [];
        if (own.length === 0) return properties;
        return {
          ...properties,
          callOptions: { ...properties.callOptions, interceptors: [...own, counter] },
        };
      },
    };
  }

  async #listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once("error", reject);
      this.#listener.listen(0, "127.0.0.1", resolve);
    });
    const { port } = this.#listener.address() as AddressInfo;
    this.#address = `127.0.0.1:${port}`;
  }

  async #stopListening(): Promise<void> {
    if (!this.#listener.listening) return;
    await new Promise<void>((resolve) => {
      this.#listener.close(() => resolve());
    });
  }
}

/** Counts the calls that have started and not ended, on both sides of a link. */
class OpenCalls {
  #client = 0;
  #server = 0;

  /** Calls in progress. A call that has reached the server counts twice, once on each side. */
  get total(): number {
    return this.#client + this.#server;
  }

  /** Belongs innermost, so that it sees what goes over the wire. */
  readonly client: Interceptor = (options, nextCall) => {
    let open = false;
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        open = true;
        this.#client += 1;
        next(metadata, {
          onReceiveStatus: (status, forward) => {
            if (open) this.#client -= 1;
            open = false;
            forward(status);
          },
        });
      },
    });
  };

  /** Belongs nearest to the wire, first in the list of the server. */
  readonly server: ServerInterceptor = (_method, call) => {
    let open = false;
    let answered = false;
    return new ServerInterceptingCall(call, {
      start: (next) => {
        // An interceptor may answer before it starts the call. Then grpc-js never calls this listener, so that the end of
        // the call would not be counted.
        open = !answered;
        if (open) this.#server += 1;
        next({
          onCancel: () => {
            if (open) this.#server -= 1;
            open = false;
          },
        });
      },
      sendStatus: (status, next) => {
        answered = true;
        next(status);
      },
    });
  };
}
