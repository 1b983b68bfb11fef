// Calls that are run once, however often they are sent: by one server with a memory, and by two that share a Redis.
import { oneServer } from "./one-server.js";
import { twoServers } from "./two-servers.js";

await oneServer();
console.log("\ntwo servers and one Redis:");
if (!(await twoServers())) {
  console.log(
    "  there is no redis-server here: install it, as with `apt-get install redis-server`",
  );
  process.exitCode = 1;
}
