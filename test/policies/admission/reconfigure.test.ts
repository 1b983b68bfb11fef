import { describe, expect, it } from "vitest";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../../src/policies/admission/options.js";
import { UsageByCaller } from "../../../src/policies/admission/usage.js";
import { permitOf } from "../../core/turns.js";
import { admissionScene } from "./scene.js";

const other = (options: AdmissionOptions) => resolveAdmissionOptions(options);

describe("admission whose options change", () => {
  it("serves those who wait under a higher limit, and lets all that run go on under a lower one", () => {
    const { admission, enterMany } = admissionScene({ limit: 2, thresholds: false });
    const [first] = enterMany(2);
    const waiting = enterMany(2);
    admission.reconfigure(other({ limit: 3 }), {}, true);
    expect(waiting.map(({ fate }) => fate)).toEqual(["admitted", "queued"]);
    admission.reconfigure(other({ limit: 1 }), {}, true);
    permitOf(first?.entry).settle("success");
    expect(admission.snapshot()).toMatchObject({ limit: 1, running: 2, queued: 1 });
  });

  it("keeps a limit that is learnt as it is, unless it is another one", () => {
    let made = 0;
    const makeLimit = () => {
      made += 1;
      return { current: 3, record: () => {} };
    };
    const { admission } = admissionScene();
    admission.reconfigure({ ...other({}), makeLimit }, {}, false);
    expect([made, admission.snapshot().limit]).toEqual([0, 100]);
    admission.reconfigure({ ...other({}), makeLimit }, {}, true);
    expect([made, admission.snapshot().limit]).toEqual([1, 3]);
  });

  it("ends a wait that has begun when it would have ended, and a later one by the new bound", () => {
    const { clock, admission, enter } = admissionScene({
      limit: 1,
      maxQueued: 5,
      maxWaitMs: 400,
      thresholds: false,
    });
    enter();
    const before = enter();
    admission.reconfigure(other({ limit: 1, maxQueued: 5, maxWaitMs: 100 }), {}, false);
    const after = enter();
    clock.advance(100);
    expect([before.fate, after.fate]).toEqual(["queued", "QUEUE_TIMEOUT"]);
    clock.advance(300);
    expect(before.fate).toBe("QUEUE_TIMEOUT");
  });

  it("serves calls that came before callers were told apart before those that came after", () => {
    const pool = { limit: 1, maxQueued: 5, thresholds: false } as const;
    const { admission, enter, enterMany } = admissionScene(pool);
    const [running] = enterMany(1);
    const before = enter();
    const fairness = { callerOf: () => "one", halfLifeMs: 1_000, maxKeys: 10 };
    admission.reconfigure(other(pool), { fairness }, false);
    const after = enter();
    permitOf(running?.entry).settle("success");
    expect([before.fate, after.fate]).toEqual(["admitted", "queued"]);
  });
});

describe("what callers have used, when its half-life changes", () => {
  it("counts as before, and halves by the new length from then on", () => {
    const usage = new UsageByCaller({ halfLifeMs: 1_000, maxKeys: 10 });
    const at = (nowMs: number) => usage.at(nowMs)[0]?.[1];
    usage.charge(usage.of("a"), 80, 500_000);
    expect(at(501_000)).toBe(40);
    usage.reconfigure({ halfLifeMs: 10_000, maxKeys: 10 }, 501_000);
    expect(at(501_000)).toBe(40);
    expect(at(511_000)).toBe(20);
    usage.reconfigure({ halfLifeMs: 100, maxKeys: 10 }, 511_000);
    usage.charge(usage.of("a"), 10, 511_000);
    expect([at(511_000), at(511_200)]).toEqual([30, 7.5]);
  });
});
