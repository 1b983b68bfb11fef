import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

const optionSchemas = ["weir/v1/options.proto", "weir/v1/policy.proto", "google/rpc/code.proto"];

/** Schemas of services with options of `weir.v1`, as their owners write them, and what tools make of them. */
export class SchemaFiles {
  readonly folder: string;

  /** @param own The names of the schemas of the toolkit that they import. */
  constructor(files: Readonly<Record<string, string>>, own: readonly string[] = optionSchemas) {
    // Inside of the repository, so that generated code finds the packages that it imports.
    mkdirSync(join(root, "build"), { recursive: true });
    this.folder = mkdtempSync(join(root, "build", "schema-test-"));
    for (const name of own) {
      cpSync(join(root, "proto", name), join(this.folder, "proto", name));
    }
    writeFileSync(join(this.folder, "buf.yaml"), "version: v2\nmodules:\n  - path: proto\n");
    for (const [name, text] of Object.entries(files)) {
      const path = join(this.folder, "proto", name);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, text);
    }
  }

  /** The path of the serialized descriptor set. */
  descriptors(...flags: readonly string[]): string {
    const path = join(this.folder, `schema${flags.join("")}.binpb`);
    if (!existsSync(path)) this.#buf("build", "-o", path, ...flags);
    return path;
  }

  bytes(...flags: readonly string[]): Uint8Array {
    return readFileSync(this.descriptors(...flags));
  }

  /** What ts-proto makes of a file. */
  async generated(file: string, ...options: readonly string[]): Promise<Record<string, unknown>> {
    const out = mkdtempSync(join(this.folder, "gen-"));
    const plugin = join(root, "node_modules", ".bin", "protoc-gen-ts_proto");
    const opt = ["esModuleInterop=true", "importSuffix=.js", ...options];
    const template = {
      version: "v2",
      inputs: [{ directory: "proto", paths: [`proto/${file}`] }],
      plugins: [{ local: plugin, out, opt }],
    };
    this.#buf("generate", "--template", JSON.stringify(template));
    return import(join(out, file.replace(/\.proto$/, ".ts")));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #buf(...args: readonly string[]): void {
    execFileSync(join(root, "node_modules", ".bin", "buf"), args, { cwd: this.folder });
  }
}
