import { Observable } from "./observable.js";
import { hashOf, type Route, routeOf } from "./route.js";

/** The address of the page, which is the only place that says what it shows. */
export const currentRoute = new Observable<Route>(routeOf(location.hash));

addEventListener("hashchange", () => currentRoute.set(routeOf(location.hash)));

/** Goes to another view; the way back leads here. */
export function goTo(route: Route): void {
  location.hash = hashOf(route);
}

/** Changes a detail of the view that is shown, which is no step of its own on the way back. */
export function refine(route: Route): void {
  history.replaceState(history.state, "", hashOf(route));
  currentRoute.set(route);
}
