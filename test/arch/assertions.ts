import { dirname, join } from "node:path/posix";
import { parseSync } from "vite";

/** A test that passes whatever the code does. */
export interface EmptyTest {
  readonly file: string;
  readonly line: number;
  readonly name: string;
}

interface AstNode {
  readonly type: string;
  readonly start: number;
}

interface TestFile {
  readonly path: string;
  readonly source: string;
  readonly program: AstNode;
  /** Functions, methods and functions that are properties, at any depth, by name. */
  readonly functions: ReadonlyMap<string, readonly AstNode[]>;
  /** Names that it imports from other test files, and the files they come from. */
  readonly imports: ReadonlyMap<string, string>;
}

/** Calls that assert. A function of ours asserts if it calls one of them, or another such function. */
const library = /^(expect|assert|fc\.assert|expectTypeOf|assertType)\b/;
/** A case of the conformance suite throws what it finds. */
const suite = /^each\.run$/;
/** Matchers that hold for almost every answer: a test needs another assertion beside them. */
const vague = /\.(toBeDefined|toBeTruthy|not\.toThrow|not\.toThrowError)$/;

/** The tests that assert nothing, neither themselves nor in a function that they call. */
export function emptyTests(sources: ReadonlyMap<string, string>): readonly EmptyTest[] {
  const files = new Map([...sources].map(([path, source]) => [path, readFile(path, source)]));
  const known = new Map<AstNode, boolean>();

  const asserts = (node: AstNode, file: TestFile): boolean => {
    const before = known.get(node);
    if (before !== undefined) return before;
    // A function that calls itself asserts only if something else in it does.
    known.set(node, false);
    let found = false;
    each(node, (part) => {
      found ||= part.type === "CallExpression" && isAssertion(part, file);
    });
    known.set(node, found);
    return found;
  };

  const isAssertion = (call: AstNode, file: TestFile): boolean => {
    const called = chainOf(field(call, "callee"));
    if (suite.test(called)) return true;
    if (library.test(called)) {
      return !called.startsWith("expect") || (isMatched(called) && !vague.test(called));
    }
    const handedOver = list(field(call, "arguments")).map(chainOf);
    return [called, ...handedOver].some((name) => namedAsserts(name, file));
  };

  /** A member is found by its own name, as what it is a member of is not known without types. */
  const namedAsserts = (chain: string, file: TestFile): boolean => {
    const [first = "", ...rest] = chain.split(".");
    const name = rest.at(-1) ?? first;
    const from = file.imports.get(first);
    const there = from === undefined ? file : files.get(from);
    if (there === undefined) return false;
    return (there.functions.get(name) ?? []).some((node) => asserts(node, there));
  };

  const found: EmptyTest[] = [];
  for (const file of files.values()) {
    each(file.program, (node) => {
      if (node.type !== "CallExpression") return;
      if (!/^(it|test)(\.|$)/.test(chainOf(field(node, "callee")).replaceAll("()", ""))) return;
      const [title, ...others] = list(field(node, "arguments"));
      const body = others.find((other) => other.type !== "ObjectExpression");
      if (title === undefined || body === undefined) return;
      if (isFunction(body) ? asserts(body, file) : namedAsserts(chainOf(body), file)) return;
      const line = file.source.slice(0, node.start).split("\n").length;
      found.push({ file: file.path, line, name: file.source.slice(title.start, endOf(title)) });
    });
  }
  return found;
}

function readFile(path: string, source: string): TestFile {
  const { program, errors } = parseSync(path, source);
  const [error] = errors;
  if (error !== undefined) throw new Error(`${path} does not parse: ${error.message}`);
  const functions = new Map<string, AstNode[]>();
  const imports = new Map<string, string>();
  each(program, (node) => {
    if (node.type === "ImportDeclaration") {
      const from = text(field(node, "source"), "value");
      if (!from?.startsWith(".")) return;
      const target = join(dirname(path), from).replace(/\.js$/, ".ts");
      for (const specifier of list(field(node, "specifiers"))) {
        const name = text(field(specifier, "local"), "name");
        if (name !== undefined) imports.set(name, target);
      }
      return;
    }
    const [named, value] = declared(node);
    if (named === undefined || !isFunction(value)) return;
    functions.set(named, [...(functions.get(named) ?? []), value]);
  });
  return { path, source, program, functions, imports };
}

/** The name and the function of `function f() {}`, `const f = () => {}`, `{ f: () => {} }`, `{ f() {} }`. */
function declared(node: AstNode): readonly [string | undefined, unknown] {
  switch (node.type) {
    case "FunctionDeclaration":
      return [text(field(node, "id"), "name"), node];
    case "VariableDeclarator":
      return [text(field(node, "id"), "name"), field(node, "init")];
    case "Property":
    case "MethodDefinition":
    case "PropertyDefinition":
      return [text(field(node, "key"), "name"), field(node, "value")];
    default:
      return [undefined, undefined];
  }
}

function isFunction(node: unknown): node is AstNode {
  return isNode(node) && /^(Arrow)?Function(Expression|Declaration)$/.test(node.type);
}

/** `expect` alone asserts nothing: a matcher has to follow. */
function isMatched(called: string): boolean {
  return /^expect.*\(\)\.|^expect\.(fail|unreachable|assertions|hasAssertions)$/.test(called);
}

/** `a.b().c` of a chain of names and calls, whatever their arguments are. */
function chainOf(node: unknown): string {
  if (!isNode(node)) return "";
  switch (node.type) {
    case "Identifier":
      return text(node, "name") ?? "";
    case "MemberExpression":
      return `${chainOf(field(node, "object"))}.${text(field(node, "property"), "name") ?? ""}`;
    case "CallExpression":
      return `${chainOf(field(node, "callee"))}()`;
    default:
      return "";
  }
}

function each(value: unknown, see: (node: AstNode) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) each(item, see);
  } else if (isNode(value)) {
    see(value);
    for (const child of Object.values(value)) each(child, see);
  }
}

function list(value: unknown): readonly AstNode[] {
  return Array.isArray(value) ? value.filter(isNode) : [];
}

function isNode(value: unknown): value is AstNode {
  return typeof field(value, "type") === "string";
}

function endOf(node: AstNode): number {
  const end = field(node, "end");
  return typeof end === "number" ? end : node.start;
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Readonly<Record<string, unknown>>)[key];
}

function text(value: unknown, key: "name" | "value"): string | undefined {
  const found = field(value, key);
  return typeof found === "string" ? found : undefined;
}
