import type { CallRecord } from "../grpc/call-record.js";
import { serviceOf } from "../grpc/types.js";

/** What a policy may keep its state for, by name: each always for one target only. */
export const callKeys = ["target", "service", "method"] as const;
export type CallKey = (typeof callKeys)[number];

/** Names the state that a call belongs to. */
type KeyOf = (record: Pick<CallRecord, "target" | "method">) => string;

export function keyBy(key: CallKey): KeyOf {
  switch (key) {
    case "target":
      return ({ target }) => target;
    case "service":
      return keyByPart(serviceOf);
    case "method":
      return keyByPart((method) => method.slice(1));
  }
}

/** A target and a part of the method. Most calls are like the one before, and making the key anew costs more than a decision. */
export function keyByPart(part: (method: string) => string): KeyOf {
  let last = { target: "", method: "", key: "" };
  return ({ target, method }) => {
    if (last.method !== method || last.target !== target) {
      last = { target, method, key: `${target} ${part(method)}` };
    }
    return last.key;
  };
}
