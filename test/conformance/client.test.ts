import { clientSubjects } from "./client-subjects.js";
import { inMemory } from "./register.js";

inMemory(clientSubjects);
