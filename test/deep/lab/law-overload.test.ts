import { judge } from "./judge.js";

judge(({ overload = false }) => overload);
