// The small faults that `mutants.mjs` plants: which ones a module can have, and the module with some of them in it.
import { parseSync } from "vite";

const swaps = new Map([
  ["<", "<="],
  ["<=", "<"],
  [">", ">="],
  [">=", ">"],
  ["===", "!=="],
  ["!==", "==="],
  ["+", "-"],
  ["-", "+"],
  ["*", "/"],
  ["/", "*"],
  ["%", "*"],
  ["&&", "||"],
  ["||", "&&"],
  ["+=", "-="],
  ["-=", "+="],
  ["*=", "/="],
  ["??=", "="],
  ["++", "--"],
  ["--", "++"],
  ["Math.min", "Math.max"],
  ["Math.max", "Math.min"],
  ["Math.floor", "Math.ceil"],
  ["Math.ceil", "Math.floor"],
]);

/** What a module does when it is loaded counts as static, unlike what its functions do. */
const functions = /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/;
/** Of TypeScript's own nodes, those that hold an expression. */
const wrappers = /^TS(AsExpression|NonNullExpression|SatisfiesExpression|ParameterProperty)$/;
/** Texts and messages are nobody's behaviour. */
const passedOver = /^(TemplateLiteral|ThrowStatement|ImportDeclaration|ExportAllDeclaration)$/;

/** Every mutant of a module, in the order of its text. */
export function mutantsOf(file, source) {
  const { program, errors } = parseSync(file, source);
  if (errors.length > 0) throw new Error(`${file} does not parse: ${errors[0].message}`);

  const mutants = [];
  const textOf = (node) => source.slice(node.start, node.end);

  const visit = (node, isStatic) => {
    if (Array.isArray(node)) {
      for (const item of node) visit(item, isStatic);
      return;
    }
    if (typeof node?.type !== "string" || passedOver.test(node.type)) return;
    if (node.type.startsWith("TS") && !wrappers.test(node.type)) return;
    for (const { at = node, name, text } of faultsOf(node, textOf)) {
      mutants.push(new Mutant(file, source, at, name, text, isStatic));
    }
    // Of an object that is made for the names in it, the values are nothing.
    if (node.type === "CallExpression" && textOf(node.callee) === "Object.keys") return;
    const inside =
      functions.test(node.type) || (node.type === "PropertyDefinition" && !node.static);
    for (const [key, child] of Object.entries(node)) {
      if (key === "key" && !node.computed) continue;
      if (key === "right" && isForTheChecker(node)) continue;
      visit(child, isStatic && !inside);
    }
  };
  visit(program, true);
  return mutants;
}

/** The module with mutants in it. Each stays asleep until `mutantIsActive` is true of its number. */
export function withMutants(source, numbered) {
  const outermostFirst = [...numbered].sort(
    ([, a], [, b]) =>
      a.start - b.start || b.end - a.end || Number(a.isStatement) - Number(b.isStatement),
  );
  const write = (start, end, inside) => {
    let text = "";
    let at = start;
    let next = 0;
    while (next < inside.length) {
      const outer = inside[next][1];
      const within = [];
      const same = [];
      for (; next < inside.length && inside[next][1].start < outer.end; next += 1) {
        const mutant = inside[next][1];
        const isSame = mutant.start === outer.start && mutant.end === outer.end;
        (isSame ? same : within).push(inside[next]);
      }
      text += source.slice(at, outer.start);
      text += asleep(same, write(outer.start, outer.end, within));
      at = outer.end;
    }
    return text + source.slice(at, end);
  };
  return write(0, source.length, outermostFirst);
}

function asleep(mutants, original) {
  const [[number, { isStatement }]] = mutants;
  if (isStatement) return `{ if (!mutantIsActive(${number})) ${original} }`;
  const choices = mutants.map(([id, { text }]) => `mutantIsActive(${id}) ? (${text}) : `);
  return `(${choices.join("")}(${original}))`;
}

