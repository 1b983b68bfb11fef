import { expireAt } from "../../../core/clock.js";
import type { CallRecord, OptionsWithOwn } from "../../../grpc/context/call-record.js";
import { askForAnswer, type FallbackAnswer } from "../client-providers.js";
import type { StaleCache } from "./client-cache.js";

/**
 * Looks for an answer that is fresh, as long as the cache may take. Tells once: `found`, in a turn of its own, because
 * the caller is still in a call of ours; or `without`, at once where the store knows at once.
 *
 * @returns What gives up.
 */
export function lookUpFresh(
  cache: StaleCache,
  { clock, kind }: CallRecord,
  { method_definition: definition }: OptionsWithOwn,
  key: string,
  found: (answer: FallbackAnswer) => void,
  without: () => void,
): () => void {
  let over = false;
  const end = () => {
    if (over) return false;
    over = true;
    stopTimer();
    return true;
  };
  const goOn = () => {
    if (end()) without();
  };
  const { timeoutMs } = cache.slot.limits;
  const stopTimer = expireAt(clock, clock.now() + timeoutMs, timeoutMs, goOn);
  const show = (answer: FallbackAnswer) => {
    if (end()) found(answer);
  };
  const stop = askForAnswer(
    kind,
    () => cache.askFresh(kind, definition, key),
    (answer) => {
      if (answer === undefined) goOn();
      else process.nextTick(show, answer);
    },
    goOn,
  );
  return () => {
    end();
    stop();
  };
}
