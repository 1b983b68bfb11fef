import { credentials } from "@grpc/grpc-js";
import { type ClientPolicy, createWeir, type MethodName } from "grpc-weir";
import { describe, expect, expectTypeOf, it } from "vitest";
import type {
  OrdersServiceClient,
  OrdersServiceService,
} from "../../examples/gen/demo/shop/v1/orders.js";
import { ConformanceServiceService } from "../../src/gen/weir/v1/conformance.js";

type Orders =
  | "demo.shop.v1.OrdersService"
  | "demo.shop.v1.OrdersService/PlaceOrder"
  | "demo.shop.v1.OrdersService/PriceQuotes"
  | "/demo.shop.v1.OrdersService/PlaceOrder"
  | "/demo.shop.v1.OrdersService/PriceQuotes";

/** As ts-proto's `outputServices=generic-definitions` and `nice-grpc` make it, which say `as const`. */
interface Generic {
  readonly name: "OrdersService";
  readonly fullName: "demo.shop.v1.OrdersService";
  readonly methods: {
    readonly placeOrder: { readonly name: "PlaceOrder"; readonly requestStream: false };
    readonly priceQuotes: { readonly name: "PriceQuotes"; readonly requestStream: true };
  };
}

/** As proto-loader-gen-types makes it. */
interface ProtoGrpcType {
  readonly demo: {
    readonly shop: {
      readonly v1: {
        readonly PlaceOrderRequest: { readonly format: string; readonly type: object };
        readonly OrdersService: (new () => OrdersServiceClient) & {
          readonly service: LoadedDefinition;
        };
      };
    };
  };
}

interface LoadedDefinition {
  readonly [name: string]: { readonly path: string };
  readonly PlaceOrder: { readonly path: string };
  readonly PriceQuotes: { readonly path: string };
}

const weir = createWeir();
const retry = false;

describe("the names of methods", () => {
  it("are those of the generated type of a service", () => {
    expectTypeOf<MethodName<typeof OrdersServiceService>>().toEqualTypeOf<Orders>();
    expectTypeOf<MethodName<{ service: typeof OrdersServiceService }>>().toEqualTypeOf<Orders>();
    expectTypeOf<MethodName<Generic>>().toEqualTypeOf<Orders>();
    expectTypeOf<MethodName<ProtoGrpcType>>().toEqualTypeOf<Orders>();
    expectTypeOf<MethodName<Generic | typeof ConformanceServiceService>>().toEqualTypeOf<
      Orders | MethodName<typeof ConformanceServiceService>
    >();
    expect(weir.client<Generic>().interceptors).toHaveLength(1);
  });

  it("are any text without a type, and for one that does not hold them", () => {
    expectTypeOf<MethodName>().toEqualTypeOf<string>();
    expectTypeOf<MethodName<{ get: { path: string } }>>().toEqualTypeOf<string>();
    const policy: ClientPolicy = { methods: { "a.B/C": { retry } } };
    const all = [policy, { methods: { "a.B/C": { retry } } } as const, {}, undefined];

    expect(all.map((each) => weir.client(each).interceptors?.length)).toEqual([1, 1, 1, 1]);
  });

  it("are checked where options are given, while compiling", () => {
    const options = weir.client<typeof OrdersServiceService>({
      deadline: { defaultMs: 1_000 },
      methods: {
        "demo.shop.v1.OrdersService": { retry },
        "demo.shop.v1.OrdersService/PlaceOrder": { retry },
        // @ts-expect-error There is no such method.
        "demo.shop.v1.OrdersService/PlaceOrders": { retry },
      },
    });
    const channel = weir.channel<typeof OrdersServiceService>(
      "localhost:1",
      credentials.createInsecure(),
      {
        methods: {
          "/demo.shop.v1.OrdersService/PriceQuotes": { retry },
          // @ts-expect-error There is no such service.
          "demo.shop.v1.OrderService": { retry },
        },
      },
    );
    channel.close();
    const { unary } = ConformanceServiceService;
    const byPath = weir.client<typeof ConformanceServiceService>({
      methods: { [unary.path]: { retry } },
    });

    expect([options, byPath].map(({ interceptors }) => interceptors?.length)).toEqual([1, 1]);
  });

  it("are checked where a server is given options", () => {
    const policy = weir.server<typeof OrdersServiceService>({
      priority: {
        methods: {
          "demo.shop.v1.OrdersService/PlaceOrder": "high",
          // @ts-expect-error There is no such method.
          "demo.shop.v1.OrdersService/Place": "high",
        },
        // @ts-expect-error There is no such service.
        methodDefaults: { "demo.shop.v1.Orders": "low" },
      },
      idempotency: {
        scope: "shared",
        // @ts-expect-error There is no such method.
        methods: { "demo.shop.v1.OrdersService/Orders": {} },
      },
      admission: {},
    });

    expect(policy.interceptors).toHaveLength(1);
  });

  it("are part of the type of a policy, which any client takes", () => {
    const policy: ClientPolicy<OrdersServiceService> = {
      methods: { "demo.shop.v1.OrdersService/PlaceOrder": { retry } },
    };

    expect(weir.client(policy).interceptors).toHaveLength(1);
    expect(weir.client<OrdersServiceService>(policy).interceptors).toHaveLength(1);
  });

  it("are checked, and their options too", () => {
    const wrong = () =>
      weir.client<typeof OrdersServiceService>({
        methods: {
          // @ts-expect-error A policy that there is not.
          "demo.shop.v1.OrdersService/PlaceOrder": { retries: {} },
        },
      });

    expect(wrong).toThrow(/did you mean retry\?/);
  });
});

describe("the codes of an option", () => {
  it("are names of statuses, or numbers", () => {
    expect(weir.client({ retry: { codes: ["UNAVAILABLE", 10] } }).interceptors).toHaveLength(1);
    // @ts-expect-error No code has this name.
    expect(() => weir.client({ retry: { codes: ["UNAVAILABEL"] } })).toThrow(/codes\[0\]/);
  });
});
