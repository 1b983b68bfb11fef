import { describe } from "vitest";
import { clientSubjects, partitioned } from "../../conformance/client-subjects.js";
import { casesOverLoopback, overLoopback } from "../../conformance/register.js";

overLoopback(clientSubjects);

describe("client partitioned channel, over loopback", () => {
  casesOverLoopback({ client: () => partitioned });
});
