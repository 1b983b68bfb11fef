// A policy of one's own that refuses rather than lets through what it could not check.
// #region checked
import { status } from "@grpc/grpc-js";
import type { OwnPart } from "grpc-weir/client";

export function checked(allows: (method: string) => boolean): OwnPart {
  return {
    name: "checked",
    onCall(call) {
      let allowed = false;
      try {
        allowed = allows(call.method);
      } catch {
        // It cannot tell: then it refuses.
      }
      if (!allowed) call.end({ code: status.PERMISSION_DENIED, details: "not allowed" });
      return undefined;
    },
  };
}
// #endregion
