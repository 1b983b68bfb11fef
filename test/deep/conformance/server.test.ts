import { overLoopback } from "../../conformance/register.js";
import { serverSubjects } from "../../conformance/server-subjects.js";

overLoopback(serverSubjects);
