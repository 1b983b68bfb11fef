/** How a process has fared since it was read before. Shares are of what there is: 1 is all of it. */
export interface Readings {
  /** Share of the time in which the event loop was at work. */
  readonly eventLoop: number;
  /** The longest that anything waited for the event loop, in milliseconds. */
  readonly loopDelayMs: number;
  /** Share of the CPU that the process may use. */
  readonly cpu: number;
  /** Share of the memory that the process may use, of the heap or of all, whichever is more. */
  readonly memory: number;
}

/** Reads the process. The port between policies and what Node tells of itself. */
export interface ProcessReader {
  read(): Readings;
  /** Nobody will read any more. */
  close?(): void;
}

/** The reader of a process that has nothing to do: where time is virtual, what the real process does says nothing. */
export const idleReader: ProcessReader = {
  read: () => ({ eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0 }),
};
