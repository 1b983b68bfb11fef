import { Observable } from "./observable.js";

export type Theme = "auto" | "light" | "dark";

const themes: readonly Theme[] = ["auto", "light", "dark"];

export const theme = new Observable<Theme>(
  themes.find((known) => known === recall("theme")) ?? "auto",
);
applyTheme(theme.value);
theme.subscribe((chosen) => {
  applyTheme(chosen);
  remember("theme", chosen);
});

export function nextTheme(): void {
  theme.set(themes[(themes.indexOf(theme.value) + 1) % themes.length] ?? "auto");
}

/** Whether single keys are shortcuts; who dictates to the machine may have to switch them off. */
export const singleKeys = new Observable<boolean>(recall("single-keys") !== "off");
singleKeys.subscribe((on) => remember("single-keys", on ? "on" : "off"));

function applyTheme(chosen: Theme): void {
  document.documentElement.setAttribute("data-theme", chosen);
}

/** A browser may refuse to store anything; then a choice lasts as long as the page. */
function recall(name: string): string | null {
  try {
    return localStorage.getItem(`grpc-weir.${name}`);
  } catch {
    return null;
  }
}

function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`grpc-weir.${name}`, value);
  } catch {
    // See above.
  }
}
