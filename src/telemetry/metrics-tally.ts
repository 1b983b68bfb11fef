import type { Attributes } from "@opentelemetry/api";

/** One series of a counter. */
export interface Cell {
  value: number;
  readonly attributes: Attributes;
}

/**
 * How many series a counter has at most. One below the limit of the SDK, so that these, and not the last ones that it saw,
 * are those that it tells apart.
 */
export const mostSeries = 1_998;

/**
 * A counter that is read when somebody collects. Whoever adds to it keeps the cell of its series, so that an addition costs
 * no hash of attributes.
 */
export class Tally {
  readonly #cells: Cell[] = [];
  #overflow: Cell | undefined;

  /** A new series. Beyond the limit, all further ones are counted together, with the attribute that the SDK has for that. */
  cell(attributes: Attributes): Cell {
    if (this.#cells.length < mostSeries) return this.#add(attributes);
    this.#overflow ??= this.#add({ "otel.metric.overflow": true });
    return this.#overflow;
  }

  get cells(): readonly Cell[] {
    return this.#cells;
  }

  #add(attributes: Attributes): Cell {
    const cell = { value: 0, attributes };
    this.#cells.push(cell);
    return cell;
  }
}
