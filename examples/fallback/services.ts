// What the example talks about: a page of a shop, and the service that recommends things for it.
import {
  type CallOptions,
  type Client,
  type ClientUnaryCall,
  type handleUnaryCall,
  type Metadata,
  makeClientConstructor,
  type ServiceDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";

export interface Shopper {
  readonly name: string;
}

export interface Items {
  readonly items: readonly string[];
}

export type ListItems = handleUnaryCall<Shopper, Items>;

/** A client with the one method that both services have. */
export interface ItemsClient extends Client {
  list(
    request: Shopper,
    metadata: Metadata,
    options: CallOptions,
    done: (error: ServiceError | null, response: Items | undefined) => void,
  ): ClientUnaryCall;
}

const list = { requestType: "Shopper", responseType: "Items", comment: "" };
const definition = fromJSON(
  {
    nested: {
      fallback: {
        nested: {
          Shopper: { fields: { name: { type: "string", id: 1 } } },
          Items: { fields: { items: { rule: "repeated", type: "string", id: 1 } } },
          Page: { methods: { List: list } },
          Recommendations: { methods: { List: list } },
        },
      },
    },
  },
  { arrays: true },
);

export const pageService = definition["fallback.Page"] as ServiceDefinition;
export const recommendationsService = definition["fallback.Recommendations"] as ServiceDefinition;
export const PageClient = makeClientConstructor(pageService, "Page");
export const RecommendationsClient = makeClientConstructor(
  recommendationsService,
  "Recommendations",
);
