// The client of Pub/Sub, which google-gax makes, with the toolkit, against a server of grpc-js that fails. Prints what became
// of its calls as JSON.
import { fileURLToPath } from "node:url";
import { v1 } from "@google-cloud/pubsub";
import {
  type ChannelCredentials,
  type ClientOptions,
  credentials,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createWeir } from "grpc-weir";

// Nobody is asked who this program is.
process.env.METADATA_SERVER_DETECTION = "none";

const includeDirs = ["@google-cloud/pubsub", "google-gax"].map((name) =>
  fileURLToPath(new URL(`../node_modules/${name}/build/protos`, import.meta.url)),
);
const definition = loadSync("google/pubsub/v1/pubsub.proto", { includeDirs });
const publisherService = definition["google.pubsub.v1.Publisher"] as ServiceDefinition;

/** How many calls the server fails before it answers, and how many have come. */
let failures = 0;
let calls = 0;
let deadlineMs = 0;
const server = new Server();
server.addService(publisherService, {
  getTopic(
    call: { request: { topic: string }; getDeadline(): Date | number },
    callback: (error: object | null, response?: object) => void,
  ) {
    calls += 1;
    deadlineMs = Number(call.getDeadline()) - Date.now();
    if (calls <= failures) callback({ code: status.UNAVAILABLE, details: "not now" });
    else callback(null, { name: call.request.topic });
  },
});
const port = await new Promise<number>((resolve, reject) => {
  server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
    error === null ? resolve(bound) : reject(error),
  );
});

const weir = createWeir();
// #region client
// google-gax retries by itself, outside of the policies: here it does not.
const policy = {
  retry: { maxAttempts: 3 },
  breaker: { consecutiveFailures: 4 },
  methods: { "google.pubsub.v1.Publisher/GetTopic": { retry: { idempotent: true } } },
};
const publisher = new v1.PublisherClient({
  apiEndpoint: "127.0.0.1",
  port,
  projectId: "project",
  sslCreds: credentials.createInsecure(),
  "grpc.channelFactoryOverride": (
    target: string,
    channelCredentials: ChannelCredentials,
    options: ClientOptions,
  ) => weir.channel(target, channelCredentials, policy, options),
});
const noRetry = { retry: { retryCodes: [] }, timeout: 5_000 };
// #endregion

async function getTopic(): Promise<unknown> {
  calls = 0;
  try {
    const [topic] = await publisher.getTopic({ topic: "projects/p/topics/t" }, noRetry);
    return { name: topic.name, calls };
  } catch (error) {
    // google-gax makes an error of its own, without the metadata: the reason stands at the end of the details.
    const { code, details } = error as { readonly code: number; readonly details: string };
    return { code, reason: /\[(\w+)\]$/.exec(details)?.[1], calls };
  }
}

failures = 1;
const retried = await getTopic();
const deadline = deadlineMs > 3_000 && deadlineMs <= 5_000;
failures = 100;
const failed = await getTopic();
await getTopic();
const refused = await getTopic();
await publisher.close();
server.forceShutdown();
weir.close();
console.log(JSON.stringify({ retried, deadline, failed, refused }));
