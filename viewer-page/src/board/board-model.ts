import type { BoardPoint } from "../../../src/viewer/api.js";
import { fetchBoard } from "../api-client.js";
import type { Live } from "../live.js";
import { Observable } from "../observable.js";
import { withPoints } from "./series.js";

/** The last minutes, second by second. */
export class BoardModel {
  /** Undefined until the server has answered. */
  readonly points = new Observable<readonly BoardPoint[] | undefined>(undefined);

  constructor(live: Live) {
    live.listen({
      onConnected: () => this.#load(),
      onBoard: (point) => this.points.set(withPoints(this.points.value ?? [], [point])),
    });
  }

  #load(): void {
    fetchBoard().then(
      ({ points }) => this.points.set(withPoints(this.points.value ?? [], points)),
      () => {
        // Without an answer the page is not connected, which it says by itself, and tries again.
      },
    );
  }
}
