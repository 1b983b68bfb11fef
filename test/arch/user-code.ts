import { relative } from "node:path";
import {
  type CallExpression,
  type Identifier,
  isArrowFunction,
  isCallExpression,
  isClassDeclaration,
  isFunctionExpression,
  isFunctionLikeDeclaration,
  isIdentifier,
  isParameterDeclaration,
  isVariableDeclaration,
  type Node,
  type SourceFile,
} from "typescript/unstable/ast";
import {
  API,
  type Checker,
  isIntersectionType,
  isTypeReference,
  isUnionType,
  type NodeHandle,
  type Project,
  type Signature,
  SignatureKind,
  SymbolFlags,
  type Type,
  TypeFlags,
  type Symbol as TypeSymbol,
} from "typescript/unstable/sync";

/** A call of a function that a user handed in, which does not go through `core/user-code.ts`. */
export interface UnguardedCall {
  /** Relative to `src`. */
  readonly file: string;
  readonly line: number;
  readonly called: string;
  /** Where the type of the function is declared, such as `policies/rate-limit/store.ts take`. */
  readonly declared: string;
}

/** What the types of the package say of the functions that users hand in. */
export class UserCode {
  readonly #api: API;
  readonly #project: Project;
  readonly #checker: Checker;
  readonly #root: string;
  readonly #seen = new Set<string>();
  /** The declarations of users' functions: what it is called by where it is declared. */
  readonly #users = new Map<string, string>();
  /** Functions that hand one of their parameters on to the helper. */
  readonly #forwarders = new Set<string>();

  constructor(configFile: string, root: string, entries: readonly string[]) {
    this.#api = new API({});
    this.#root = root;
    const [project] = this.#api.updateSnapshot({ openProject: configFile }).getProjects();
    if (project === undefined) throw new Error(`${configFile} opens no project`);
    this.#project = project;
    this.#checker = project.checker;
    for (const entry of entries) this.#readEntry(`${root}/${entry}`);
    const files = this.#files();
    // Helpers of helpers, such as a method that adds the name of its policy.
    for (let before = -1; before < this.#forwarders.size; ) {
      before = this.#forwarders.size;
      for (const file of files) this.#findForwarders(file);
    }
  }

  close(): void {
    this.#api.close();
  }

