/** How hard pressed something is. 0: there is room; 1: there is none. */
export interface Pressure {
  /** Asked on the way of calls, so it is cheap. */
  now(): number;
}
