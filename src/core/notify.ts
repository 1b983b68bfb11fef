/** A function of the user's that is told about things after they happened. */
export type Observer<E> = (event: E) => void;

/** Where an error goes that a user's own function threw. */
export type ReportError = (error: unknown, where: string) => void;

/** Tells an observer. A broken observer costs the call nothing: what it throws is reported. */
export function notify<E>(
  observer: Observer<E> | undefined,
  event: E,
  report: ReportError,
  where: string,
): void {
  if (observer === undefined) return;
  try {
    observer(event);
  } catch (error) {
    safely(report, error, where);
  }
}

/** Calls a reporter that may itself be broken. */
export function safely(report: ReportError, error: unknown, where: string): void {
  try {
    report(error, where);
  } catch {
    // A reporter that throws has nobody left to tell.
  }
}
