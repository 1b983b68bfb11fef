import type { MethodSource } from "grpc-weir/client";
import { schemaSource } from "grpc-weir/config";
import { afterAll, describe, expect, it } from "vitest";
import { ofMethods, service, stock, stockFiles } from "../../config/stock-schema.js";

const files = stockFiles();
afterAll(() => files.remove());

describe("the options of a schema", () => {
  it("are in what ts-proto generates of it", { timeout: 120_000 }, async () => {
    const { protoMetadata, StockDefinition } = await files.generated(
      stock,
      "outputServices=grpc-js",
      "outputServices=generic-definitions",
      "outputSchema=true",
    );
    const schema = schemaSource(protoMetadata as MethodSource).read();
    const definition = schemaSource(StockDefinition as MethodSource).read();

    expect(schema.methods).toEqual({ ...ofMethods, "shop.v1.Stock": service });
    expect(schema.server).toHaveProperty(["priority", "methodDefaults", "shop.v1.Stock"], "high");
    // ts-proto leaves the options of services out of definitions.
    expect(definition.methods).toEqual(ofMethods);
    expect(definition.registry.levelOf("shop.v1.Stock/Get")).toBe("no-side-effects");
  });
});