  /** Every function that users hand in, by where its type is declared. */
  get functions(): readonly string[] {
    return [...new Set(this.#users.values())].sort();
  }

  unguarded(): readonly UnguardedCall[] {
    const found: UnguardedCall[] = [];
    for (const file of this.#files()) {
      const name = relative(this.#root, file.fileName);
      if (name === helper) continue;
      each(file, (node) => {
        if (!isCallExpression(node)) return;
        const declared = this.#userFunction(this.#checker.getResolvedSignature(node));
        if (declared === undefined || this.#isGuarded(node)) return;
        const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
        found.push({ file: name, line: line + 1, called: node.expression.getText(file), declared });
      });
    }
    return found;
  }

  // ---- Which functions are users'.

  #readEntry(file: string): void {
    const source = this.#project.program.getSourceFile(file);
    const module = source && this.#checker.getSymbolAtLocation(source);
    if (module === undefined) throw new Error(`${file} is no module`);
    for (const exported of this.#checker.getExportsOfModule(module)) {
      const isAlias = (exported.flags & SymbolFlags.Alias) !== 0;
      const symbol = isAlias ? this.#checker.getAliasedSymbol(exported) : exported;
      if (symbol.valueDeclaration === undefined) continue;
      const type = this.#checker.getTypeOfSymbol(symbol);
      if (type !== undefined) this.#given(type);
    }
  }

  /** Something that users get: what its functions take comes from them. */
  #given(type: Type): void {
    this.#walk(
      type,
      "given",
      (part) => this.#given(part),
      (signature) => {
        for (const parameter of this.#parameters(signature)) this.#taken(parameter);
        const result = this.#checker.getReturnTypeOfSignature(signature);
        if (result !== undefined) this.#given(result);
      },
    );
  }

  /** Something that users hand in: its functions are theirs. */
  #taken(type: Type): void {
    this.#walk(
      type,
      "taken",
      (part) => this.#taken(part),
      (signature) => {
        const { declaration } = signature;
        if (declaration !== undefined && this.#isOurs(declaration) && !hasBody(declaration)) {
          this.#users.set(keyOf(declaration), this.#nameOf(declaration));
        }
        for (const parameter of this.#parameters(signature)) this.#given(parameter);
        const result = this.#checker.getReturnTypeOfSignature(signature);
        if (result !== undefined) this.#taken(result);
      },
    );
  }

  #walk(
    type: Type,
    direction: string,
    part: (type: Type) => void,
    signature: (signature: Signature) => void,
  ): void {
    const seen = `${direction} ${type.id}`;
    if (this.#seen.has(seen)) return;
    this.#seen.add(seen);
    if (isUnionType(type) || isIntersectionType(type)) {
      for (const one of type.getTypes()) part(one);
      if (isUnionType(type)) return;
    }
    if ((type.flags & TypeFlags.TypeParameter) !== 0) {
      const constraint = this.#checker.getBaseConstraintOfType(type);
      if (constraint !== undefined) part(constraint);
      return;
    }
    if ((type.flags & (TypeFlags.Object | TypeFlags.Intersection)) === 0) return;
    for (const kind of [SignatureKind.Call, SignatureKind.Construct]) {
      for (const one of this.#checker.getSignaturesOfType(type, kind)) signature(one);
    }
    for (const info of this.#checker.getIndexInfosOfType(type)) part(info.valueType);
    if (isTypeReference(type)) {
      for (const argument of this.#checker.getTypeArguments(type)) part(argument);
    }
    // Nobody makes an instance of a class of ours but we.
    if (direction === "taken" && isClass(type)) return;
    for (const property of this.#checker.getPropertiesOfType(type)) {
      const { declarations } = property;
      if (!declarations.some((one) => this.#isOurs(one)) || isHidden(property)) continue;
      const its = this.#checker.getTypeOfSymbol(property);
      if (its !== undefined) part(its);
    }
  }

  #parameters(signature: Signature): readonly Type[] {
    return signature.getParameters().flatMap((parameter: TypeSymbol) => {
      const type = this.#checker.getTypeOfSymbol(parameter);
      return type === undefined ? [] : [type];
    });
  }

  #isOurs({ path }: NodeHandle): boolean {
    return path.startsWith(this.#root.toLowerCase()) || path.startsWith(this.#root);
  }

  #nameOf(declaration: NodeHandle): string {
    const node = declaration.resolve();
    let at: Node | undefined = node;
    for (; at !== undefined; at = at.parent) {
      if ("name" in at && at.name !== undefined) {
        const { name } = at as { readonly name?: Identifier };
        const file = node?.getSourceFile();
        const where = file === undefined ? "" : relative(this.#root, file.fileName);
        return `${where} ${name?.getText(file)}`;
      }
    }
    return declaration.path;
  }

  #userFunction(signature: Signature | undefined): string | undefined {
    const declaration = signature?.declaration ?? signature?.getTarget()?.declaration;
    return declaration === undefined ? undefined : this.#users.get(keyOf(declaration));
  }

  // ---- Which calls go through the helper.

  /** The call stands in what is handed to the helper, itself or as a function that has a name first. */
  #isGuarded(call: Node): boolean {
    for (let at: Node = call; at.parent !== undefined; at = at.parent) {
      // What is handed over as an answer, and not as a question, was asked for outside.
      if (!isArrowFunction(at) && !isFunctionExpression(at)) continue;
      const { parent } = at;
      if (isCallExpression(parent) && parent.expression !== at && this.#isHelper(parent)) {
        return true;
      }
      if (
        isVariableDeclaration(parent) &&
        isIdentifier(parent.name) &&
        this.#isHandedOver(parent.name)
      ) {
        return true;
      }
    }
    return false;
  }

  #isHandedOver(name: Identifier): boolean {
    const text = name.text;
    const scope = enclosing(name);
    let found = false;
    each(scope, (node) => {
      if (!isCallExpression(node) || found) return;
      found =
        node.arguments.some((argument) => isIdentifier(argument) && argument.text === text) &&
        this.#isHelper(node);
    });
    return found;
  }

  #isHelper(call: CallExpression): boolean {
    const declaration = this.#checker.getResolvedSignature(call)?.declaration;
    if (declaration === undefined) return false;
    return (
      declaration.path.toLowerCase() === `${this.#root}/${helper}`.toLowerCase() ||
      this.#forwarders.has(keyOf(declaration))
    );
  }

  #findForwarders(file: SourceFile): void {
    if (relative(this.#root, file.fileName) === helper) return;
    each(file, (node) => {
      if (!isCallExpression(node) || !this.#isHelper(node)) return;
      for (const argument of node.arguments) {
        if (!isIdentifier(argument)) continue;
        const symbol = this.#checker.getSymbolAtLocation(argument);
        const declared = symbol?.valueDeclaration?.resolve();
        if (declared === undefined || !isParameterDeclaration(declared)) continue;
        const signature = this.#checker.getSignatureFromDeclaration(declared.parent);
        if (signature?.declaration !== undefined) {
          this.#forwarders.add(keyOf(signature.declaration));
        }
      }
    });
  }

  #files(): readonly SourceFile[] {
    return this.#project.program
      .getSourceFileNames()
      .filter(
        (name) => name.startsWith(`${this.#root}/`) && !outside.test(relative(this.#root, name)),
      )
      .flatMap((name) => this.#project.program.getSourceFile(name) ?? []);
  }
}

const helper = "core/user-code.ts";
/** What calls no user's function, or is none of what runs in production. */
const outside = /^(gen|testing)\//;

function keyOf({ path, index }: NodeHandle): string {
  return `${path}#${index}`;
}

function isClass(type: Type): boolean {
  const node = type.getSymbol()?.valueDeclaration?.resolve();
  return node !== undefined && isClassDeclaration(node);
}

function isHidden({ name, declarations }: TypeSymbol): boolean {
  if (name.includes("#")) return true;
  return declarations.some((one) =>
    /^\s*(?:private|protected)\b/.test(one.resolve()?.getText() ?? ""),
  );
}

/** A function of ours: users call it, and do not hand it in. */
function hasBody(declaration: NodeHandle): boolean {
  const node = declaration.resolve();
  return node !== undefined && "body" in node && node.body !== undefined;
}

function each(node: Node, visit: (node: Node) => void): void {
  visit(node);
  node.forEachChild((child) => each(child, visit));
}

function enclosing(node: Node): Node {
  let at = node.parent;
  while (at.parent !== undefined && !isFunctionLikeDeclaration(at)) at = at.parent;
  return at;
}

const madeSafe = "made safe where it is handed in, by userClock and userRandom";
const ours = "only we implement it: the types say so of what is public by accident";

/** What may be called without the helper, by where its type is declared, and why. */
export const exemptFromHelper: Readonly<Record<string, string>> = {
  "core/clock.ts now": madeSafe,
  "core/clock.ts wallNow": madeSafe,
  "core/clock.ts schedule": madeSafe,
  "core/clock.ts afterPoll": madeSafe,
  "core/clock.ts CancelTask": madeSafe,
  "core/clock.ts Random": madeSafe,
  "policies/limits/limit.ts record":
    "a limit of the user's is wrapped in OwnLimit, which goes through the helper",
  "core/permit.ts WorksOn": ours,
  "core/control.ts ModeFromOutside": ours,
  "core/control.ts OnUpdate": ours,
  "core/control.ts measure": ours,
  "core/control.ts reconfigure": ours,
  "core/control.ts snapshot": ours,
  "core/decision.ts count": ours,
  "core/gauges.ts note": ours,
  "grpc/environment.ts active": ours,
  "grpc/environment.ts of": ours,
  "policies/fallback/client-providers.ts context": ours,
  "policies/fallback/client-providers.ts watched": ours,
  "core/wait.ts waited": ours,
  "grpc/context/guard-spans.ts start": ours,
  "grpc/context/guard-spans.ts attempt": ours,
  "grpc/context/guard-spans.ts run": ours,
  "grpc/context/guard-spans.ts end": ours,
  "redis/client.ts onMessage": ours,
  "redis/client.ts onSubscribed": ours,
  "redis/client.ts onFailed": ours,
  "pipeline/environment-modes.ts ModeInEnvironment": ours,
  "pipeline/policy-set.ts placeOf":
    "no call runs it: an explanation or an error of building is made",
  "pipeline/policy-set.ts read": "no call runs it: it may throw while the weir is created",
  "pipeline/policy-set.ts watch": "no call runs it: it may throw while the weir is created",
  "pipeline/policy-set.ts changes":
    "what it throws is reported by the same code that reads the policies",
  "pipeline/policy-set.ts newer": ours,
  "pipeline/policy-set.ts failed": ours,
  "viewer/span-processor.ts spanContext":
    "the span is of the SDK, and all that goes wrong while it is read is caught and reported",
};
