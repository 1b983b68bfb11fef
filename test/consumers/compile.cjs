// Compiles the programs of this folder with the classic compiler, once for each module system of TypeScript, into a folder of
// the system's name. Prints the errors by system as JSON. One process for all: they share most of what they read.
const { cpSync, mkdirSync, readdirSync, writeFileSync } = require("node:fs");
const path = require("node:path");
const ts = require("typescript");

const { CommonJS, Node16, Node18, NodeNext, ESNext } = ts.ModuleKind;
const { Node10, Bundler } = ts.ModuleResolutionKind;

/** The type of the package that is compiled, and its options. */
const systems = {
  node10: ["commonjs", { module: CommonJS, moduleResolution: Node10 }],
  "node16-commonjs": ["commonjs", { module: Node16 }],
  "node16-esm": ["module", { module: Node16 }],
  "node18-commonjs": ["commonjs", { module: Node18 }],
  "nodenext-commonjs": ["commonjs", { module: NodeNext }],
  "nodenext-esm": ["module", { module: NodeNext }],
  bundler: ["module", { module: ESNext, moduleResolution: Bundler }],
};

for (const [system, [type]] of Object.entries(systems)) {
  const folder = path.join(__dirname, system);
  mkdirSync(folder);
  writeFileSync(path.join(folder, "package.json"), JSON.stringify({ type }));
  for (const file of ["main.ts", "retried-call.ts"]) {
    cpSync(path.join(__dirname, file), path.join(folder, file));
  }
}

/** Programs that stand in folders of their own. */
const programs = {
  clients: { module: NodeNext },
  nestjs: { module: NodeNext, experimentalDecorators: true, emitDecoratorMetadata: true },
};

const shared = new Map();

function compile(system, own) {
  const folder = path.join(__dirname, system);
  const options = {
    target: ts.ScriptTarget.ES2022,
    strict: true,
    esModuleInterop: true,
    types: ["node"],
    lib: ["lib.es2022.d.ts"],
    // The copies of the declarations are checked once; those of the ES modules are checked where they are made.
    skipLibCheck: system !== "node16-commonjs",
    ...own,
  };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (name, how, ...rest) => {
    const key = `${name} ${JSON.stringify(how)}`;
    if (!name.includes("node_modules")) return read(name, how, ...rest);
    if (!shared.has(key)) shared.set(key, read(name, how, ...rest));
    return shared.get(key);
  };
  const sources = readdirSync(folder).filter((name) => name.endsWith(".ts"));
  const roots = sources.map((name) => path.join(folder, name));
  const program = ts.createProgram(roots, options, host);
  const found = [...program.getOptionsDiagnostics(), ...program.emit().diagnostics];
  for (const file of program.getSourceFiles()) {
    if (/node_modules\/(?!grpc-weir\/)/.test(file.fileName)) continue;
    found.push(...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file));
  }
  return found.map(
    ({ code, file, messageText }) =>
      `${file?.fileName ?? ""}: TS${code} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`,
  );
}

const errors = {};
for (const [system, [, own]] of Object.entries(systems)) errors[system] = compile(system, own);
for (const [program, own] of Object.entries(programs)) errors[program] = compile(program, own);
console.log(JSON.stringify(errors));
