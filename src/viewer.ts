export type {
  ApiError,
  AttributeValue,
  BoardPoint,
  BoardView,
  CallRow,
  CallsView,
  DemoChange,
  DemoState,
  LiveCalls,
  SpanView,
  TraceView,
} from "./viewer/api.js";
