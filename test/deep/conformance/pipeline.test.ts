import { fullPipelines } from "../../conformance/pipelines.js";
import { overLoopback } from "../../conformance/register.js";

overLoopback(fullPipelines);
