export type {
  ApiError,
  AttributeValue,
  BoardPoint,
  BoardView,
  BreakerState,
  CallRow,
  CallsView,
  DemoChange,
  DemoState,
  LiveCalls,
  SpanView,
  TraceView,
} from "./viewer/api.js";
export type { BoardSample } from "./viewer/board.js";
export type { ConsoleTreeOptions } from "./viewer/console-tree.js";
export { consoleTree } from "./viewer/console-tree.js";
export type { Demo } from "./viewer/demo.js";
export { PortError, type PortUse } from "./viewer/listener.js";
export type { FinishedSpan, ViewerSpanProcessor } from "./viewer/span-processor.js";
export type { StoreLimits } from "./viewer/trace-store.js";
export type { OtlpPorts, TraceViewer, TraceViewerOptions } from "./viewer/trace-viewer.js";
export { traceViewer } from "./viewer/trace-viewer.js";
