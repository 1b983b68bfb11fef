import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AttributeValue, CallsView, SpanView } from "../../../src/viewer/api.js";
import { type TraceViewer, traceViewer } from "../../../src/viewer/trace-viewer.js";
import { filterOf, matches } from "../../../viewer-page/src/calls/filter.js";
import { inBrowser, textsOf } from "./page-scene.js";
import { sceneSpans, traceIdOf } from "./page-scenes.js";

let viewer: TraceViewer;

beforeEach(async () => {
  viewer = await traceViewer({ port: 0, otlp: { grpcPort: 0, httpPort: 0 } });
});

afterEach(() => viewer.close());

const kinds = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 } as const;
const statuses = { unset: 0, ok: 1, error: 2 } as const;

function otlpValue(value: AttributeValue): object {
  if (typeof value === "boolean") return { boolValue: value };
  return typeof value === "number" ? { doubleValue: value } : { stringValue: String(value) };
}

const attributesOf = (attributes: SpanView["attributes"]) =>
  Object.entries(attributes).map(([key, value]) => ({ key, value: otlpValue(value) }));

const nanosOf = (ms: number) => String(BigInt(Math.round(ms * 1_000)) * 1_000n);

/** Sends spans as a process with an OTLP exporter does, each service by itself. */
async function send(spans: readonly SpanView[]): Promise<void> {
  for (const name of new Set(spans.map(({ service }) => service))) {
    const own = spans.filter(({ service }) => service === name);
    const body = {
      resourceSpans: [
        {
          resource: { attributes: attributesOf({ "service.name": name }) },
          scopeSpans: [
            {
              scope: { name: "grpc-weir" },
              spans: own.map((span) => ({
                traceId: span.traceId,
                spanId: span.spanId,
                parentSpanId: span.parentSpanId ?? "",
                name: span.name,
                kind: kinds[span.kind],
                startTimeUnixNano: nanosOf(span.startMs),
                endTimeUnixNano: nanosOf(span.endMs),
                status: { code: statuses[span.status] },
                attributes: attributesOf(span.attributes),
                events: span.events.map((event) => ({
                  name: event.name,
                  timeUnixNano: nanosOf(event.atMs),
                  attributes: attributesOf(event.attributes),
                })),
              })),
            },
          ],
        },
      ],
    };
    const response = await fetch(`${viewer.otlp?.http}/v1/traces`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    expect(response.status).toBe(200);
  }
}

inBrowser("the page of a real viewer", (scene) => {
  it("shows calls as they are received, and their traces", async () => {
    const page = await scene.open("#/calls", {}, viewer.url);
    await page.getByText("No calls yet.").waitFor();
    await page.locator(".connection-live").waitFor();
    await send(sceneSpans(7));
    const call = page.locator(".call-rows [role=row]").filter({ hasText: "from web" });
    await call.waitFor();
    await call.click();
    await page.waitForURL(`**/#/trace/${traceIdOf(7)}?span=*`);
    const said = page.getByRole("list", { name: "What happened" }).getByRole("listitem");
    await said.first().waitFor();
    expect(await textsOf(said)).toEqual([
      "OK in 486 ms",
      "2 attempts: UNAVAILABLE (transport) after 26 ms, retried after 64 ms, OK in 373 ms",
      "Waited 21 ms for a connection, 64 ms between attempts",
    ]);
    expect(await page.locator(".span-rows [role=row]").count()).toBe(19);
  });
});

describe("the filter of the page", () => {
  it.each([
    "",
    "method=PRICES",
    "method=shop.v1.Checkout%2FPlace&status=OK",
    "status=DEADLINE_EXCEEDED",
    "priority=critical",
    "policy=breaker",
    "reason=LOAD_SHED",
    "service=orders",
    "minMs=100",
    "q=quote&minMs=1000",
    "q=breaker_open",
    `q=${traceIdOf(4)}`,
  ])("and that of the server find the same calls with %j", async (query) => {
    for (let index = 0; index < 12; index += 1) await send(sceneSpans(index));
    const ask = async (search: string): Promise<CallsView> => {
      const response = await fetch(`${viewer.url}/api/calls?limit=1000&${search}`);
      return JSON.parse(await response.text());
    };
    const all = await ask("");
    const filter = filterOf(new URLSearchParams(query));
    const found = all.calls.filter((call) => matches(call, filter));
    expect(found).not.toEqual([]);
    expect((await ask(query)).calls).toEqual(found);
  });
});
