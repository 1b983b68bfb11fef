import type { ClientPolicy } from "../src/pipeline/client.js";
import type {
  OptionData,
  PolicySet,
  PolicySource,
  PolicyWatcher,
} from "../src/pipeline/policy-set.js";
import type { ServerPolicy } from "../src/pipeline/server.js";

/** Policies that a test replaces. Their options are those of code, so that functions may be among them. */
export interface Policies {
  readonly client?: ClientPolicy;
  readonly server?: ServerPolicy;
  readonly guards?: PolicySet["guards"];
}

/** A source whose policies a test replaces while calls run. */
export function livePolicies(first: Policies) {
  let watcher: PolicyWatcher | undefined;
  const source: PolicySource = {
    name: "test",
    read: () => setOf(first),
    watch: (given) => {
      watcher = given;
      return () => {
        watcher = undefined;
      };
    },
  };
  return {
    source,
    replace: (next: Policies) => watcher?.newer(() => setOf(next)),
    watched: () => watcher !== undefined,
  };
}

function setOf({ client = {}, server = {}, guards = {} }: Policies): PolicySet {
  const { methods = {}, ...base } = client;
  return {
    client: base,
    methods: methods as PolicySet["methods"],
    server: server as OptionData,
    guards,
    placeOf: () => undefined,
  };
}
