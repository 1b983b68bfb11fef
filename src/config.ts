export type { PolicyProblem, Position } from "./config/document.js";
export { PolicyDocumentError } from "./config/document.js";
export { schemaSource } from "./config/schema-source.js";
export { fileSource, objectSource } from "./config/source.js";
