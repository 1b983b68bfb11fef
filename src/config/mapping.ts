import type { DescField, DescMessage, ScalarType } from "@bufbuild/protobuf";
import { nearest } from "../core/nearest.js";
import { InvalidOptionError, isRecord, shown } from "../core/options.js";
import { renamedField } from "../core/renamed-options.js";
import type { OptionData } from "../pipeline/policy-set.js";
import { protoDurationMs } from "../pipeline/service-config.js";
import {
  type DocumentPath,
  type PolicyDocument,
  type PolicyProblem,
  pathText,
} from "./document.js";
import { fieldNamed, isBoolean, isDuration, isNumber, meaningOf, messageNamed } from "./schema.js";

/** The options that a document has, with the place of each. */
export interface MappedPolicies {
  readonly client: OptionData;
  readonly methods: Readonly<Record<string, OptionData>>;
  readonly server: OptionData;
  readonly guards: Readonly<Record<string, OptionData>>;
  /** Where in the document each option stands, by the path that errors of the code have for it: `client.retry.maxAttempts`. */
  readonly places: ReadonlyMap<string, DocumentPath>;
  readonly problems: readonly PolicyProblem[];
}

/**
 * Turns a document into options, field by field as the schema has them. It checks names and kinds of values; whether a number
 * is in its range, the policies themselves decide.
 */
export function mapped(document: PolicyDocument): MappedPolicies {
  const reading = new Reading(document);
  const schema = messageNamed("Policies");
  const { value } = document;
  const given = value === null || value === undefined ? {} : value;
  const top = reading.fields(schema, given, []) ?? [];
  let client: OptionData = {};
  let server: OptionData = {};
  const methods: Record<string, OptionData> = {};
  const guards: Record<string, OptionData> = {};
  for (const [field, its, path] of top) {
    if (field.name === "client" && field.message) {
      client = reading.options(field.message, its, path, "client");
    } else if (field.name === "server" && field.message) {
      server = reading.options(field.message, its, path, "server");
    } else if (field.name === "methods" && field.message) {
      for (const { name, item, at } of reading.named(its, path, methodName)) {
        const option = `client.methods["${name}"]`;
        methods[name] = reading.options(field.message, item, at, option, ["name"]);
      }
    } else if (field.name === "guards" && field.message) {
      for (const { name, item, at } of reading.named(its, path, guardName)) {
        guards[name] = reading.options(field.message, item, at, `guard("${name}")`, ["name"]);
      }
    }
  }
  return { client, server, methods, guards, places: reading.places, problems: reading.problems };
}

/**
 * Turns what a schema says in options of services and methods into options of clients and servers, in the same way.
 *
 * @param document By `pkg.Service/Method` and `pkg.Service`.
 */
export function mappedOptions(document: PolicyDocument): MappedPolicies {
  const reading = new Reading(document);
  const methods: Record<string, OptionData> = {};
  const priorities: Record<string, unknown> = {};
  const keys: Record<string, unknown> = {};
  for (const [name, given] of Object.entries(document.value ?? {})) {
    const schema = messageNamed(name.includes("/") ? "MethodOptions" : "ServiceOptions");
    const option = `client.methods["${name}"]`;
    let client: OptionData = {};
    let priority: OptionData = {};
    for (const [field, its, path] of reading.fields(schema, given, [name]) ?? []) {
      if (field.name === "client" && field.message) {
        client = reading.options(field.message, its, path, option);
        if ("name" in client) reading.refuse([...path, "name"], "must be absent");
      } else if (field.name === "idempotency" && field.message) {
        const at = `server.idempotency.methods["${name}"]`;
        keys[name] = reading.options(field.message, its, path, at);
      } else {
        const at = `server.priority.methodDefaults["${name}"]`;
        priority = reading.options(schema, { priority: its }, [name], option);
        reading.places.set(at, path);
        priorities[name] = its;
      }
    }
    methods[name] = { ...priority, ...client };
  }
  const server = {
    ...(Object.keys(priorities).length === 0 ? {} : { priority: { methodDefaults: priorities } }),
    ...(Object.keys(keys).length === 0 ? {} : { idempotency: { methods: keys } }),
  };
  const { places, problems } = reading;
  return { client: {}, methods, server, guards: {}, places, problems };
}

/** Reads a name. An error is a text: what the name must be. */
type ReadName = (given: string) => { readonly name: string } | { readonly rule: string };

