import { hostileCalls } from "./hostile-calls.js";

// `test/deep/conformance` draws more.
hostileCalls(10);
