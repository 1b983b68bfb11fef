import { createServer } from "node:http";
import { setTimeout as wait } from "node:timers/promises";
import { credentials, Metadata, Server, status as Status } from "@grpc/grpc-js";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { createWeir } from "../../../src/weir.js";
import { instruments, prometheusNames } from "../../ops/kit.js";
import { echo } from "../../scene.js";
import { listen } from "../e2e/listen.js";
import { portOf } from "./ports.js";

/** A service of which everything that is measured has happened, and happens again and again until it is stopped. */
export interface BusyService {
  /** Where its metrics are: at `/node` as the exporter of Node.js writes them, at `/collector` by the names of the Collector. */
  readonly port: number;
  stop(): Promise<void>;
}

export async function busyService(): Promise<BusyService> {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const weir = createWeir({
    telemetry: { tracing: false, meterProvider: new MeterProvider({ readers: [exporter] }) },
  });
  const store = weir.guard("store", { bulkhead: { maxConcurrent: 4, maxQueued: 4 } });
  const server = new Server(
    weir.server({
      admission: { limit: 2, maxQueued: 4 },
      brownout: { optional: { extras: {} }, pressure: () => 0.1 },
      quota: { ratePerSecond: 1, mode: "observe" },
    }),
  );
  let served = 0;
  const handlers: ConformanceServiceServer = {
    ...echo,
    unary: (call, callback) => {
      served += 1;
      const number = served;
      if (number % 3 === 0) currentCall()?.degrade("extras");
      store
        .run(() => wait(5))
        .then(() => {
          if (number % 5 === 0) callback({ code: Status.INTERNAL, details: "out of order" });
          else if (number % 7 === 0) callback({ code: Status.UNAVAILABLE, details: "not now" });
          else callback(null, call.request);
        }, callback);
    },
  };
  server.addService(ConformanceServiceService, handlers);
  const target = `127.0.0.1:${await listen(server)}`;

  const connect = (to: string) =>
    new ConformanceServiceClient(
      to,
      credentials.createInsecure(),
      weir.client({
        bulkhead: { maxConcurrent: 16 },
        breaker: { openMs: 100 },
        retry: { idempotent: true, backoff: { baseMs: 5 } },
        throttle: {},
      }),
    );
  const client = connect(target);
  // Nobody listens at port 1: its circuit breaker opens and probes.
  const astray = connect("127.0.0.1:1");

  const call = (by: ConformanceServiceClient, priority: "critical" | "normal" | "low") =>
    new Promise<void>((resolve) => {
      const options = weir.with({ deadline: Date.now() + 1_000 }, { priority });
      by.unary({ sequence: 1, payload: Buffer.alloc(0) }, new Metadata(), options, () => resolve());
    });
  let stopped = false;
  const load = (async () => {
    while (!stopped) {
      const batch = Array.from({ length: 4 }, () => [
        call(client, "critical"),
        call(client, "normal"),
        call(client, "low"),
      ]);
      await Promise.all([...batch.flat(), call(astray, "normal")]);
    }
  })();

  const pages = createServer((request, response) => {
    if (request.url === "/node") {
      exporter.getMetricsRequestHandler(request, response);
      return;
    }
    fetch(`http://127.0.0.1:${portOf(pages)}/node`)
      .then((page) => page.text())
      .then(
        (text) => response.end(byCollectorNames(text)),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));

  return {
    port: portOf(pages),
    async stop() {
      stopped = true;
      await load;
      client.close();
      astray.close();
      server.forceShutdown();
      weir.close();
      pages.closeAllConnections();
      await new Promise((resolve) => pages.close(resolve));
      await exporter.shutdown();
    },
  };
}

/** What the Collector makes of a page of metrics: it adds the units to the names. */
function byCollectorNames(page: string): string {
  let text = page;
  for (const { node, collector } of instruments().map(prometheusNames)) {
    const name = new RegExp(`^(# [A-Z]+ )?${node}(_bucket|_count|_sum)?(?=[ {])`, "gm");
    text = text.replaceAll(name, (_, comment = "", part = "") => comment + collector + part);
  }
  return text;
}
