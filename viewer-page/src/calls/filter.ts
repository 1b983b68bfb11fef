import type { CallRow } from "../../../src/viewer/api.js";

/** What a call must be to be shown. An empty text, and 0 ms, ask for nothing. */
export interface CallFilter {
  readonly q: string;
  readonly method: string;
  readonly status: string;
  readonly priority: string;
  readonly policy: string;
  readonly reason: string;
  readonly service: string;
  readonly minMs: number;
}

export const noFilter: CallFilter = {
  q: "",
  method: "",
  status: "",
  priority: "",
  policy: "",
  reason: "",
  service: "",
  minMs: 0,
};

/** The parts of a filter that are one value out of those that calls have. */
export const facets = ["method", "status", "priority", "policy", "reason", "service"] as const;

export type Facet = (typeof facets)[number];

export function filterOf(query: URLSearchParams): CallFilter {
  const minMs = Number(query.get("minMs"));
  const filter: CallFilter = {
    ...noFilter,
    q: query.get("q") ?? "",
    minMs: Number.isFinite(minMs) && minMs > 0 ? minMs : 0,
  };
  const chosen = facets.map((facet) => [facet, query.get(facet) ?? ""]);
  return { ...filter, ...Object.fromEntries(chosen) };
}

/** The parameters of the address and of `GET /api/calls`: only what is asked for. */
export function queryOf(filter: CallFilter): URLSearchParams {
  const query = new URLSearchParams();
  if (filter.q.trim() !== "") query.set("q", filter.q.trim());
  for (const facet of facets) if (filter[facet] !== "") query.set(facet, filter[facet]);
  if (filter.minMs > 0) query.set("minMs", String(filter.minMs));
  return query;
}

/** A part of a method's name is enough. */
const exactFacets = facets.filter((facet) => facet !== "method");

/** The values that a call has for a facet. */
export function valuesOf(call: CallRow, facet: Facet): readonly string[] {
  if (facet === "policy") return call.policies;
  const value = call[facet];
  return value === undefined ? [] : [value];
}

/** Whether the viewer's server would find the call with this filter. */
export function matches(call: CallRow, filter: CallFilter): boolean {
  if (call.durationMs < filter.minMs) return false;
  if (!contains(call.method, filter.method)) return false;
  for (const facet of exactFacets) {
    if (filter[facet] !== "" && !valuesOf(call, facet).includes(filter[facet])) return false;
  }
  const { method, service, reason = "", traceId } = call;
  return [method, service, reason, traceId].some((field) => contains(field, filter.q.trim()));
}

function contains(text: string, part: string): boolean {
  return text.toLowerCase().includes(part.toLowerCase());
}
