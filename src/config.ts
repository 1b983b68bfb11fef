export type { PolicyProblem, Position } from "./config/document.js";
export { PolicyDocumentError } from "./config/document.js";
export { schemaSource } from "./config/schema-source.js";
export {
  type FileSourceOptions,
  type FunctionSource,
  type FunctionSourceOptions,
  fileSource,
  functionSource,
  objectSource,
  type PolicyDocuments,
} from "./config/source.js";
export { type ReflectedSchemaOptions, reflectedSchema } from "./grpc/reflected-schema.js";
