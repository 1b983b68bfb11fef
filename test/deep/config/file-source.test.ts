import {
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileSource } from "grpc-weir/config";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { attempts, weirOf } from "../../config/told-weir.js";

describe("a file of policies", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weir-policies-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Waits until it is so: the file is looked at every so often in real time. */
  const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 20 });

  it("is read again when it was written, or another one was renamed to its name", async () => {
    const path = join(folder, "policies.yaml");
    writeFileSync(path, attempts(2));
    const { now, told, errors } = weirOf(fileSource(path, { pollMs: 100 }));
    expect(now()).toBe(2);
    writeFileSync(path, attempts(3));
    await until(() => expect(now()).toBe(3));
    writeFileSync(`${path}.new`, `# later\n${attempts(4)}`);
    renameSync(`${path}.new`, path);
    await until(() => expect(now()).toBe(4));
    expect(told).toEqual([
      `client.retry.maxAttempts 2 3 ${path}:1`,
      `client.retry.maxAttempts 3 4 ${path}:2`,
    ]);
    expect(errors).toEqual([]);
  });

  it("is read again when a link on its path leads elsewhere, as with a ConfigMap", async () => {
    for (const version of [1, 2]) {
      mkdirSync(join(folder, `..${version}`));
      writeFileSync(join(folder, `..${version}`, "policies.yaml"), attempts(1 + version));
    }
    symlinkSync("..1", join(folder, "..data"));
    const path = join(folder, "policies.yaml");
    symlinkSync(join("..data", "policies.yaml"), path);
    const { now } = weirOf(fileSource(path, { pollMs: 100 }));
    expect(now()).toBe(2);
    symlinkSync("..2", join(folder, "..data.new"));
    renameSync(join(folder, "..data.new"), join(folder, "..data"));
    await until(() => expect(now()).toBe(3));
  });

  it("changes nothing while it is wrong or gone, which is told once", async () => {
    const path = join(folder, "policies.yaml");
    writeFileSync(path, attempts(2));
    const { now, told, errors } = weirOf(fileSource(path, { pollMs: 100 }));
    writeFileSync(path, "client: { retry: { maxAttempts: 0 } }\n");
    await until(() => expect(told).toEqual([`refused ${path}`]));
    expect(errors[0]).toMatch(/policies.yaml:1:\d+ \.?client\.retry\.maxAttempts must be/);
    unlinkSync(path);
    await until(() => expect(told).toHaveLength(2));
    expect(errors[1]).toMatch(/ENOENT/);
    expect(now()).toBe(2);
    writeFileSync(path, attempts(5));
    await until(() => expect(now()).toBe(5));
  });

  it("is read once where it is not watched, and not after the weir is closed", async () => {
    const path = join(folder, "policies.yaml");
    writeFileSync(path, attempts(2));
    expect(typeof fileSource(path, { pollMs: false }).watch).toBe("undefined");
    const { weir, told } = weirOf(fileSource(path, { pollMs: 100 }));
    const other = weirOf(fileSource(path, { pollMs: 100 }));
    weir.close();
    writeFileSync(path, attempts(3));
    await until(() => expect(other.now()).toBe(3));
    expect(told).toEqual([]);
  });

  it.each<[object, RegExp]>([
    [{ pollMs: 99 }, /fileSource.pollMs must be milliseconds from 100/],
    [{ poll: 99 }, /fileSource.poll is not an option; did you mean pollMs/],
  ])("refuses %o", (options, message) => {
    expect(() => fileSource("policies.yaml", options)).toThrow(message);
  });
});
