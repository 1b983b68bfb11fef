// Runs an example by the name of its folder, from build/: `npm run example -- idempotency`.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const programOf = (name) => `${root}build/examples/${name}/main.js`;
const names = readdirSync(`${root}examples`).filter((name) => existsSync(programOf(name)));

const [name, ...args] = process.argv.slice(2);
if (names.includes(name)) {
  // In its own folder, where the files lie that it reads.
  const options = { cwd: `${root}examples/${name}`, stdio: "inherit" };
  const program = spawn(process.execPath, [programOf(name), ...args], options);
  program.once("exit", (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 1;
  });
} else {
  const problem = name === undefined ? "name an example" : `there is no example ${name}`;
  console.error(`${problem}; there are: ${names.join(", ")}`);
  process.exitCode = 1;
}
