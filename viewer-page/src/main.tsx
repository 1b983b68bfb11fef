import { render } from "preact";
import { App, type Models } from "./app.js";
import { BoardModel } from "./board/board-model.js";
import { CallsModel } from "./calls/calls-model.js";
import { DemoModel } from "./compare/demo-model.js";
import { Live } from "./live.js";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/calls.css";
import "./style/trace.css";
import "./style/board.css";

const live = new Live();
const models: Models = {
  live,
  calls: new CallsModel(live),
  callsPlace: { activeId: undefined, scrollTop: 0, hold: undefined },
  board: new BoardModel(live),
  demo: new DemoModel(live),
};
const root = document.getElementById("app");
if (root !== null) render(<App models={models} />, root);
