import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A Node that the bench runs its processes with. */
export interface NodeBinary {
  readonly path: string;
  readonly version: string;
}

/** The Node that is installed at a path. Throws where there is none. */
export function nodeAt(path: string): NodeBinary {
  const version = execFileSync(path, ["-p", "process.versions.node"], { encoding: "utf8" });
  return { path, version: version.trim() };
}

/** Nodes that are fetched from npm, in a folder that lasts as long as the bench. */
export class FetchedNodes {
  readonly #folder = mkdtempSync(join(tmpdir(), "weir-bench-nodes-"));

  /** @param version As npm takes it: `24`, `24.22.3`. Throws where there is no such package. */
  fetch(version: string): NodeBinary {
    const name = `node-${process.platform}-${process.arch}@${version}`;
    const packed = execFileSync(
      "npm",
      ["pack", name, "--silent", "--pack-destination", this.#folder],
      { encoding: "utf8" },
    );
    const folder = mkdtempSync(join(this.#folder, "node-"));
    execFileSync("tar", ["-xzf", join(this.#folder, packed.trim()), "-C", folder]);
    return nodeAt(join(folder, "package", "bin", "node"));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }
}
