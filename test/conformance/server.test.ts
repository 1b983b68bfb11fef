import * as server from "../../src/server.js";
import { register } from "./register.js";

register({
  "server context": { server: (env) => [server.context(env)] },
  "server deadline guard": { server: (env) => [server.deadlineGuard(env)] },
  "server admission": { server: (env) => [server.admission(env)] },
});
