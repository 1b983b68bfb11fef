import { isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import {
  type DocumentPath,
  type PolicyDocument,
  PolicyDocumentError,
  type Position,
} from "./document.js";

/**
 * Reads a document of policies from text: YAML, of which JSON is a part, so that one reader knows the lines of both.
 *
 * @throws PolicyDocumentError where the text is neither.
 */
export function documentOf(text: string, name: string): PolicyDocument {
  const lines = new LineCounter();
  const parsed = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = parsed.errors.map((error) => {
    const { line, col } = lines.linePos(error.pos[0]);
    return { file: name, line, column: col, path: "", message: error.message };
  });
  if (problems.length > 0) throw new PolicyDocumentError(name, problems);
  const value: unknown = parsed.toJS();
  return {
    name,
    value,
    positionOf: (path) => positionIn(parsed.contents, path, lines),
  };
}

/** Where a value begins, with its name if it has one. What is absent has the place of what is around it. */
function positionIn(top: unknown, path: DocumentPath, lines: LineCounter): Position | undefined {
  let found: Node | undefined = isNode(top) ? top : undefined;
  let at = found;
  for (const part of path) {
    let next: unknown;
    if (isMap(at)) {
      const pair = at.items.find(({ key }) => (isScalar(key) ? key.value : key) === part);
      if (pair !== undefined && isNode(pair.key)) found = pair.key;
      next = pair?.value;
    } else if (isSeq(at) && typeof part === "number") {
      next = at.items[part];
      if (isNode(next)) found = next;
    }
    if (!isNode(next)) break;
    at = next;
  }
  const [offset] = found?.range ?? [];
  if (offset === undefined) return undefined;
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
}