const methodName: ReadName = (given) => {
  const [, service, method] = /^\/?(\w+(?:\.\w+)*)\/(\w+|\*)$/.exec(given) ?? [];
  if (service === undefined) return { rule: "pkg.Service/Method or pkg.Service/*" };
  return { name: method === "*" ? service : `${service}/${method}` };
};

const guardName: ReadName = (given) => (given === "" ? { rule: "a name" } : { name: given });

/** One reading of a document. */
class Reading {
  readonly problems: PolicyProblem[] = [];
  readonly places = new Map<string, DocumentPath>();
  readonly #document: PolicyDocument;

  constructor(document: PolicyDocument) {
    this.#document = document;
  }

  /** The fields of an object that are given; `undefined` where it is none. Each choice is taken once. */
  fields(
    schema: DescMessage,
    given: unknown,
    path: DocumentPath,
  ): [DescField, unknown, DocumentPath][] | undefined {
    if (!isRecord(given)) {
      this.#wrong(path, "an object", given);
      return undefined;
    }
    const found: [DescField, unknown, DocumentPath][] = [];
    const chosen = new Map<string, string>();
    for (const [name, value] of Object.entries(given)) {
      const at = [...path, name];
      const field = fieldNamed(schema, name);
      if (field === undefined) {
        this.#unknown(at, name, schema);
        continue;
      }
      // As in the JSON form of protobuf.
      if (value === null || value === undefined) continue;
      const choice = field.oneof?.name ?? field.name;
      const other = chosen.get(choice);
      if (other !== undefined) {
        this.#problem(at, `must be absent where ${other} is given`);
        continue;
      }
      chosen.set(choice, name);
      found.push([field, value, at]);
    }
    return found;
  }

  /** The options of a policy. `option` is their path in the errors of the code. */
  options(
    schema: DescMessage,
    given: unknown,
    path: DocumentPath,
    option: string,
    skip: readonly string[] = [],
  ): Record<string, unknown> {
    this.places.set(option, path);
    const options: Record<string, unknown> = {};
    for (const [field, value, at] of this.fields(schema, given, path) ?? []) {
      if (skip.includes(field.name)) continue;
      const { option: name, word } = meaningOf(field);
      const optionPath = `${option}.${name}`;
      this.places.set(optionPath, at);
      const read = word === undefined ? this.#value(field, value, at, optionPath) : undefined;
      if (word === undefined) {
        if (read !== undefined) options[name] = read;
      } else if (field.message !== undefined) {
        options[name] = { algorithm: word, ...this.options(field.message, value, at, optionPath) };
      } else if (value === true) options[name] = word;
      else this.#wrong(at, "true or absent", value);
    }
    return this.#finished(schema, options, path);
  }

  /** The items of a list of objects that have names. */
  named(
    list: unknown,
    path: DocumentPath,
    read: ReadName,
  ): { readonly name: string; readonly item: object; readonly at: DocumentPath }[] {
    if (!Array.isArray(list)) {
      this.#wrong(path, "an array", list);
      return [];
    }
    const found = new Map<string, { name: string; item: object; at: DocumentPath }>();
    for (const [index, item] of list.entries()) {
      const at = [...path, index];
      if (!isRecord(item)) {
        this.#wrong(at, "an object", item);
        continue;
      }
      const { name: given } = item as { readonly name?: unknown };
      const answer = read(typeof given === "string" ? given : "");
      const nameAt = given === undefined ? at : [...at, "name"];
      if ("rule" in answer) this.#wrong(nameAt, answer.rule, given, "name");
      else if (found.has(answer.name)) this.#problem(nameAt, `is given twice: ${answer.name}`);
      else found.set(answer.name, { name: answer.name, item, at });
    }
    return [...found.values()];
  }

  /** Notes a problem that the schema does not know. */
  refuse(at: DocumentPath, message: string): void {
    this.#problem(at, message);
  }

