import { ended, payload, unary } from "./in-memory-scene.js";
import { failure, type Scenario } from "./parity-scenario.js";

/** How calls end by deadline, cancellation, broken connections, and with slow readers. */
export const endings: Record<string, Scenario> = {
  "a call cancelled while the handler reads": {
    act: async ({ client, link }) => {
      const call = client.clientStream(() => {});
      call.write({ payload, sequence: 1 });
      const end = ended(call);
      await link.pass(40);
      call.cancel();
      const result = await end;
      await link.pass(40);
      return result;
    },
  },
  "a call cancelled in the tick of its start, on a warm channel": {
    act: async ({ client, link }) => {
      await link.until(unary(client));
      const call = client.unary({ payload, sequence: 9 }, () => {});
      const end = ended(call);
      call.cancel();
      const result = await end;
      await link.pass(40);
      return result;
    },
  },
  "a handler that lets the deadline pass, then answers": {
    handlers: {
      unary(call, callback) {
        call.on("cancelled", () => callback(null, call.request));
      },
    },
    act: async ({ client, clock, link }) => {
      const end = await unary(client, { deadline: clock.wallNow() + 60 });
      await link.pass(40);
      return end;
    },
  },
  "a slow reader of a stream that fails": {
    handlers: {
      serverStream(call) {
        call.write({ payload, sequence: 1 });
        call.write({ payload, sequence: 2 });
        call.emit("error", failure());
      },
    },
    act: async ({ client, link }) => {
      const call = client.serverStream({ payload, sequence: 2 });
      call.on("error", () => {});
      const end = ended(call);
      await link.pass(40);
      return end;
    },
  },
  "a slow reader of a stream that succeeds": {
    act: async ({ client, link }) => {
      const responses: number[] = [];
      const call = client.serverStream({ payload, sequence: 2 });
      const end = ended(call, responses);
      await link.pass(40);
      call.on("data", (response: { sequence: number }) => responses.push(response.sequence));
      return end;
    },
  },
  "writes to a server that does not read": {
    handlers: { clientStream: () => {} },
    act: async ({ client, link }) => {
      let written = 0;
      const call = client.clientStream(() => {});
      const end = ended(call);
      for (let sequence = 0; sequence < 200; sequence++) {
        call.write({ payload: Buffer.alloc(10_000), sequence }, () => {
          written += 1;
        });
      }
      await link.pass(100);
      const before = written;
      call.cancel();
      await end;
      return before;
    },
  },
  "responses to a client that does not read": {
    handlers: {
      serverStream(call) {
        let written = 0;
        for (let sequence = 0; sequence < 30; sequence++) {
          call.write({ payload: Buffer.alloc(20_000), sequence }, () => {
            written += 1;
          });
        }
        call.on("cancelled", () => call.emit("written", written));
      },
    },
    act: async ({ client, link }) => {
      const call = client.serverStream({ payload, sequence: 0 });
      call.on("error", () => {});
      const end = ended(call);
      await link.pass(60);
      call.cancel();
      return end;
    },
  },
  "an answer before the client has written all": {
    handlers: { clientStream: (_call, callback) => callback(failure()) },
    act: async ({ client, link }) => {
      const call = client.clientStream(() => {});
      const end = ended(call);
      for (let sequence = 0; sequence < 30; sequence++) {
        call.write({ payload: Buffer.alloc(10_000), sequence });
      }
      const result = await end;
      await link.pass(40);
      return result;
    },
  },
  "a server that answers late to a cancelled call": {
    handlers: {
      unary(call, callback) {
        call.on("cancelled", () => callback(failure()));
      },
    },
    act: async ({ client, link }) => {
      const call = client.unary({ payload, sequence: 1 }, () => {});
      const end = ended(call);
      await link.pass(40);
      call.cancel();
      const result = await end;
      await link.pass(40);
      return result;
    },
  },
  "a call to a server that is gone": {
    act: async ({ client, link }) => {
      await link.crash();
      return unary(client);
    },
  },
  "a call that was due before it began": {
    act: async ({ client, clock, link }) => {
      const end = await unary(client, { deadline: clock.wallNow() - 5 });
      await link.pass(40);
      return end;
    },
  },
  "a connection that breaks": {
    handlers: { unary: () => {} },
    act: async ({ client, link }) => {
      const call = unary(client);
      await link.pass(40);
      await link.crash();
      const result = await call;
      await link.pass(40);
      return result;
    },
  },
};
