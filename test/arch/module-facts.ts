import { isBuiltin } from "node:module";
import { parseSync } from "vite";

/** What stands in the place of a name that is computed. */
export const computedName = "a module whose name is computed";

/** What the rules of the house need to know of one module. */
export interface ModuleFacts {
  /** Every module it names: imports, re-exports, dynamic imports and `import("…")` types. */
  readonly imports: readonly string[];
  /** Where it takes time or chance from the process: `Date.now`, `setTimeout` … */
  readonly reaches: readonly Reach[];
}

export interface Reach {
  readonly name: string;
  readonly line: number;
}

interface AstNode {
  readonly type: string;
  readonly start: number;
}

const globals = new Set(["setTimeout", "setInterval", "setImmediate"]);
const members = new Set([
  "Date.now",
  "performance.now",
  "process.hrtime",
  "Math.random",
  "AbortSignal.timeout",
]);
const timerModules = /^(node:)?timers(\/promises)?$/;

/** Reads a module's syntax tree, so that neither a comment nor a string can be mistaken for code. */
export function factsOf(file: string, source: string): ModuleFacts {
  const { program, errors } = parseSync(file, source);
  const [error] = errors;
  if (error !== undefined) throw new Error(`${file} does not parse: ${error.message}`);

  const imports: string[] = [];
  const reaches: Reach[] = [];
  const reach = (name: string, node: AstNode) => {
    reaches.push({ name, line: source.slice(0, node.start).split("\n").length });
  };

  visit(program, undefined, "", (node, parent, role) => {
    const module = moduleNamedBy(node);
    if (module !== undefined) {
      imports.push(module);
      if (timerModules.test(module)) reach(module, node);
    }
    const name = dottedName(node)?.replace(/^(globalThis|global)\./, "");
    if (name !== undefined && node.type === "MemberExpression") {
      if (members.has(name) || globals.has(name)) reach(name, node);
    } else if (name !== undefined && globals.has(name) && !isMention(parent, role)) {
      reach(name, node);
    } else if (node.type === "NewExpression" && isEmptyDate(node)) {
      reach("new Date()", node);
    }
  });

  return { imports, reaches };
}

/** The package of a specifier, or undefined for a file of ours and for what Node brings along. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith(".") || specifier.startsWith("node:") || isBuiltin(specifier)) {
    return undefined;
  }
  const parts = specifier.split("/");
  return parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}

function visit(
  value: unknown,
  parent: AstNode | undefined,
  role: string,
  see: (node: AstNode, parent: AstNode | undefined, role: string) => void,
): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, parent, role, see);
    return;
  }
  if (!isNode(value)) return;
  see(value, parent, role);
  for (const [key, child] of Object.entries(value)) visit(child, value, key, see);
}

function isNode(value: unknown): value is AstNode {
  return typeof field(value, "type") === "string";
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Readonly<Record<string, unknown>>)[key];
}

function text(value: unknown, key: "name" | "value"): string | undefined {
  const found = field(value, key);
  return typeof found === "string" ? found : undefined;
}

function moduleNamedBy(node: AstNode): string | undefined {
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
    case "TSImportType":
      return text(field(node, "source"), "value");
    case "ImportExpression":
      return text(field(node, "source"), "value") ?? computedName;
    default:
      return undefined;
  }
}

/** `a.b.c` of a chain of plain names. */
function dottedName(node: unknown): string | undefined {
  if (!isNode(node)) return undefined;
  if (node.type === "Identifier") return text(node, "name");
  if (node.type !== "MemberExpression" || field(node, "computed") === true) return undefined;
  const object = dottedName(field(node, "object"));
  const property = text(field(node, "property"), "name");
  return object === undefined || property === undefined ? undefined : `${object}.${property}`;
}

/** Whether an identifier takes nothing: the name of a member, or `typeof setTimeout` in a type. */
function isMention(parent: AstNode | undefined, role: string): boolean {
  // What is imported under that name is judged by the module it comes from.
  if (parent?.type === "TSTypeQuery" || role === "imported") return true;
  return (role === "property" || role === "key") && field(parent, "computed") !== true;
}

function isEmptyDate(node: AstNode): boolean {
  const args = field(node, "arguments");
  return dottedName(field(node, "callee")) === "Date" && Array.isArray(args) && args.length === 0;
}
