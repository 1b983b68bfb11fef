// What the examples share: a shop of one or two services on free ports of 127.0.0.1.
import {
  type ClientOptions,
  credentials,
  Server,
  ServerCredentials,
  type ServerOptions,
  type ServiceError,
} from "@grpc/grpc-js";
import {
  InventoryServiceClient,
  type InventoryServiceServer,
  InventoryServiceService,
} from "./gen/demo/shop/v1/inventory.js";

export type InventoryHandlers = Partial<
  Pick<InventoryServiceServer, "reserve" | "getStock" | "watchStock" | "importStock">
>;

/** A server that is listening. */
export interface Listening {
  readonly target: string;
  stop(): void;
}

export async function listen(server: Server): Promise<Listening> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { target: `127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}

export function startInventory(
  handlers: InventoryHandlers,
  options: ServerOptions = {},
): Promise<Listening> {
  const server = new Server(options);
  server.addService(InventoryServiceService, handlers);
  return listen(server);
}

export function inventoryClient(
  { target }: Listening,
  options: ClientOptions = {},
): InventoryServiceClient {
  return new InventoryServiceClient(target, credentials.createInsecure(), options);
}

/** The end of a call with a single response, as a promise. */
export function answer<Response>(
  start: (done: (error: ServiceError | null, response: Response) => void) => unknown,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    start((error, response) => (error === null ? resolve(response) : reject(error)));
  });
}
