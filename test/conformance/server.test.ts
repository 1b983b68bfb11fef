import { inMemory } from "./register.js";
import { serverSubjects } from "./server-subjects.js";

inMemory(serverSubjects);
