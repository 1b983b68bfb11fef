// What the programs of the chaos share: the service, its clock, and their journals.
import { openSync, writeSync } from "node:fs";

const json = (value) => Buffer.from(JSON.stringify(value));
const parse = (bytes) => JSON.parse(bytes.toString());

const unary = (name) => ({
  path: `/weir.chaos.v1.Orders/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: json,
  requestDeserialize: parse,
  responseSerialize: json,
  responseDeserialize: parse,
});

export const service = { Place: unary("Place"), PlaceHedged: unary("PlaceHedged") };

/** Microseconds on a clock that all processes of the machine share. */
export function nowUs() {
  return Number(process.hrtime.bigint() / 1000n);
}

/** Writes lines that are in the file when the call returns, so that they outlive this process. */
export function journal(path) {
  const file = openSync(path, "a");
  return (line) => writeSync(file, `${JSON.stringify(line)}\n`);
}