class Mutant {
  constructor(file, source, { start, end }, name, text, isStatic) {
    const before = source.slice(0, start).split("\n");
    const line = before.length;
    this.id = `${file}:${line}:${before.at(-1).length + 1}:${name}`;
    this.file = file;
    this.start = start;
    this.end = end;
    this.text = text;
    this.isStatement = text === undefined;
    this.isStatic = isStatic;
    this.line = source.split("\n")[line - 1].trim();
    this.change = `${brief(source.slice(start, end))} → ${this.isStatement ? "nothing" : brief(text)}`;
  }
}

function brief(text) {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length <= 100 ? line : `${line.slice(0, 60)} … ${line.slice(-35)}`;
}

/** The faults that start at a node: a name, and what stands in its place; nothing for a statement that goes. */
function faultsOf(node, textOf) {
  switch (node.type) {
    case "BinaryExpression":
      if (node.operator === "+" && isText(node)) return [];
      return swapped(node, node.left, node.operator, node.right, textOf);
    case "AssignmentExpression":
      return swapped(node, node.left, node.operator, node.right, textOf);
    case "UpdateExpression":
      return swapped(node, node.argument, node.operator, undefined, textOf);
    case "LogicalExpression":
      if (node.operator !== "??") {
        return swapped(node, node.left, node.operator, node.right, textOf);
      }
      return [
        ...(isForTheChecker(node) ? [] : [{ name: "left", text: textOf(node.left) }]),
        { name: "right", text: textOf(node.right) },
      ];
    case "CallExpression": {
      const name = swaps.get(textOf(node.callee));
      return name === undefined ? [] : [{ at: node.callee, name, text: name }];
    }
    case "UnaryExpression":
      return node.operator === "!" ? [{ name: "not", text: textOf(node.argument) }] : [];
    case "Literal":
      return literal(node.value);
    case "IfStatement":
    case "ConditionalExpression":
      return [true, false].map((value) => ({ at: node.test, name: `${value}`, text: `${value}` }));
    case "WhileStatement":
    case "ForStatement":
      return node.test ? [{ at: node.test, name: "false", text: "false" }] : [];
    case "ExpressionStatement":
      if (node.directive || node.expression.callee?.type === "Super") return [];
      // `end satisfies never` is for the type checker alone.
      if (node.expression.type === "TSSatisfiesExpression") return [];
      return [{ name: "gone" }];
    case "ReturnStatement":
      return node.argument ? [] : [{ name: "gone" }];
    case "BreakStatement":
    case "ContinueStatement":
      return [{ name: "gone" }];
    default:
      return [];
  }
}

/** `counts[index] ?? 0`: the element is there, which the type checker does not know. */
function isForTheChecker({ type, operator, left }) {
  return type === "LogicalExpression" && operator === "??" && left.computed === true;
}

function swapped(node, left, operator, right, textOf) {
  const swap = swaps.get(operator);
  if (swap === undefined) return [];
  if (right !== undefined) {
    const operand = (side) =>
      /^(Binary|Logical)/.test(side.type) ? `(${textOf(side)})` : textOf(side);
    return [{ name: swap, text: `${operand(left)} ${swap} ${operand(right)}` }];
  }
  return [{ name: swap, text: node.prefix ? `${swap}${textOf(left)}` : `${textOf(left)}${swap}` }];
}

function literal(value) {
  if (typeof value === "boolean") return [{ name: `${!value}`, text: `${!value}` }];
  if (typeof value !== "number") return [];
  // No caller can tell 5,000 ms from 4,999; twice as long, everybody can.
  const others = Math.abs(value) < 10 ? [value + 1, value - 1] : [value * 2, value / 2];
  return others.map((other) => ({ name: `${other}`, text: `${other}` }));
}

function isText(node) {
  if (node.type === "BinaryExpression") return isText(node.left) || isText(node.right);
  return node.type === "TemplateLiteral" || typeof node.value === "string";
}
