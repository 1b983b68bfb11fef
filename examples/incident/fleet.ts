import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Order, Report, Role } from "./messages.js";
import type { Way } from "./ways.js";

const program = fileURLToPath(new URL("./process.js", import.meta.url));
/** Long enough for a busy machine to start a process, and for the whole incident. */
const patienceMs = 120_000;

/** One process of the incident, seen from the one that directs it. */
export class Member {
  readonly role: Role;
  readonly #child: ChildProcess;
  readonly #exited: Promise<string>;
  #expected = false;

  constructor(role: Role, way: Way, otlp: string | undefined, onDeath: (reason: Error) => void) {
    this.role = role;
    this.#child = fork(program, [role, way, ...(otlp === undefined ? [] : [otlp])], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#exited = new Promise((resolve) => {
      const ended = (how: string) => {
        resolve(how);
        if (!this.#expected) onDeath(new Error(`the ${role} process ended: ${how}`));
      };
      this.#child.once("exit", (code, signal) => ended(signal ?? `exit code ${code}`));
      this.#child.once("error", (error) => ended(error.message));
    });
  }

  tell(order: Order): void {
    this.#child.send(order, (error) => {
      if (error !== null && !this.#expected) this.#child.kill("SIGKILL");
    });
  }

  on(listener: (message: Report) => void): void {
    this.#child.on("message", listener);
  }

  /** The next message of a type. */
  next<T extends Report["type"]>(type: T): Promise<Extract<Report, { type: T }>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`the ${this.role} process did not say "${type}" in ${patienceMs} ms`));
      }, patienceMs);
      const listener = (message: Report) => {
        if (message.type !== type) return;
        clearTimeout(timer);
        this.#child.off("message", listener);
        resolve(message as Extract<Report, { type: T }>);
      };
      this.#child.on("message", listener);
      void this.#exited.then(() => clearTimeout(timer));
    });
  }

  /** Its end is no accident from now on. */
  expectEnd(): void {
    this.#expected = true;
  }

  async kill(): Promise<void> {
    this.#expected = true;
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  get exited(): Promise<string> {
    return this.#exited;
  }
}

/** All processes of one run. None of them outlives it. */
export class Fleet {
  readonly #members: Member[] = [];
  readonly #way: Way;
  readonly #otlp: string | undefined;
  #report: (reason: Error) => void = () => {};
  /** Rejects when a process ends that should not. */
  readonly accident: Promise<never> = new Promise((_resolve, reject) => {
    this.#report = reject;
  });

  /** @param otlp Where the processes send their spans and metrics while they play. */
  constructor(way: Way, otlp?: string) {
    this.#way = way;
    this.#otlp = otlp;
    // Whoever races against it hears of it; before that, it is not unhandled.
    this.accident.catch(() => {});
  }

  async start(role: Role): Promise<Member> {
    const member = new Member(role, this.#way, this.#otlp, (reason) => this.#report(reason));
    this.#members.push(member);
    await member.next("ready");
    return member;
  }

  async end(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.kill()));
  }
}
