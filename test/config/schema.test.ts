import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { createWeir, InvalidOptionError } from "grpc-weir";
import { describe, expect, it } from "vitest";
import { meaningOf, messageNamed } from "../../src/config/schema.js";
import { problemsOf } from "./documents.js";

type Options = Record<string, unknown>;

/** A message of the schema, with the way to give the policies an object in its place. */
interface Place {
  readonly path: string;
  readonly message: DescMessage;
  readonly give: (options: Options) => void;
}

/** Options that have no field, and why. Everything else that the code takes, the schema has. */
const inCodeOnly: Readonly<Record<string, readonly string[]>> = {
  // The name of one client or server; a document is for all of them. Registries, stores and parts are objects of the program.
  client: ["name", "methods", "idempotency", "parts"],
  server: ["name"],
  // Functions, and objects with methods.
  "client.retry": ["retryStatus", "retryResponse", "resume", "key"],
  "client.retry.budget": ["share"],
  "client.hedge": ["key"],
  "client.idempotencyKey": ["uuid"],
  "client.breaker": ["outcome", "onStateChange"],
  "client.throttle": ["key"],
  "client.rate": ["cost", "store"],
  "client.bulkhead": ["weight", "partition"],
  "client.fallback": ["providers", "key"],
  "client.fallback.staleCache": ["when", "store"],
  "client.faults": ["when", "key"],
  "server.priority": ["trust"],
  "server.admission.priority": ["trust"],
  "server.quota": ["cost", "store"],
  "server.idempotency": ["services", "store", "fingerprint"],
  "server.idempotency.methods": ["fingerprint"],
  "server.bulkhead": ["weight", "partition"],
  "server.admission.pressure": ["signals", "reader"],
  "server.brownout": ["pressure", "flag"],
  "server.faults": ["when", "reset"],
  "guard.breaker": ["countError"],
  "guard.retry": ["retryError"],
  "guard.retry.budget": ["share"],
  "guard.fallback": ["when", "answer", "value"],
};

/** What the policies must have beside the object in question. */
const beside: Readonly<Record<string, Options>> = {
  "client.bulkhead": { partition: String },
  "client.fallback.staleCache": { shared: true },
  "server.bulkhead": { partition: String },
  "server.idempotency": { scope: "shared", methods: { "shop.v1.Stock/Buy": {} } },
};

/** The key of a map whose keys have a form. */
const keys: Readonly<Record<string, string>> = {
  "server.idempotency.methods": "shop.v1.Stock/Buy",
};

function placesIn(place: Place): Place[] {
  const inner = place.message.fields.flatMap((field): Place[] => {
    const { option, word } = meaningOf(field);
    if (field.message === undefined || isDuration(field)) return [];
    const path = `${place.path}.${option}`;
    // Options that are refused before the code looks at the object in question.
    const around =
      field.fieldKind === "map" || /idempotency$|staleCache$/.test(place.path)
        ? (beside[place.path] ?? {})
        : {};
    const wrapped = (options: Options): unknown => {
      if (field.fieldKind === "map") return { [keys[path] ?? "one"]: options };
      if (field.fieldKind === "list") return [options];
      return typeof word === "string" ? { algorithm: word, ...options } : options;
    };
    const give = (options: Options) => place.give({ ...around, [option]: wrapped(options) });
    return placesIn({ path, message: field.message, give });
  });
  return [place, ...inner];
}

function isDuration(field: DescField): boolean {
  return field.message?.typeName === "google.protobuf.Duration";
}

/** The options that the code takes at a place, by its error about one that it does not. */
function namesInCode({ path, give }: Place): string[] {
  try {
    give({ ...beside[path], noSuchOption: 1 });
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    const [, list] = /noSuchOption .*; the options are (.*)$/.exec(error.message) ?? [];
    if (list !== undefined) return list.split(", ");
    throw error;
  }
  throw new Error(`${path} takes any option`);
}

function namesInSchema({ path, message }: Place): string[] {
  if (message.name === "LatencyFault") return ["rate", "ms"];
  if (message.name === "DurationRange") return ["from", "to"];
  return message.fields
    .filter(
      (field) => !(["MethodPolicy", "GuardPolicy"].includes(message.name) && field.name === "name"),
    )
    .map((field) => meaningOf(field).option)
    .concat(path.endsWith(".limit") ? ["algorithm"] : []);
}

