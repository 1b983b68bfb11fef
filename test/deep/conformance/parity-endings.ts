import { Metadata } from "@grpc/grpc-js";
import { ended, payload, quiet, unary } from "../../testing/in-memory/scene.js";
import { failure, type Scenario } from "./parity-scenario.js";

/** How calls end by deadline, cancellation, broken connections, and with slow readers. */
export const endings: Record<string, Scenario> = {
  "a call cancelled while the handler reads": {
    act: async (scene) => {
      const { client } = scene;
      const call = client.clientStream(() => {});
      call.write({ payload, sequence: 1 });
      const end = ended(call);
      await quiet(scene);
      call.cancel();
      const result = await end;
      await quiet(scene);
      return result;
    },
  },
  "a call cancelled in the tick of its start, on a warm channel": {
    act: async (scene) => {
      const { client, link } = scene;
      await link.until(unary(client));
      const call = client.unary({ payload, sequence: 9 }, () => {});
      const end = ended(call);
      call.cancel();
      const result = await end;
      await quiet(scene);
      return result;
    },
  },
  "a handler that lets the deadline pass, then answers": {
    handlers: {
      unary(call, callback) {
        call.on("cancelled", () => callback(null, call.request));
      },
    },
    act: async (scene) => {
      const { client, clock } = scene;
      const end = await unary(client, { deadline: clock.wallNow() + 300 });
      await quiet(scene);
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
    act: async (scene) => {
      const { client } = scene;
      const call = client.serverStream({ payload, sequence: 2 });
      call.on("error", () => {});
      const end = ended(call);
      await quiet(scene);
      return end;
    },
  },
  "a slow reader of a stream that succeeds": {
    act: async (scene) => {
      const { client } = scene;
      const responses: number[] = [];
      const call = client.serverStream({ payload, sequence: 2 });
      const end = ended(call, responses);
      await quiet(scene);
      call.on("data", (response: { sequence: number }) => responses.push(response.sequence));
      return end;
    },
  },
  "writes to a server that does not read": {
    handlers: { clientStream: () => {} },
    act: async (scene) => {
      const { client } = scene;
      let written = 0;
      const call = client.clientStream(() => {});
      const end = ended(call);
      for (let sequence = 0; sequence < 200; sequence++) {
        call.write({ payload: Buffer.alloc(10_000), sequence }, () => {
          written += 1;
        });
      }
      await quiet(scene);
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
    act: async (scene) => {
      const { client } = scene;
      const call = client.serverStream({ payload, sequence: 0 });
      call.on("error", () => {});
      const end = ended(call);
      await quiet(scene);
      call.cancel();
      return end;
    },
  },
  "an answer before the client has written all": {
    handlers: { clientStream: (_call, callback) => callback(failure()) },
    act: async (scene) => {
      const { client } = scene;
      const call = client.clientStream(() => {});
      const end = ended(call);
      for (let sequence = 0; sequence < 30; sequence++) {
        call.write({ payload: Buffer.alloc(10_000), sequence });
      }
      const result = await end;
      await quiet(scene);
      return result;
    },
  },
  "a server that answers late to a cancelled call": {
    handlers: {
      unary(call, callback) {
        call.on("cancelled", () => callback(failure()));
      },
    },
    act: async (scene) => {
      const { client } = scene;
      const call = client.unary({ payload, sequence: 1 }, () => {});
      const end = ended(call);
      await quiet(scene);
      call.cancel();
      const result = await end;
      await quiet(scene);
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
    act: async (scene) => {
      const { client, clock } = scene;
      const end = await unary(client, { deadline: clock.wallNow() - 5 });
      await quiet(scene);
      return end;
    },
  },
  "a connection that breaks": {
    handlers: { unary: () => {} },
    act: async (scene) => {
      const { client, link } = scene;
      const call = unary(client);
      await quiet(scene);
      await link.crash();
      const result = await call;
      await quiet(scene);
      return result;
    },
  },
  "a connection that breaks while the handler reads": {
    act: async (scene) => {
      const { client, link } = scene;
      const call = client.clientStream(() => {});
      call.write({ payload, sequence: 1 });
      const end = ended(call);
      await quiet(scene);
      await link.crash();
      const result = await end;
      await quiet(scene);
      return result;
    },
  },
  "a call cancelled when its headers arrive": {
    handlers: {
      unary(call, callback) {
        call.sendMetadata(new Metadata());
        callback(null, call.request);
      },
    },
    act: async (scene) => {
      const { client } = scene;
      const call = client.unary({ payload, sequence: 1 }, () => {});
      call.on("metadata", () => call.cancel());
      const result = await ended(call);
      await quiet(scene);
      return result;
    },
  },
};
