import type { DemoChange, DemoState } from "../../../src/viewer/api.js";
import { changeDemo, fetchDemo, messageOf } from "../api-client.js";
import type { Live } from "../live.js";
import { Observable } from "../observable.js";

/** The demo, where one runs beside the viewer. */
export class DemoModel {
  /** Undefined while it is not known, and where none runs. */
  readonly state = new Observable<DemoState | undefined>(undefined);
  readonly asked = new Observable<boolean>(false);
  readonly problem = new Observable<string | undefined>(undefined);

  constructor(live: Live) {
    live.listen({
      onConnected: () => this.#load(),
      onDemo: (demo) => this.state.set(demo),
    });
  }

  change(change: DemoChange): void {
    changeDemo(change).then(
      (state) => {
        this.state.set(state);
        this.problem.set(undefined);
      },
      (error: unknown) => this.problem.set(messageOf(error)),
    );
  }

  #load(): void {
    fetchDemo().then(
      (state) => {
        this.state.set(state);
        this.asked.set(true);
      },
      () => {
        // Without an answer the page is not connected, which it says by itself, and tries again.
      },
    );
  }
}