  #value(field: DescField, value: unknown, at: DocumentPath, option: string): unknown {
    switch (field.fieldKind) {
      case "message":
        return this.#message(field.message, value, at, option);
      case "enum":
        return this.#code(field.enum.values, value, at);
      case "scalar":
        return this.#scalar(field.scalar, value, at);
      case "list":
        return this.#list(field, value, at, option);
      case "map":
        return this.#map(field, value, at, option);
    }
  }

  #message(schema: DescMessage, value: unknown, at: DocumentPath, option: string): unknown {
    return isDuration(schema) ? this.#duration(value, at) : this.options(schema, value, at, option);
  }

  #list(
    field: DescField & { fieldKind: "list" },
    value: unknown,
    at: DocumentPath,
    option: string,
  ): unknown {
    if (!Array.isArray(value)) return this.#wrong(at, "an array", value);
    return value.map((item: unknown, index) => {
      const itemAt = [...at, index];
      const path = `${option}[${index}]`;
      this.places.set(path, itemAt);
      if (field.listKind === "message") return this.#message(field.message, item, itemAt, path);
      if (field.listKind === "enum") return this.#code(field.enum.values, item, itemAt);
      return this.#scalar(field.scalar, item, itemAt);
    });
  }

  #map(
    field: DescField & { fieldKind: "map" },
    value: unknown,
    at: DocumentPath,
    option: string,
  ): unknown {
    if (!isRecord(value)) return this.#wrong(at, "an object", value);
    const entries = Object.entries(value).map(([key, item]) => {
      const itemAt = [...at, key];
      // Errors of the code write some keys as names, and some in brackets.
      this.places.set(`${option}.${key}`, itemAt);
      this.places.set(`${option}["${key}"]`, itemAt);
      const path = `${option}.${key}`;
      if (field.mapKind === "message") {
        return [key, this.#message(field.message, item, itemAt, path)] as const;
      }
      if (field.mapKind === "scalar") {
        return [key, this.#scalar(field.scalar, item, itemAt)] as const;
      }
      return [key, this.#code(field.enum.values, item, itemAt)] as const;
    });
    return Object.fromEntries(entries);
  }

  #duration(value: unknown, at: DocumentPath): unknown {
    try {
      return protoDurationMs("", value);
    } catch (error) {
      if (!(error instanceof InvalidOptionError)) throw error;
      return this.#wrong(at, error.rule, value);
    }
  }

  #scalar(scalar: ScalarType, value: unknown, at: DocumentPath): unknown {
    if (isNumber(scalar)) {
      if (typeof value === "number") return value;
      // The JSON form of 64 bits is text.
      if (typeof value === "string" && /^\d{1,15}$/.test(value)) return Number(value);
      return this.#wrong(at, "a number", value);
    }
    if (isBoolean(scalar)) {
      return typeof value === "boolean" ? value : this.#wrong(at, "true or false", value);
    }
    return typeof value === "string" ? value : this.#wrong(at, "a text", value);
  }

  /** The number of a status code, which may be given itself. */
  #code(
    codes: readonly { readonly name: string; readonly number: number }[],
    value: unknown,
    at: DocumentPath,
  ): unknown {
    const found = codes.find(({ name, number }) => value === name || value === number);
    if (found !== undefined) return found.number;
    const suggestion =
      typeof value === "string"
        ? nearest(
            value,
            codes.map(({ name }) => name),
          )
        : undefined;
    return this.#wrong(at, "the name of a status code, such as UNAVAILABLE", value, "", suggestion);
  }

  /** Two messages have another shape in the code. */
  #finished(
    schema: DescMessage,
    options: Record<string, unknown>,
    path: DocumentPath,
  ): Record<string, unknown> {
    const { fromMs, toMs, ...rest } = options;
    switch (schema.name) {
      case "DurationRange":
        return {
          ...(fromMs === undefined ? {} : { from: fromMs }),
          ...(toMs === undefined ? {} : { to: toMs }),
        };
      case "LatencyFault":
        if (fromMs === undefined) this.#problem([...path], "must have a duration `from`");
        return { ...rest, ms: [fromMs, toMs ?? fromMs] };
      default:
        return options;
    }
  }

  #unknown(at: DocumentPath, name: string, schema: DescMessage): void {
    const known = schema.fields.map(({ jsonName }) => jsonName);
    // Who knows the code writes the name of the option.
    const inCode = schema.fields.find((field) => meaningOf(field).option === name)?.jsonName;
    const suggestion = inCode ?? renamedField(schema.name, name) ?? nearest(name, known);
    this.#problem(at, `is not a field; the fields are ${known.join(", ")}`, suggestion);
  }

  /** Notes a problem. Returns nothing, for the place of the value. */
  #wrong(
    at: DocumentPath,
    rule: string,
    value: unknown,
    field = "",
    suggestion?: string,
  ): undefined {
    const subject = field !== "" && at.at(-1) !== field ? `${field} ` : "";
    this.#problem(at, `${subject}must be ${rule}, got ${shown(value)}`, suggestion);
  }

  #problem(at: DocumentPath, message: string, suggestion?: string): void {
    this.problems.push({
      file: this.#document.name,
      ...this.#document.positionOf(at),
      path: pathText(at),
      message,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }
}
