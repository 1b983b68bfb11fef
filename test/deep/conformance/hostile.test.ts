import { hostileCalls } from "../../conformance/hostile-calls.js";

hostileCalls(40);
