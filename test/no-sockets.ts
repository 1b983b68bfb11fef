import { Server, Socket } from "node:net";

// No unit test opens a socket: real networks make tests slow and their outcomes a matter of luck.
function refuse(): never {
  throw new Error(
    "a unit test opens a socket: use inMemoryTransport(), or move the test to test/deep",
  );
}
Object.assign(Server.prototype, { listen: refuse });
Object.assign(Socket.prototype, { connect: refuse });
