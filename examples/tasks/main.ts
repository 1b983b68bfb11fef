// The tasks of the pages on how to do things, one after the other.
import { surviveADeploy } from "./deploy.js";
import { boundANoisyTenant } from "./noisy-tenant.js";
import { observeFirst } from "./observe-first.js";
import { protectADatabase } from "./slow-database.js";

await observeFirst();
await protectADatabase();
await surviveADeploy();
await boundANoisyTenant();
