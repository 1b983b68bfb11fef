// Adds up what the tests and the checks reported: the report and the exit code of the checks, then a name, a report
// and an exit code for each run of tests. The last line is the sum, for whoever reads only that.
import { readFileSync } from "node:fs";

const [checksFile, checksExit, ...runs] = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };

function read(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

function fail(why) {
  total.failed += 1;
  console.log(`failed: ${why}`);
}

function addTests(name, file, exit) {
  const tests = read(file);
  const failedBefore = total.failed;
  let found = 0;
  for (const file of tests?.testResults ?? []) {
    const failures = file.assertionResults.filter((test) => test.status === "failed");
    // A file that cannot be loaded, or whose hook throws, fails without a failing test in it.
    if (file.status === "failed" && failures.length === 0) fail(`${name}: ${file.name}`);
    for (const test of file.assertionResults) {
      found += 1;
      if (test.status === "passed") {
        total.passed += 1;
      } else if (test.status === "failed") {
        fail(`${name}: ${test.fullName}`);
        const [replay] = test.failureMessages.join("\n").match(/^replay: .*$/m) ?? [];
        if (replay !== undefined) console.log(`  ${replay}`);
      } else {
        total.skipped += 1;
        console.log(`skipped: ${name}: ${test.fullName}`);
      }
    }
  }
  if (tests === undefined) fail(`${name}: the tests ended without a report`);
  else if (total.failed > failedBefore) return;
  // Errors outside of any test, or a threshold that was missed.
  else if (exit !== "0") fail(`${name}: the tests ended with code ${exit}`);
  else if (found === 0) fail(`${name}: there were no tests`);
}

for (let i = 0; i + 2 < runs.length; i += 3) addTests(runs[i], runs[i + 1], runs[i + 2]);

const failedInTests = total.failed;
const checks = read(checksFile);
for (const { name, ok } of checks ?? []) {
  if (ok) total.passed += 1;
  else fail(`check: ${name}`);
}
if (checks === undefined) fail("the checks ended without a report");
else if (checksExit !== "0" && total.failed === failedInTests) {
  fail(`the checks ended with code ${checksExit}`);
}

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
process.exitCode = total.failed > 0 ? 1 : 0;
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
