// A policy of one's own: each call carries its tenant, and leaves a line in the log.
// #region policy
import { AsyncLocalStorage } from "node:async_hooks";
import { status } from "@grpc/grpc-js";
import type { OwnPart } from "grpc-weir/client";

export const tenant = new AsyncLocalStorage<string>();

export const tenants: OwnPart = {
  name: "tenants",
  onCall(call) {
    const name = tenant.getStore();
    if (name === undefined) {
      call.end({ code: status.UNAUTHENTICATED, details: "no tenant" });
      return undefined;
    }
    call.setMetadata("x-tenant", name);
    return {
      afterAttempt({ number, code, origin, durationMs }) {
        console.log(
          `  attempt ${number}: ${status[code]} (${origin}), ${Math.round(durationMs)} ms`,
        );
      },
      onEnd({ code, attempts }) {
        console.log(`  ${call.method} for ${name}: ${status[code]} after ${attempts} attempts`);
      },
    };
  },
};
// #endregion
