import { fullPipelines, standardPipelines } from "./pipelines.js";
import { inMemory } from "./register.js";

inMemory({ ...standardPipelines, ...fullPipelines });
