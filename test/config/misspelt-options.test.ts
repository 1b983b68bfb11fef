import { createWeir, InvalidOptionError } from "grpc-weir";
import * as client from "grpc-weir/client";
import { fileSource, functionSource } from "grpc-weir/config";
import { clientSpans, serverSpans } from "grpc-weir/otel";
import {
  redisAnswerCache,
  redisFlags,
  redisIdempotencyStore,
  redisPolicies,
  redisQuotaStore,
  redisRetryBudgets,
} from "grpc-weir/redis";
import * as server from "grpc-weir/server";
import { traceViewer } from "grpc-weir/viewer";
import { expect, it } from "vitest";

type Give = (options: object) => unknown;

const redis = { run: () => Promise.resolve([]) } as never;

/** What takes options and has no field in the schema of policies. */
const readers: Readonly<Record<string, Give>> = {
  createWeir: (given) => createWeir(given),
  "createWeir.telemetry": (telemetry) => createWeir({ telemetry }),
  "createWeir.history": (history) => createWeir({ history }),
  "deadline alone": (given) => client.deadline(given),
  "timeouts alone": (given) => client.timeouts(given),
  "retry alone": (given) => client.retry(given),
  "breaker alone": (given) => client.breaker(given),
  "throttle alone": (given) => client.throttle(given),
  "client context": (given) => client.context(given),
  "server context": (given) => server.context(given),
  memoryAnswerCache: (given) => client.memoryAnswerCache(given),
  staticValue: (given) => client.staticValue({}, given),
  empty: (given) => client.empty(given),
  value: (given) => client.value(() => 1, given),
  clientSpans: (given) => clientSpans(given),
  serverSpans: (given) => serverSpans(given),
  fileSource: (given) => fileSource("policies.json", given),
  functionSource: (given) => functionSource(() => ({}), given),
  redisAnswerCache: (given) => redisAnswerCache(redis, given),
  redisFlags: (given) => redisFlags(redis, given),
  redisIdempotencyStore: (given) => redisIdempotencyStore(redis, given),
  redisPolicies: (given) => redisPolicies(redis, given),
  redisQuotaStore: (given) => redisQuotaStore(redis, given),
  redisRetryBudgets: (given) => redisRetryBudgets(redis, given),
  traceViewer: (given) => traceViewer(given),
  "traceViewer.limits": (limits) => traceViewer({ limits }),
  "traceViewer.otlp": (otlp) => traceViewer({ otlp }),
};

async function textOf(give: Give, options: object): Promise<string> {
  try {
    await give(options);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidOptionError);
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was taken");
}

it.each(Object.entries(readers))("%s says what was meant by a misspelt option", async (_, give) => {
  const [, list = ""] = /the options are (.*)$/.exec(await textOf(give, { noSuchOption: 1 })) ?? [];
  const names = list.split(", ");

  expect(list).not.toBe("");
  for (const name of names) {
    const wrong = `${name[0]}${name}`;

    expect(await textOf(give, { [wrong]: 1 })).toContain(
      `.${wrong} is not an option; did you mean ${name}?`,
    );
  }
});
