import { describe, expect, it } from "vitest";
import { resolveThrottleOptions } from "../../../src/policies/throttle/options.js";
import { shed, throttleScene } from "./throttle-scene.js";

describe("a throttle whose options change", () => {
  it("keeps what it has counted, in a window of another length too", () => {
    const { throttle, history } = throttleScene({ k: 2 });
    history("normal", 100, 30);
    throttle.reconfigure(resolveThrottleOptions({ k: 2, windowMs: 5_000 }));
    expect(throttle.snapshot()).toMatchObject({
      requests: { normal: 100 },
      accepts: { normal: 30 },
    });
    expect(throttle.snapshot().rejectRatio.normal).toBeCloseTo(40 / 101, 10);
    throttle.reconfigure(resolveThrottleOptions({ k: 3, windowMs: 5_000 }));
    expect(throttle.snapshot().rejectRatio.normal).toBeCloseTo(10 / 101, 10);
  });

  it("counts calls of the window before that end in the new one, and takes none of its own back for them", () => {
    const { clock, throttle, history } = throttleScene();
    const [refused, cancelled] = [throttle.pass(2), throttle.pass(2)];
    throttle.reconfigure(resolveThrottleOptions({ windowMs: 5_000 }));
    clock.advance(6_000);
    history("normal", 3, 3);
    refused.settle("ignored", shed);
    cancelled.settle("ignored");
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 4 }, accepts: { normal: 3 } });
  });
});
