// What the example talks about: a page of a shop, and the service that recommends things for it. Messages are JSON.
import {
  type Client,
  credentials,
  type handleUnaryCall,
  type MethodDefinition,
  makeClientConstructor,
  type ServiceDefinition,
  type ServiceError,
} from "@grpc/grpc-js";

export interface Shopper {
  readonly name: string;
}

export interface Items {
  readonly items: readonly string[];
}

export type ListItems = handleUnaryCall<Shopper, Items>;

function service(name: string): ServiceDefinition {
  const write = (message: unknown) => Buffer.from(JSON.stringify(message));
  const list: MethodDefinition<unknown, unknown> = {
    path: `/${name}/List`,
    requestStream: false,
    responseStream: false,
    requestSerialize: write,
    responseSerialize: write,
    requestDeserialize: (bytes) => JSON.parse(bytes.toString()),
    responseDeserialize: (bytes) => JSON.parse(bytes.toString()),
  };
  return { list };
}

export const pageService = service("shop.Page");
export const recommendationsService = service("shop.Recommendations");

/** A client with the one method that both services have. */
export interface ItemsClient extends Client {
  list(request: Shopper, done: (error: ServiceError | null, response: Items) => void): unknown;
}

/** @param options Those of the client, from `weir.client()`. */
export function itemsClient(of: ServiceDefinition, target: string, options: object): ItemsClient {
  const Items = makeClientConstructor(of, "Items");
  return new Items(target, credentials.createInsecure(), options) as unknown as ItemsClient;
}
