// Jest, without any configuration.
const { retriedCall } = require("./node10/retried-call.js");

test("a call is retried", async () => {
  expect(await retriedCall()).toEqual({
    answer: "heard hello",
    runs: 2,
    priority: "high",
    nonsense: true,
    entryPoints: 8,
  });
});
