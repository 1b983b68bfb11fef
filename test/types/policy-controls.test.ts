import { type ControlledName, createWeir, type PolicyControl } from "grpc-weir";
import type { BreakerOptions, RetryOptions } from "grpc-weir/client";
import type { BrownoutOptions } from "grpc-weir/server";
import { expect, expectTypeOf, it } from "vitest";
import { controlledNames } from "../../src/core/control.js";

const weir = createWeir();

/** What the control of a policy takes at run time. */
type UpdateOf<N extends ControlledName> = Parameters<
  ReturnType<typeof weir.policy<N>>["update"]
>[0];

it("the control of a policy has the options of that policy", () => {
  expectTypeOf<UpdateOf<"breaker">>().toEqualTypeOf<Partial<BreakerOptions>>();
  expectTypeOf<UpdateOf<"retry">>().toEqualTypeOf<Partial<RetryOptions>>();
  expectTypeOf<UpdateOf<"retry">>().not.toEqualTypeOf<Partial<BreakerOptions>>();
  expectTypeOf<Partial<BrownoutOptions>>().toExtend<UpdateOf<"brownout">>();
  expect(() => {
    // @ts-expect-error a breaker has no attempts
    weir.policy("breaker").update({ maxAttempts: 3 });
    // @ts-expect-error there is no such policy
    weir.policy("braker");
  }).toThrow();
});

it("only the control of breakers and that of faults have more than a mode and numbers", () => {
  const breaker = weir.policy("breaker");
  const faults = weir.policy("faults");

  expectTypeOf<(typeof breaker)["onStateChange"]>().toBeFunction();
  expectTypeOf<(typeof breaker)["update"]>().toBeFunction();
  expect([breaker.name, faults.name]).toEqual(["breaker", "faults"]);
  // @ts-expect-error retries have no states
  expect(weir.policy("retry").onStateChange).toBeUndefined();
});

it("each name has a control, also where the name is not known before the program runs", () => {
  const controls = controlledNames.map((name: ControlledName) => weir.policy(name));

  expectTypeOf(controls).toExtend<readonly Pick<PolicyControl, "mode" | "snapshot">[]>();
  expect(controls.map(({ name }) => name)).toEqual([...controlledNames]);
});