const weir = () => createWeir({ telemetry: { metrics: false } });
const places: Place[] = [
  { path: "client", message: messageNamed("ClientPolicy"), give: (o: Options) => weir().client(o) },
  {
    path: "client.methods",
    message: messageNamed("MethodPolicy"),
    give: (o: Options) => weir().client({ methods: { "shop.v1.Stock/Buy": o } }),
  },
  { path: "server", message: messageNamed("ServerPolicy"), give: (o: Options) => weir().server(o) },
  {
    path: "guard",
    message: messageNamed("GuardPolicy"),
    give: (o: Options) => weir().guard("db", o),
  },
].flatMap((root) => {
  // The policies of a method are those of a client, which are looked into once.
  const all = placesIn(root);
  return root.path === "client.methods" ? all.slice(0, 1) : all;
});

describe("the schema", () => {
  it.each(places.map((place) => [place.path, place] as const))(
    "has a field for each option of %s that is data, and no other",
    (path, place) => {
      const code = new Set(namesInCode(place));
      const data = [...code].filter((name) => inCodeOnly[path]?.includes(name) !== true);

      expect([...new Set(namesInSchema(place))].sort()).toEqual(data.sort());
    },
  );

  it("says `off` only of what the code can leave out by `false`", () => {
    let found = 0;
    for (const { message, give, path } of places) {
      for (const field of message.fields) {
        const { option, word } = meaningOf(field);
        if (word !== false) continue;
        found += 1;
        const refused = refusalOf(() => give({ ...beside[path], [option]: false }), option);

        expect(refused, `${path}.${option}`).toBeUndefined();
      }
    }
    expect(found).toBeGreaterThan(40);
  });
});

/** A word as people misspell it: a letter twice, and a capital in the wrong place. */
const misspellings = (word: string) => [
  `${word[0]}${word}`,
  word.slice(0, -1) + (word.at(-1) ?? "").toUpperCase(),
];

/** What an error about options says was meant; the error itself where it says nothing. */
function meantBy(give: () => void): string {
  try {
    give();
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    return /did you mean (\w+)\?/.exec(error.message)?.[1] ?? error.message;
  }
  return "it was taken";
}

describe("an option that is misspelt", () => {
  it.each(places.map((place) => [place.path, place] as const))(
    "in %s is refused, with its path and what was meant",
    (path, place) => {
      for (const name of new Set([...namesInCode(place), ...namesInSchema(place)])) {
        for (const wrong of misspellings(name)) {
          const give = () => place.give({ ...beside[path], [wrong]: 1 });

          expect(meantBy(give), `${path}.${wrong}`).toBe(name);
          expect(give).toThrow(new RegExp(`\\b${wrong} is not an option`));
        }
      }
    },
  );

  it.each(documentPlaces(messageNamed("Policies")))(
    "in %s of a document is refused, with its path and what was meant",
    (_, message, textOf) => {
      for (const { jsonName } of message.fields) {
        for (const wrong of misspellings(jsonName)) {
          const [problem = "none"] = problemsOf(textOf({ [wrong]: 1 }), "policies.json");

          expect(problem).toContain(`${wrong} is not a field`);
          expect(problem).toContain(`(did you mean ${jsonName}?)`);
        }
      }
    },
  );
});

type DocumentPlace = [path: string, message: DescMessage, textOf: (fields: Options) => string];

/** Each message of a document, with the text of a document that has given fields at its place. */
function documentPlaces(
  message: DescMessage,
  path = "",
  textOf: (fields: Options) => string = JSON.stringify,
): DocumentPlace[] {
  const inner = message.fields.flatMap((field) => {
    if (field.message === undefined || isDuration(field)) return [];
    const around = (fields: Options): unknown => {
      if (field.fieldKind === "map") return { one: fields };
      return field.fieldKind === "list" ? [{ ...nameIn(path, field), ...fields }] : fields;
    };
    const place = path === "" ? field.jsonName : `${path}.${field.jsonName}`;
    return documentPlaces(field.message, place, (fields) =>
      textOf({ [field.jsonName]: around(fields) }),
    );
  });
  return [[path === "" ? "the top" : path, message, textOf], ...inner];
}

/** Methods and guards have names. */
function nameIn(path: string, { jsonName }: DescField): Options {
  if (path !== "") return {};
  return { name: jsonName === "methods" ? "shop.v1.Stock/Buy" : "db" };
}

/** The error about an option; `undefined` where there is none, or one about something else. */
function refusalOf(give: () => void, option: string): unknown {
  try {
    give();
    return undefined;
  } catch (error) {
    if (error instanceof InvalidOptionError && !error.option.endsWith(`.${option}`))
      return undefined;
    return error;
  }
}
